"""What a mail costs benno-milter2smtp: system calls and syncs, counted. No time is measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import forwarding
import receiver_daemon
from bench.process import Calls, add_calls

pytestmark = pytest.mark.system

FEW, MANY = 20, 120
# Where threads wait for each other, or for the network, depends on who runs when; whether a read takes
# its memory from the system, on what else is in use.
WAITING = {"futex", "epoll_wait", "epoll_ctl", "restart_syscall", "sched_yield", "clock_nanosleep"}
MEMORY = {"mmap", "munmap", "mremap", "brk", "madvise"}
MESSAGE = b"Subject: x\r\n\r\n" + b"It is a line. Others follow.\r\n" * 136


def run(spool: Path, port: int, message: bytes, mails: int, *strace: str) -> Calls:
    """Send so many of these mails; what that took, from start to end."""
    for _ in range(mails):
        forwarding.put(spool, message)
    trace = spool.with_name("trace")
    command = forwarding.command(spool, "--connections", "1", f"127.0.0.1:{port}")
    words = ["strace", "-f", "-s", "0", "-o", str(trace), *strace, *command]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    assert not forwarding.names(spool)
    calls = Calls()
    with trace.open(errors="replace") as lines:
        add_calls(calls, lines)
    return calls


def test_system_calls_of_a_mail(spool: Path, tmp_path: Path) -> None:
    """What many mails take more than few, one after the other over one connection.

    20 were counted: 2 writes and 2 reads of the connection; 5 to open and read the file, 3 to take it
    out for good; 3 to wake the loop, which most mails do not need; 2 of the log; 3 of Python 3.11,
    which asks for its process wherever the running loop is asked for.
    """
    with receiver_daemon.running(tmp_path / "inbox") as archive:
        few = run(spool, archive.port, MESSAGE, FEW)
        many = run(spool, archive.port, MESSAGE, MANY)
    more = {name: (many.names[name] - few.names[name]) / (MANY - FEW) for name in many.names}
    counted = {name: count for name, count in more.items() if count and name not in WAITING | MEMORY}
    assert sum(counted.values()) <= 22, counted


def test_removed_mails_share_their_sync(spool: Path, tmp_path: Path) -> None:
    """While one batch is synced the next collects: mails do not wait for it.

    10 syncs were counted of 120 mails. The sync is made slow, so that it does not depend on the disk
    how many mails come meanwhile.
    """
    with receiver_daemon.running(tmp_path / "inbox") as archive:
        calls = run(spool, archive.port, MESSAGE, MANY, "-e", "inject=fsync:delay_enter=200ms")
    assert calls.syncs <= MANY / 6, calls.names


def test_octets_of_a_small_mail(spool: Path, tmp_path: Path) -> None:
    """What fits into memory is read once and sent once."""
    message = MESSAGE + b"x" * 500_000 + b"\r\n"
    with receiver_daemon.running(tmp_path / "inbox") as archive:
        few = run(spool, archive.port, message, 1)
        many = run(spool, archive.port, message, 11)
    assert many.octets - few.octets <= 10 * (2 * len(message) + 10_000)
