"""Faults of the program in the middle of a mail: what the client is told, and when.

Whatever fails, the content is read to its end before it is answered, so that none of it is ever taken
for commands; the next mail on the same connection is a good one.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import pytest

from faulty_receiver import Faulty, faulty
from processes import descriptors
from smtp import Client, stuffed
from waiting import wait_for

pytestmark = pytest.mark.slow

SMALL = b"Subject: small\r\n\r\nbody\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"x" * 600_000 + b"\r\n"
# Commands, if anybody takes them for such.
EVIL = b"RSET\r\nMAIL FROM:<evil@b>\r\nRCPT TO:<evil@d>\r\nBDAT 4 LAST\r\nevil\r\n"
GOOD = (b"a@b", (b"c@d",), SMALL)

# Reached by every mail when its content begins; by each piece or at the end; by large mails only.
FIRST_PLACES = [
    "benno_common-maildrop.MailDrop.begin",
    "benno_common-mail.Encoder.start",
]
PLACES = [
    "benno_smtp-reception.Reception._take",
    "benno_smtp-reception.Reception._commit",
    "benno_common-mail.Mail.write",
    "benno_common-mail.Mail.commit",
    "benno_common-mail.Encoder.feed",
    "benno_common-mail.Encoder.finish",
    "benno_common-maildrop.MailDrop.submit",
    "benno_common-maildrop.FileNames.new",
]
LARGE_PLACES = ["benno_common-mail.Mail.flush", "benno_common-maildrop.MailDrop.in_worker"]
DECODERS = {"DataDecoder": b"DATA\r\n", "ChunkDecoder": b"BDAT %d LAST\r\n" % len(EVIL)}
COMMANDS = {
    "benno_smtp-session.Session._begin": b"MAIL FROM:<a@b>",
    "benno_smtp-policy.Gateways.name_for": b"MAIL FROM:<a@b>",
    "benno_smtp-session.Session._keywords": b"EHLO again",
    "benno_smtp-session.Session.forget": b"RSET",
}
PLANTED = [
    *FIRST_PLACES,
    *PLACES,
    *LARGE_PLACES,
    *(f"benno_smtp-transfer.{decoder}.feed" for decoder in DECODERS),
    *COMMANDS,
    "benno_smtp-session.Session._add",
]


@pytest.fixture(scope="module")
def one_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with faulty(tmp_path_factory.mktemp("trouble"), PLANTED) as receiver:
        yield receiver
        assert receiver.stop() == 0


@pytest.fixture
def receiver(one_for_all: Faulty) -> Faulty:
    one_for_all.begin_anew()
    return one_for_all


def begin(client: Client) -> None:
    assert client.envelope(b"a@b", [b"c@d"]) == []


def see_that_all_is_well(receiver: Faulty, client: Client) -> None:
    assert client.send(b"a@b", [b"c@d"], SMALL).startswith("250")
    assert receiver.mails() == [GOOD]
    assert client.command(b"RCPT TO:<x@y>").startswith("503")


@pytest.mark.parametrize(
    ("place", "size"),
    [(place, size) for place in FIRST_PLACES + PLACES for size in (0, 600_000)]
    + [(place, 600_000) for place in LARGE_PLACES],
)
def test_fault_in_data(receiver: Faulty, place: str, size: int) -> None:
    with Client(receiver.port) as client:
        before = Counter(descriptors(receiver.pid))
        begin(client)
        with contextlib.ExitStack() as broken:
            if place in FIRST_PLACES:
                broken.enter_context(receiver.broken(place))
            assert client.command(b"DATA").startswith("354")
            client.socket.sendall(b"x" * (size // 2))
            if place in LARGE_PLACES:  # a file has been begun, and must go
                wait_for(lambda: Counter(descriptors(receiver.pid)) - before, "a file of the mail")
            if place not in FIRST_PLACES:
                broken.enter_context(receiver.broken(place))
            client.socket.sendall(b"x" * (size // 2) + b"\r\n" + EVIL)
            assert client.raw(b".\r\n") == "451 4.3.0 The mail archive could not store this mail"
        assert receiver.files() == []
        wait_for(
            lambda: not Counter(descriptors(receiver.pid)) - before, "no descriptor but those of before"
        )
        see_that_all_is_well(receiver, client)
        receiver.wait_until_it_said("NOQUEUE: refused client=127.0.0.1 from=<a@b> nrcpt=1 reply=.451 ")


@pytest.mark.parametrize(
    "place", [*FIRST_PLACES, "benno_smtp-reception.Reception._take", "benno_common-mail.Mail.write"]
)
def test_fault_in_a_chunk(receiver: Faulty, place: str) -> None:
    """The chunk is read to its end and refused; so are those behind it, until RSET."""
    with Client(receiver.port) as client:
        begin(client)
        with receiver.broken(place):
            chunk = b"BDAT %d\r\n" % len(EVIL) + EVIL
            assert client.raw(chunk).startswith("451 4.3.0 ")
        assert client.bdat(EVIL).startswith("503")
        assert client.bdat(b"").startswith("503")
        assert client.bdat(EVIL, last=True).startswith("503")
        assert client.command(b"DATA").startswith("503")
        assert client.command(b"MAIL FROM:<x@y>").startswith("503")
        assert client.command(b"RSET").startswith("250")
        assert receiver.files() == []
        see_that_all_is_well(receiver, client)
        assert receiver.said.count("refused client=127.0.0.1 from=<a@b> nrcpt=1 reply=") == 1


def test_fault_in_the_last_chunk(receiver: Faulty) -> None:
    with Client(receiver.port) as client:
        begin(client)
        assert client.bdat(EVIL).startswith("250")
        with receiver.broken(PLACES[0]):
            assert client.bdat(EVIL, last=True).startswith("451 4.3.0 ")
        assert receiver.files() == []
        see_that_all_is_well(receiver, client)


@pytest.mark.parametrize(("decoder", "command"), DECODERS.items(), ids=DECODERS)
def test_fault_where_the_end_of_the_content_is_looked_for(
    receiver: Faulty, decoder: str, command: bytes
) -> None:
    """Nobody knows where the commands go on: the connection is closed."""
    with Client(receiver.port) as client, receiver.broken(f"benno_smtp-transfer.{decoder}.feed"):
        begin(client)
        client.socket.sendall(command + EVIL + b".\r\n")
        if decoder == "DataDecoder":
            assert client.read().startswith("354")
        assert client.read() == "421 4.3.0 The mail archive has a fault; see its log"
        assert client.hung_up()
    assert receiver.files() == []
    with Client(receiver.port) as client:
        see_that_all_is_well(receiver, client)


@pytest.mark.parametrize(("place", "command"), COMMANDS.items(), ids=COMMANDS)
def test_fault_in_a_command(receiver: Faulty, place: str, command: bytes) -> None:
    with Client(receiver.port) as client:
        with receiver.broken(place):
            assert client.command(command) == "451 4.3.0 The mail archive has a fault; see its log"
        see_that_all_is_well(receiver, client)
        assert "unexpected RuntimeError: planted" in receiver.said


def test_fault_in_a_recipient_is_his_alone(receiver: Faulty) -> None:
    with Client(receiver.port) as client:
        begin(client)
        with receiver.broken("benno_smtp-session.Session._add"):
            assert client.command(b"RCPT TO:<e@f>").startswith("451 4.3.0 ")
        assert client.command(b"DATA").startswith("354")
        assert client.raw(stuffed(SMALL)).startswith("250")
    assert receiver.mails() == [GOOD]
