"""Faults of the program and of the disk, in the middle of a mail: what the client is told, and when.

Whatever fails, the content is read to its end before it is answered, so that none of it is ever taken
for commands; the next mail on the same connection is a good one. A fault is planted in the real process
by a few lines that run before it, and acts as long as a certain file exists.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import receiver_daemon
from processes import descriptors
from receiver_daemon import Receiver
from smtp import Client, stuffed
from waiting import wait_for

# What is planted fails, or waits, while the file names its place. The file has the place, and what is
# raised there; nothing: it waits, and says so.
PRELUDE = """
import os, sys, time
import benno_common.mail, benno_common.maildrop, benno_smtp.reception, benno_smtp.session
import benno_smtp.connection, benno_smtp.policy
FILE, PLACES = {file!r}, {places!r}
def acts(place):
    try:
        with open(FILE) as file:
            named, error = file.read().split("|")
            return named == place and (error or "wait")
    except (FileNotFoundError, ValueError):  # not there, or not yet
        return None
def plant(place):
    module, *path, name = place.split(".")
    owner = sys.modules[module.replace("-", ".")]
    for step in path:
        owner = getattr(owner, step)
    real = getattr(owner, name)
    def planted(*given, **named):
        while (error := acts(place)) == "wait":
            open(FILE + ".reached", "w").close()
            time.sleep(0.01)
        if error:
            raise eval(error)
        return real(*given, **named)
    setattr(owner, name, planted)
for place in PLACES:
    plant(place)
"""

SMALL = b"Subject: small\r\n\r\nbody\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"x" * 300_000 + b"\r\n"
# Commands, if anybody takes them for such.
EVIL = b"RSET\r\nMAIL FROM:<evil@b>\r\nRCPT TO:<evil@d>\r\nBDAT 4 LAST\r\nevil\r\n"
GOOD = (b"a@b", (b"c@d",), SMALL)

# Reached by every mail when its content begins; by each piece or at the end; by large mails only.
FIRST_PLACES = [
    "benno_smtp-reception.Reception._envelope",
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
    "benno_common-maildrop.MailDrop.promise",
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
ALL_PLACES = [
    *FIRST_PLACES,
    *PLACES,
    *LARGE_PLACES,
    *(f"benno_smtp-transfer.{decoder}.feed" for decoder in DECODERS),
    *COMMANDS,
    "benno_smtp-session.Session._add",
    "os.fdatasync",
    "os.link",
]


EACH_SIZE = pytest.mark.parametrize("message", [SMALL, LARGE], ids=["small", "large"])


class Faulty(Receiver):
    """trigger: the file that has a fault act. begin: where this test's part of the log begins."""

    trigger: Path
    begin = 0

    @property
    def said(self) -> str:
        return self.log[self.begin :]

    def wait_until_it_said(self, pattern: str) -> None:
        wait_for(lambda: re.search(pattern, self.said), f"{pattern!r} in the log")

    @contextlib.contextmanager
    def broken(self, place: str, error: str = 'RuntimeError("planted")') -> Iterator[None]:
        """Within it this function raises the error, or waits where it is empty.

        place: module (with - for dots), classes, function.
        """
        self.trigger.write_text(f"{place}|{error}")
        try:
            yield
        finally:
            self.trigger.unlink()
            self.reached.unlink(missing_ok=True)

    @property
    def reached(self) -> Path:
        """Is there when something waits."""
        return self.trigger.with_name(f"{self.trigger.name}.reached")


@contextlib.contextmanager
def faulty(directory: Path, more: str = "") -> Iterator[Faulty]:
    """A receiver with faults in all the places. more: Python that runs before it."""
    trigger = directory / "trigger"
    prelude = PRELUDE.format(file=str(trigger), places=ALL_PLACES) + more
    with receiver_daemon.running(directory / "inbox", prelude=prelude) as receiver:
        receiver.__class__ = Faulty
        assert isinstance(receiver, Faulty)
        receiver.trigger = trigger
        yield receiver


@pytest.fixture(scope="module")
def one_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with faulty(tmp_path_factory.mktemp("trouble")) as receiver:
        yield receiver
        assert receiver.stop() == 0


@pytest.fixture
def receiver(one_for_all: Faulty) -> Faulty:
    """With an empty inbox and log."""
    for path in one_for_all.files():
        path.unlink()
    one_for_all.begin = len(one_for_all.log)
    return one_for_all


def begin(client: Client) -> None:
    assert client.envelope(b"a@b", [b"c@d"]) == []


def see_that_all_is_well(receiver: Receiver, client: Client) -> None:
    assert client.send(b"a@b", [b"c@d"], SMALL).startswith("250")
    assert receiver.mails() == [GOOD]
    assert client.command(b"RCPT TO:<x@y>").startswith("503")


# Faults of the program


@pytest.mark.parametrize(
    ("place", "size"),
    [(place, size) for place in FIRST_PLACES + PLACES for size in (0, 300_000)]
    + [(place, 300_000) for place in LARGE_PLACES],
)
def test_fault_in_data(receiver: Faulty, place: str, size: int) -> None:
    with Client(receiver.port) as client:
        before = descriptors(receiver.pid)
        begin(client)
        with contextlib.ExitStack() as broken:
            if place in FIRST_PLACES:
                broken.enter_context(receiver.broken(place))
            assert client.command(b"DATA").startswith("354")
            client.socket.sendall(b"x" * (size // 2))
            if place not in FIRST_PLACES:
                broken.enter_context(receiver.broken(place))
            client.socket.sendall(b"x" * (size // 2) + b"\r\n" + EVIL)
            assert client.raw(b".\r\n") == "451 4.3.0 The mail archive could not store this mail"
        assert receiver.files() == []
        wait_for(lambda: descriptors(receiver.pid) == before, "the descriptors of before")
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


# Limits


def test_larger_than_allowed(tmp_path: Path) -> None:
    with receiver_daemon.running(tmp_path / "inbox", "max_message_size = 1000") as receiver:
        with Client(receiver.port) as client:
            assert "250-SIZE 1000" in client.replies
            too_big = "552 5.3.4 The message is larger than max_message_size"
            assert client.command(b"MAIL FROM:<a@b> SIZE=1001") == too_big
            assert client.command(b"RCPT TO:<c@d>").startswith("503")
            assert client.send(b"a@b", [b"c@d"], b"x" * 999 + b"\r\n") == too_big
            assert client.send(b"a@b", [b"c@d"], b"x" * 10_000_000 + b"\r\n" + EVIL) == too_big
            begin(client)
            assert client.bdat(b"x" * 1000).startswith("250")
            assert client.bdat(b"x") == too_big
            assert client.bdat(EVIL, last=True).startswith("503")
            client.command(b"RSET")
            assert receiver.files() == []
            assert client.command(b"MAIL FROM:<a@b> SIZE=1000").startswith("250")
            assert client.command(b"RCPT TO:<c@d>").startswith("250")
            assert client.bdat(b"x" * 1000, last=True).startswith("250")
        assert [mail[2] for mail in receiver.mails()] == [b"x" * 1000]
        assert "1001 octets are announced, max_message_size is 1000" in receiver.log
        assert "1001 octets came, max_message_size is 1000" in receiver.log


def test_no_space_is_told_before_the_content(tmp_path: Path) -> None:
    with receiver_daemon.running(tmp_path / "inbox", 'min_free = "9999999T"') as receiver:
        assert "new mail is refused until there is space" in receiver.log
        with Client(receiver.port) as client:
            no_space = "452 4.3.1 The mail archive is short of space"
            assert client.command(b"MAIL FROM:<a@b>") == no_space
            assert client.command(b"RCPT TO:<c@d>").startswith("503")
            assert client.command(b"DATA").startswith("503")
            receiver.wait_for_log("refused client=127.0.0.1 from=<a@b> nrcpt=0 reply=.452 4.3.1")


def test_no_space_for_what_is_announced(receiver: Faulty) -> None:
    with Client(receiver.port) as client:
        for size in (10**15, 10**19):
            reply = client.command(b"MAIL FROM:<a@b> SIZE=%d" % size)
            assert reply == "452 4.3.1 The mail archive is short of space"
        see_that_all_is_well(receiver, client)


# The disk

FULL, BROKEN = 'OSError(28, "No space left on device")', 'OSError(5, "Input/output error")'


@EACH_SIZE
@pytest.mark.parametrize(
    ("call", "error", "reply"),
    [
        ("os.fdatasync", FULL, "452 4.3.1 The mail archive is short of space"),
        ("os.link", FULL, "452 4.3.1 The mail archive is short of space"),
        ("os.fdatasync", BROKEN, "451 4.3.0 The mail archive could not store this mail"),
        ("os.link", BROKEN, "451 4.3.0 The mail archive could not store this mail"),
    ],
)
def test_the_disk_refuses(receiver: Faulty, call: str, error: str, reply: str, message: bytes) -> None:
    """Nothing stays behind, and it recovers by itself."""
    with Client(receiver.port) as client:
        with receiver.broken(call, error):
            assert client.send(b"a@b", [b"c@d"], message) == reply
            assert receiver.files() == []
        wait_for(lambda: client.command(b"MAIL FROM:<a@b>").startswith("250"), "mail is taken again")
        client.command(b"RSET")
        see_that_all_is_well(receiver, client)
        assert "unexpected" not in receiver.said


@EACH_SIZE
def test_slower_than_a_client_waits(tmp_path: Path, message: bytes) -> None:
    """It is told in time, and comes again; what is durable in the end is logged as unanswered."""
    more = "benno_smtp.reception.ANSWER_SECONDS = 0.3"
    with faulty(tmp_path, more) as receiver:
        with Client(receiver.port) as client:
            with receiver.broken("os.fdatasync", ""):
                reply = client.send(b"a@b", [b"c@d"], message)
                assert reply == "451 4.3.0 The mail archive is too slow"
                assert receiver.files() == []
                assert client.command(b"NOOP").startswith("250")
            receiver.wait_for_log("stored .*answered=no")
            assert client.send(b"a@b", [b"c@d"], message).startswith("250")
        assert receiver.mails() == [(b"a@b", (b"c@d",), message)] * 2
        receiver.wait_for_log('reply="451 .* is too slow" reason="not durable after')


def leave_by_closing(client: Client) -> None:
    client.close()


def leave_by_reset(client: Client) -> None:
    client.reset()


def half_close(client: Client) -> None:
    client.socket.shutdown(1)


@EACH_SIZE
@pytest.mark.parametrize("leave", [leave_by_closing, leave_by_reset, half_close])
@pytest.mark.parametrize("last", [b"", b"QUIT\r\n"], ids=["", "QUIT"])
def test_client_leaves_during_the_commit(
    receiver: Faulty, leave: Callable[[Client], None], message: bytes, last: bytes
) -> None:
    """The mail is stored nevertheless; the log says that perhaps nobody has heard of it."""
    before = descriptors(receiver.pid)
    with Client(receiver.port) as client, Client(receiver.port) as other:
        begin(client)
        with receiver.broken("os.fdatasync", ""):
            assert client.command(b"DATA").startswith("354")
            client.socket.sendall(stuffed(message) + last)
            wait_for(receiver.reached.exists, "the commit")
            leave(client)
            assert other.command(b"NOOP").startswith("250")  # by now the daemon has noticed
        if leave is half_close:  # it still listens
            assert client.read().startswith("250")
            assert last == b"" or client.read().startswith("221")
            assert client.hung_up()
    receiver.wait_until_it_said("stored .*answered=no")
    assert receiver.mails() == [(b"a@b", (b"c@d",), message)]
    wait_for(lambda: descriptors(receiver.pid) == before, "the descriptors of before")
    assert "unexpected" not in receiver.said
