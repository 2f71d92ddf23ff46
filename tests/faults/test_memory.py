"""Memory stays bounded, whatever many clients send at once.

Measured is the largest resident set that the daemon ever had (VmHWM); where there is a memory
controller, it also runs within a control group of the same limit, page cache included.

BENNO_MEMORY_FULL=1: mails of 50 MB and headers of 20 MB, 12 GB in all, instead of 8 and 4.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import selectors
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import daemon
import powercut
from daemon import Daemon
from load import as_kept, send
from mta import MTA, packet, strings
from powercut import MIB
from waiting import wait_for

pytestmark = pytest.mark.system

BOUND = 96 * MIB
FULL = bool(os.environ.get("BENNO_MEMORY_FULL"))
MAIL = (50 if FULL else 8) * MIB
HEADER = (20 if FULL else 4) * MIB


def peak(milter: Daemon) -> int:
    """The largest resident set that it ever had."""
    match = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{milter.pid}/status").read_text())
    assert match
    return int(match[1]) * 1024


@contextlib.contextmanager
def control_group(limit: int) -> Iterator[tuple[str, ...]]:
    """A wrapper that puts a command into a control group of its own; none where there can be none."""
    root = Path("/sys/fs/cgroup")
    version_1 = root / "memory"
    parent, maximum = (
        (version_1, "memory.limit_in_bytes") if version_1.is_dir() else (root, "memory.max")
    )
    group = parent / f"benno-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / maximum).write_text(str(limit))
    except OSError as error:
        print(f"no control group: {error}")
        with contextlib.suppress(OSError):
            group.rmdir()
        yield ()
        return
    try:
        yield "sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text(), "the control group is empty")
        group.rmdir()


@contextlib.contextmanager
def bounded(spool: Path) -> Iterator[Daemon]:
    """A daemon within the limit, and enough descriptors for both of us."""
    powercut.need()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        with control_group(BOUND) as wrapper, daemon.running(spool, wrapper=wrapper) as milter:
            before = peak(milter)
            yield milter
            print(f"VmHWM {peak(milter) / MIB:.1f} MB, {before / MIB:.1f} MB at the start")
            assert peak(milter) <= BOUND
            assert send(milter.address) == "accepted"
            assert "unexpected" not in milter.log
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Stream:
    """What one connection still has to send: a prologue, a block so many times, an epilogue."""

    def __init__(self, mta: MTA, begin: bytes, block: bytes, count: int, end: bytes) -> None:
        self.mta = mta
        self._left = iter([begin, *[block] * count, end])
        self._data = memoryview(b"")

    def send(self) -> bool:
        """As much as the socket takes now. False: that was all."""
        try:
            while True:
                if not self._data:
                    self._data = memoryview(next(self._left))
                self._data = self._data[self.mta.socket.send(self._data) :]
        except BlockingIOError:
            return True
        except StopIteration:
            return False


def pour(streams: list[Stream]) -> None:
    """Send all streams at once, from one thread, whoever takes something."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            stream.mta.socket.setblocking(False)
            selector.register(stream.mta.socket, selectors.EVENT_WRITE, stream)
        while selector.get_map():
            for key, _ in selector.select(60):
                if not key.data.send():
                    selector.unregister(key.fileobj)
                    key.data.mta.socket.settimeout(240)


@contextlib.contextmanager
def connections(milter: Daemon, count: int) -> Iterator[list[MTA]]:
    with contextlib.ExitStack() as stack:
        mtas = [stack.enter_context(MTA(milter.address)) for _ in range(count)]
        for mta in mtas:
            mta.negotiate()
        yield mtas


def begin(mta: MTA) -> None:
    assert mta.mail(b"<a@b>") == (b"c", b"")
    mta.rcpt(b"<c@d>")


END_OF_HEADERS = packet(b"L", strings(b"Subject", b" x")) + packet(b"N")
END = packet(b"E")


def sizes(milter: Daemon) -> list[int]:
    """Of the messages in the spool, without reading them: all files have the same block."""
    return [path.stat().st_size for path in milter.files()]


def test_two_hundred_large_mails_at_once(tmp_path: Path) -> None:
    chunk = packet(b"B", b"x" * 65535)
    count = MAIL // 65535
    with bounded(tmp_path / "spool") as milter, connections(milter, 200) as mtas:
        started = time.monotonic()
        for mta in mtas:
            begin(mta)
        pour([Stream(mta, END_OF_HEADERS, chunk, count, END) for mta in mtas])
        assert [mta.verdict() for mta in mtas] == ["accepted"] * 200
        print(f"200 mails of {MAIL // MIB} MB: {time.monotonic() - started:.1f} s")
        assert len(sizes(milter)) == 200
        assert all(size > count * 65535 for size in sizes(milter))
        subprocess.run(["find", milter.spool, "-name", "*.eml", "-delete"], check=True)


def test_a_header_of_megabytes_on_a_hundred_connections(tmp_path: Path) -> None:
    value = b"x" * HEADER
    header = packet(b"L", strings(b"X-Long", b" " + value))
    with bounded(tmp_path / "spool") as milter, connections(milter, 100) as mtas:
        for mta in mtas:
            begin(mta)
        pour([Stream(mta, header, b"", 0, packet(b"N") + END) for mta in mtas])
        assert [mta.verdict() for mta in mtas] == ["accepted"] * 100
        assert all(size > len(value) for size in sizes(milter))
        assert daemon.read(milter.files()[0])[2] == b"X-Long: " + value + b"\r\n\r\n"
        for path in milter.files():
            path.unlink()


def test_a_hundred_thousand_headers(tmp_path: Path) -> None:
    """On each of two connections."""
    header = packet(b"L", strings(b"Received", b" from here\n\tby there"))
    with bounded(tmp_path / "spool") as milter, connections(milter, 2) as mtas:
        for mta in mtas:
            begin(mta)
        pour([Stream(mta, b"", header * 1000, 100, packet(b"N") + END) for mta in mtas])
        assert [mta.verdict() for mta in mtas] == ["accepted"] * 2
        wanted = b"Received: from here\r\n\tby there\r\n" * 100_000 + b"\r\n"
        assert [message for _, _, message in milter.mails()] == [wanted] * 2


def test_connections_that_wait_hold_nothing_of_their_last_mail(tmp_path: Path) -> None:
    with bounded(tmp_path / "spool") as milter, contextlib.ExitStack() as stack:
        for _ in range(600):
            mta = stack.enter_context(MTA(milter.address))
            mta.negotiate()
            begin(mta)
            mta.socket.sendall(packet(b"B", b"x" * 65_000) * 3 + packet(b"E"))
            assert mta.verdict() == "accepted"
        assert len(milter.mails()) == 600


def test_a_thousand_idle_connections(tmp_path: Path) -> None:
    """A third has only connected, a third has negotiated, a third is in the middle of a mail."""
    with bounded(tmp_path / "spool") as milter, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(MTA(milter.address)) for _ in range(1000)]
        for mta in idle[::3]:
            mta.negotiate()
        for mta in idle[1::3]:
            mta.negotiate()
            begin(mta)
            mta.body(b"x" * 60_000)  # too little to be written to the disk yet
        for _ in range(20):
            assert send(milter.address) == "accepted"
        assert milter.mails() == [as_kept()] * 20
        for mta in idle[1::3]:
            mta.send(b"E")
        assert [mta.verdict() for mta in idle[1::3]] == ["accepted"] * 333
