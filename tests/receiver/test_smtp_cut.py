"""Clients that go away or stand still, anywhere: what is stored are whole mails, and nothing leaks."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

import receiver_daemon
from processes import descriptors
from receiver_daemon import Receiver
from smtp import Client
from waiting import wait_for

pytestmark = pytest.mark.slow

GROUP = 25  # connections at once

# Two mails, one by DATA and one by BDAT; what the session says up to the end of each.
FIRST = (
    b"EHLO client.test\r\nMAIL FROM:<one@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\n"
    b"DATA\r\nSubject: one\r\n\r\n..\r\n\n.\nRSET\r\n.\r\n"
)
SECOND = (
    b"MAIL FROM:<two@b> BODY=BINARYMIME\r\nRCPT TO:<g@h>\r\nBDAT 7\r\nRSET\r\n\0"
    b"BDAT 9 LAST\r\nQUIT\r\n.\r\n"
)
SESSION = FIRST + SECOND + b"QUIT\r\n"
MAILS = [
    (b"one@b", (b"c@d", b"e@f"), b"Subject: one\r\n\r\n.\r\n\n.\nRSET\r\n"),
    (b"two@b", (b"g@h",), b"RSET\r\n\0QUIT\r\n.\r\n"),
]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        yield receiver


def complete(prefix: bytes) -> int:
    """Mails whose end was sent."""
    return (len(prefix) >= len(FIRST)) + (len(prefix) >= len(FIRST + SECOND))


def close(client: Client) -> None:
    client.close()


def reset(client: Client) -> None:
    client.reset()


def listen_to_the_end(client: Client) -> None:
    client.socket.shutdown(socket.SHUT_WR)
    listen(client)


def listen(client: Client) -> None:
    while True:
        try:
            client.read()
        except EOFError:
            return


def send_all(
    receiver: Receiver, prefixes: Sequence[bytes], leave: Callable[[Client], None]
) -> list[list[str]]:
    """Each on its own connection; the replies."""
    replies = []
    for start in range(0, len(prefixes), GROUP):
        with ExitStack() as stack:
            for prefix in prefixes[start : start + GROUP]:
                client = stack.enter_context(Client(receiver.port, greeting=b""))
                client.socket.sendall(prefix)
                leave(client)
                replies.append([reply[:10] for reply in client.replies])
    return replies


@pytest.mark.parametrize("leave", [close, reset, listen_to_the_end], ids=lambda leave: leave.__name__)
def test_every_end_of_a_session(receiver: Receiver, leave: Callable[[Client], None]) -> None:
    before = descriptors(receiver.pid)
    (whole,) = send_all(receiver, [SESSION], listen_to_the_end)
    assert receiver.mails() == MAILS
    prefixes = [SESSION[:place] for place in range(len(SESSION))]
    replies = send_all(receiver, prefixes, leave)
    wait_for(lambda: descriptors(receiver.pid) == before, "the descriptors of before, and no other")
    assert receiver.stop() == 0
    found = Counter(receiver.mails())
    expected = Counter(mail for prefix in prefixes for mail in MAILS[: complete(prefix)])
    expected.update(MAILS)
    if leave is listen_to_the_end:
        assert found == expected
        assert [heard for heard in replies if heard != whole[: len(heard)]] == []
    else:
        assert found <= expected
        assert found >= Counter(MAILS)
    assert "ERROR" not in receiver.log, "a client that goes away is no fault"
    assert list(receiver.inbox.parent.glob(".*")) == [], "a staging directory was left"


def test_end_within_a_large_mail(receiver: Receiver) -> None:
    """More than is held in memory: the file has been begun on the disk."""
    before = descriptors(receiver.pid)
    for leave in (close, reset, listen_to_the_end):
        for command in (b"DATA\r\n", b"BDAT 2000000 LAST\r\n"):
            with Client(receiver.port) as client:
                client.envelope(b"a@b", [b"c@d"])
                client.socket.sendall(command + b"x" * 1_000_000)
                leave(client)
    wait_for(lambda: descriptors(receiver.pid) == before, "the descriptors of before, and no other")
    assert receiver.files() == []
    assert receiver.stop() == 0
    assert "ERROR" not in receiver.log


# Clients that stand still. The daemon is impatient: a second or two, not five minutes.

IMPATIENT = "command_timeout = 1\ncontent_timeout = 1"

STALLED = {
    "silent": b"",
    "in the middle of a command": b"EHLO client.te",
    "a line without end": b"x" * 100_000,
    "after MAIL": b"EHLO c\r\nMAIL FROM:<a@b>\r\n",
    "in DATA": b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: x\r\n",
    "in a large mail": b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + b"x" * 200_000,
    "in a chunk": b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 10 LAST\r\n123456789",
    "in a chunk that nobody wants": b"BDAT 10 LAST\r\n123456789",
}


def test_stalled_clients(tmp_path: Path) -> None:
    with receiver_daemon.running(tmp_path / "inbox", IMPATIENT) as receiver:
        before = descriptors(receiver.pid)
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(receiver.port, greeting=b"")) for _ in STALLED]
            for client, sent in zip(clients, STALLED.values(), strict=True):
                client.socket.sendall(sent)
            for client in clients:
                listen(client)
                too_late = {
                    "421 4.4.2 Nothing came for too long",
                    "421 4.4.2 The mail came too slowly",
                }
                assert client.replies[-1] in too_late
        wait_for(lambda: descriptors(receiver.pid) == before, "the descriptors of before, and no other")
        assert receiver.files() == []
        assert "ERROR" not in receiver.log


def test_a_slow_client_is_not_a_stalled_one(tmp_path: Path) -> None:
    """Sixteen pieces, each of which comes after a quarter of the time: four times as long in all."""
    settings = "command_timeout = 2\ncontent_timeout = 2\nmin_rate = 1"
    with receiver_daemon.running(tmp_path / "inbox", settings) as receiver:
        with Client(receiver.port) as slow, Client(receiver.port) as clock:
            slow.envelope(b"a@b", [b"c@d"])
            slow.command(b"DATA")
            for _ in range(16):
                slow.socket.sendall(b"piece\r\n")
                clock.socket.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    clock.socket.recv(1)
                clock.socket.sendall(b"NOOP\r\n")
                clock.socket.recv(100)
            assert slow.raw(b".\r\n").startswith("250")
        assert receiver.mails() == [(b"a@b", (b"c@d",), b"piece\r\n" * 16)]


def test_a_client_that_does_not_listen(tmp_path: Path) -> None:
    """It sends commands until the replies fill all buffers: it is hung up on, unread replies or not."""
    with receiver_daemon.running(tmp_path / "inbox", IMPATIENT) as receiver:
        before = descriptors(receiver.pid)
        with Client(receiver.port) as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.socket.settimeout(0.3)
            with pytest.raises((TimeoutError, ConnectionError)):
                while True:
                    client.socket.sendall(b"EHLO c\r\n" * 1000)
            wait_for(
                lambda: descriptors(receiver.pid) == before, "the descriptors of before, and no other"
            )
        assert "ERROR" not in receiver.log
