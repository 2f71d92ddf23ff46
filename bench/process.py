"""Daemons that are measured: started, waited for, asked what they have used, traced, ended by pid.

    with running(command, ready=lambda: listening.answers("/run/x.sock"), log=log) as daemon:
        sample = measured(daemon, work)      # the Sample that work() returns, with CPU, switches, peak
        with traced(daemon.pid) as calls:    # in a run apart: tracing slows the process down many times
            work()
        calls.count, calls.syncs, calls.octets

All that is told of a daemon is of the process, its threads and its living children; the CPU time of
children that have ended is included, their context switches are not.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.rounds import Sample

START_SECONDS = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_SYNCS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")
# Calls that copy octets between the kernel and the process; they return how many.
_COPIES = re.compile(r"p?(read|write)(v2?|64)?|recv(from|msg)?|send(to|msg)?")
_CALL = re.compile(r"\d+ +(?:<\.\.\. )?(\w+)(\(| resumed>)(?:.*\) += (-?\d+))?")


@dataclass(frozen=True)
class Usage:
    """So far. cpu_seconds: user and system. peak: octets, VmHWM, summed up over processes."""

    cpu_seconds: float
    switches: int
    peak: int


@dataclass
class Daemon:
    """A running process; its `pid` is the measured program's own.

    used: after its end, all that it has used; with that of threads that had ended before. others:
    processes that do the same work.
    """

    pid: int
    log: Path
    used: Usage | None = None
    others: tuple[int, ...] = ()

    def usage(self) -> Usage:
        cpu, switches, peak = 0.0, 0, 0
        for pid in self._all():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
                cpu += _cpu_seconds(pid)
                switches += sum(map(_switches, _tasks(pid)))
                peak += _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM") * 1024
        return Usage(cpu, switches, peak)

    def forget_peak(self) -> None:
        """Let the peak begin anew at what is in use now."""
        for pid in self._all():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _all(self) -> list[int]:
        return [pid for one in (self.pid, *self.others) for pid in family(one)]


@contextmanager
def running(
    command: Sequence[str],
    *,
    ready: Callable[[], object],
    log: Path,
    env: Mapping[str, str] | None = None,
    passed: Sequence[int] = (),
) -> Iterator[Daemon]:
    """Start a daemon that stays in the foreground, wait until it is ready, end it with SIGTERM.

    log: the file for its standard output and standard error. passed: descriptors that it gets.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=env, pass_fds=passed)
    daemon = Daemon(process.pid, log)
    try:
        wait_for(lambda: process.poll() is not None or ready(), f"the start of {command[0]}")
        if process.poll() is not None:
            raise RuntimeError(f"{command} ended: {log.read_text(errors='replace')[-2000:]}")
        yield daemon
    finally:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        end(process)
        daemon.used = _between(before, resource.getrusage(resource.RUSAGE_CHILDREN))


def _between(before: resource.struct_rusage, after: resource.struct_rusage) -> Usage:
    def times(usage: resource.struct_rusage) -> float:
        return usage.ru_utime + usage.ru_stime

    def switches(usage: resource.struct_rusage) -> int:
        return usage.ru_nvcsw + usage.ru_nivcsw

    return Usage(
        times(after) - times(before), switches(after) - switches(before), after.ru_maxrss * 1024
    )


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """Signal a process, and see that it ends."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Return as soon as the condition holds. Raises TimeoutError naming it if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.002)


def measured(daemon: Daemon, work: Callable[[], Sample]) -> Sample:
    """What `work` returns, with what the daemon used meanwhile, but for threads that have ended."""
    daemon.forget_peak()
    before = daemon.usage()
    sample = work()
    after = daemon.usage()
    return replace(
        sample,
        cpu_seconds=after.cpu_seconds - before.cpu_seconds,
        switches=after.switches - before.switches,
        peak=after.peak,
    )


@dataclass
class Calls:
    """System calls by name, and the octets that they copied into the process and out of it."""

    names: Counter[str] = field(default_factory=Counter)
    octets: int = 0

    @property
    def count(self) -> int:
        return self.names.total()

    @property
    def syncs(self) -> int:
        return sum(self.names[name] for name in _SYNCS)


@contextmanager
def traced(pid: int, *options: str) -> Iterator[Calls]:
    """Trace a process and its threads with strace(1); at the end the result is filled in.

    options: more of strace's, to make calls slow, say.
    """
    calls = Calls()
    with tempfile.TemporaryDirectory() as directory:
        trace, told = Path(directory) / "trace", Path(directory) / "told"
        command = ["strace", "-f", "-s", "0", "-o", str(trace), *options, "-p", str(pid)]
        with told.open("wb") as stream:
            process = subprocess.Popen(command, stderr=stream)
        try:
            wait_for(lambda: "attached" in told.read_text(), "strace")
            yield calls
        finally:
            end(process, signal.SIGINT)
        with trace.open(errors="replace") as lines:
            add_calls(calls, lines)


def add_calls(calls: Calls, lines: Iterator[str]) -> None:
    """Add up the lines of `strace -f -o`; a call that another thread interrupts has two lines."""
    for line in lines:
        if found := _CALL.match(line):
            name, begun, result = found.groups()
            calls.names[name] += begun == "("
            if result and _COPIES.fullmatch(name):
                calls.octets += max(int(result), 0)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for one in found:
        for task in _tasks(one):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (task / "children").read_text().split())
    return found


def _tasks(pid: int) -> list[Path]:
    """The threads of a process; none where it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []


def _cpu_seconds(pid: int) -> float:
    """Of all its threads and of the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def _switches(task: Path) -> int:
    status = (task / "status").read_text()
    return sum(map(int, re.findall(r"ctxt_switches:\s*(\d+)", status)))


def _kilobytes(status: Path, name: str) -> int:
    found = re.search(rf"{name}:\s*(\d+) kB", status.read_text())
    return int(found[1]) if found else 0
