"""What a mail costs benno-smtp: system calls and syncs, counted. No time is measured."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import receiver_daemon
from bench.process import traced
from receiver_daemon import Receiver
from smtp import Client

pytestmark = pytest.mark.system

MAILS = 40
CLIENTS, MAILS_EACH = 64, 4
LARGE = 5_000_000
# Where threads wait for each other, or for the network, depends on who runs when; whether a read takes
# its memory from the system, on what else is in use.
WAITING = {"futex", "epoll_wait", "epoll_ctl", "restart_syscall", "sched_yield", "clock_nanosleep"}
MEMORY = {"mmap", "munmap", "mremap", "brk", "madvise"}
MESSAGE = b"Subject: x\r\n\r\n" + b"It is a line. Others follow.\r\n" * 136
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiver_daemon.running(tmp_path / "inbox") as running:
        yield running


def send_by_data(client: Client, message: bytes = MESSAGE) -> None:
    """As Postfix: the commands in one write, the content in another."""
    client.socket.sendall(ENVELOPE + b"DATA\r\n")
    assert [client.read()[:3] for _ in range(3)] == ["250", "250", "354"]
    assert client.raw(message + b".\r\n").startswith("250")


def send_by_bdat(client: Client, message: bytes = MESSAGE) -> None:
    """As the forwarder: the content with the commands, and the end after their replies."""
    client.socket.sendall(ENVELOPE + b"BDAT %d\r\n" % len(message) + message)
    assert [client.read()[:3] for _ in range(3)] == ["250"] * 3
    assert client.bdat(b"", last=True).startswith("250")


@pytest.mark.parametrize("send", [send_by_data, send_by_bdat])
def test_system_calls_of_a_mail(receiver: Receiver, send: Callable[[Client], None]) -> None:
    """One after the other, none shares anything: the most that a mail can cost.

    20 were counted: 2 reads and 2 writes of replies; 3 to wake the loop, one of them a send too; 9 of
    the committer, of which a batch shares 3 (sync and look of the directory, reserve); 2 of the log, 2
    of Python 3.11.
    """
    with Client(receiver.port) as client:
        send(client)
        with traced(receiver.pid) as calls:
            for _ in range(MAILS):
                send(client)
    counted = {
        name: count / MAILS for name, count in calls.names.items() if name not in WAITING | MEMORY
    }
    assert sum(counted.values()) <= 22, counted
    assert calls.names["sendto"] <= 3 * MAILS, "replies to pipelined commands do not share a write"
    assert calls.syncs == 2 * MAILS, counted


def test_syncs_of_many_mails(receiver: Receiver) -> None:
    """While the directory is synced the mails of all others are ready, and share the next sync.

    264 syncs were counted of 256 mails. The sync is made slow, so that it does not depend on the disk
    how many mails come meanwhile.
    """
    clients = [threading.Thread(target=send_some, args=[receiver]) for _ in range(CLIENTS)]
    with traced(receiver.pid, "-e", "inject=fsync:delay_enter=50ms") as calls:
        for one in clients:
            one.start()
        for one in clients:
            one.join()
    assert len(receiver.files()) == CLIENTS * MAILS_EACH
    assert calls.syncs <= 1.1 * CLIENTS * MAILS_EACH, calls.names


def send_some(receiver: Receiver) -> None:
    with Client(receiver.port) as client:
        for _ in range(MAILS_EACH):
            send_by_data(client)


def test_octets_of_a_large_mail(receiver: Receiver) -> None:
    """Each octet is read once and written once, in large pieces, and synced once."""
    message = b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n" + b"x" * LARGE + b"\r\n"
    with Client(receiver.port) as client, traced(receiver.pid) as calls:
        send_by_bdat(client, message)
    pieces = len(message) / 65536
    assert calls.octets <= 2 * len(message) + 10_000
    assert calls.syncs == 2
    assert calls.names["write"] <= 1.2 * pieces + 20, calls.names
