"""What a mail costs: system calls and syncs, counted. No time is measured."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import daemon
from bench.process import Calls, traced
from milter_packets import ABORT, END, END_OF_HEADERS, body, header, macros, mail, rcpt
from mta import MTA

pytestmark = pytest.mark.system

MAILS = 40
LARGE, LARGE_MAILS = 1 << 20, 10
CHUNK = b"y" * 65535
CLIENTS, MAILS_EACH = 64, 4
# Where threads wait for each other, or for the network, depends on who runs when.
WAITING = {"futex", "epoll_wait", "restart_syscall", "sched_yield", "clock_nanosleep"}

OF_THE_DISK = ("openat", "write", "fadvise64", "fstatfs", "fdatasync", "linkat", "fsync", "newfstatat")


@pytest.fixture
def milter(tmp_path: Path) -> Iterator[daemon.Daemon]:
    with daemon.running(tmp_path / "spool") as running:
        yield running


def deliver(mta: MTA) -> None:
    """A mail of 4 KiB, in two writes: to the reply to MAIL, and to the last one."""
    mta.send_raw(ABORT + macros(b"M") + mail(b"<a@b>", b"SIZE=4096"))
    assert mta.reply()[0] == b"c"
    headers = [macros(b"L", b"i", b"4fX") + header(b"X-Mailer", b" " + b"x" * 50) for _ in range(12)]
    content = macros(b"B", b"i", b"4fX") + body(b"y" * 3000) + macros(b"E", b"i", b"4fX") + END
    mta.send_raw(macros(b"R") + rcpt(b"<c@d>") + b"".join(headers) + END_OF_HEADERS + content)
    assert mta.reply()[0] == b"c"


def calls_of(milter: daemon.Daemon, one: Callable[[MTA], None], mails: int) -> Calls:
    """Those of so many mails, one after the other; the first, which starts threads, is not counted."""
    with MTA(milter.address) as mta:
        mta.negotiate()
        one(mta)
        with traced(milter.pid) as calls:
            for _ in range(mails):
                one(mta)
    return calls


def test_system_calls_of_a_mail(milter: daemon.Daemon) -> None:
    """One after the other, none shares anything: the most that a mail can cost.

    19 were counted: 2 reads and 2 replies; 3 to wake the loop; 9 of the committer, of which a batch
    shares 4 (sync and look of the directory, reserve); 3 of the log.
    """
    calls = calls_of(milter, deliver, MAILS)
    counted = {name: count / MAILS for name, count in calls.names.items() if name not in WAITING}
    assert sum(counted.values()) <= 20, counted
    assert calls.syncs == 2 * MAILS, counted


def deliver_large(mta: MTA) -> None:
    """A mail of 1 MiB in body chunks of 65,535 octets, as Postfix cuts it."""
    mta.send_raw(ABORT + macros(b"M") + mail(b"<a@b>"))
    assert mta.reply()[0] == b"c"
    content = b"".join(body(CHUNK) for _ in range(LARGE // len(CHUNK)))
    mta.send_raw(macros(b"R") + rcpt(b"<c@d>") + header(b"A", b" b") + END_OF_HEADERS + content + END)
    assert mta.reply()[0] == b"c"


def test_system_calls_of_a_large_mail(milter: daemon.Daemon) -> None:
    """It is copied in once and out once, in a few large pieces, and synced as a small one is.

    3.9 writes of the file were counted. How often is read is a matter of when the MTA writes.
    """
    calls = calls_of(milter, deliver_large, LARGE_MAILS)
    counted = {name: count / LARGE_MAILS for name, count in calls.names.items()}
    assert calls.octets <= 2.01 * LARGE * LARGE_MAILS, calls.octets
    assert counted["write"] <= 8 + 1, "one for 128 KiB, and a line of the log"
    assert sum(counted[name] for name in OF_THE_DISK) <= 20, counted
    assert calls.syncs == 2 * LARGE_MAILS, counted


def test_syncs_of_many_mails(milter: daemon.Daemon) -> None:
    """While the directory is synced the mails of all others are ready, and share the next sync.

    266 syncs were counted of 256 mails; the first batches are small. The sync is made slow, so that
    it does not depend on the disk how many mails come meanwhile.
    """
    clients = [threading.Thread(target=send_some, args=[milter]) for _ in range(CLIENTS)]
    with traced(milter.pid, "-e", "inject=fsync:delay_enter=50ms") as calls:
        for one in clients:
            one.start()
        for one in clients:
            one.join()
    assert len(milter.files()) == CLIENTS * MAILS_EACH
    assert calls.syncs <= 1.1 * CLIENTS * MAILS_EACH, calls.names


def send_some(milter: daemon.Daemon) -> None:
    with MTA(milter.address) as mta:
        mta.negotiate()
        for _ in range(MAILS_EACH):
            deliver(mta)
