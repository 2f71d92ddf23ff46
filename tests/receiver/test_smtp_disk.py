"""Limits, the disk, and clients that leave while it works: what is answered, and what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import receiver_daemon
from faulty_receiver import Faulty, faulty
from processes import descriptors
from smtp import Client, stuffed
from waiting import wait_for

pytestmark = pytest.mark.slow

SMALL = b"Subject: small\r\n\r\nbody\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"x" * 300_000 + b"\r\n"
# Commands, if anybody takes them for such.
EVIL = b"RSET\r\nMAIL FROM:<evil@b>\r\nRCPT TO:<evil@d>\r\nBDAT 4 LAST\r\nevil\r\n"
GOOD = (b"a@b", (b"c@d",), SMALL)

PLANTED = ["os.fdatasync", "os.link"]

EACH_SIZE = pytest.mark.parametrize("message", [SMALL, LARGE], ids=["small", "large"])


@pytest.fixture(scope="module")
def one_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with faulty(tmp_path_factory.mktemp("disk"), PLANTED) as receiver:
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
    with faulty(tmp_path, PLANTED, more) as receiver:
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


def test_two_mails_and_then_silence(receiver: Faulty) -> None:
    """Both were sent before the client closed its side; whether it heard of either, nobody knows."""
    with Client(receiver.port) as client, Client(receiver.port) as other:
        commands = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT %d LAST\r\n" % len(SMALL)
        with receiver.broken("os.fdatasync", ""):
            client.socket.sendall((commands + SMALL) * 2)
            wait_for(receiver.reached.exists, "the commit")
            half_close(client)
            assert other.command(b"NOOP").startswith("250")
        assert [client.read()[:3] for _ in range(6)] == ["250"] * 6
        assert client.hung_up()
    assert receiver.mails() == [GOOD] * 2
    wait_for(lambda: receiver.said.count("answered=no") == 2, "both in the log")
