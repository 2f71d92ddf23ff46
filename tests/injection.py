"""strace attached to one thread of a running daemon, to have its system calls fail, wait or kill it.

    with injection.into(committer(milter.pid), "fdatasync:error=EIO:when=1") as trace:
        ...
    assert trace.injected == ["fdatasync"]

It is attached after the start, so that the checks of the start are not hit, and to a single thread, so
that a fault of `write` hits the mail and neither the log nor a socket: files are written by the
committer's thread (small mails) and by workers (large ones), the log by the main one. Calls are counted
from the moment it was attached.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from waiting import wait_for


def threads(pid: int) -> list[int]:
    """The threads of a process, oldest first; the first is the main one."""
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")), key=lambda thread: _age(pid, thread))


def committer(pid: int) -> int:
    """It is started first; workers come with the first large mail."""
    return threads(pid)[1]


def worker(pid: int) -> int:
    """Where there is one only, `command_with("maildrop.WORKERS = 1")`, and it has had a large mail."""
    (only,) = threads(pid)[2:]
    return only


def command_with(*settings: str) -> tuple[str, str, str]:
    """The daemon's command with other constants, to be put into `daemon.COMMAND`."""
    imports = (
        "from benno_common import daemon as serving, maildrop",
        "from benno_milter import connection, program",
    )
    return sys.executable, "-c", "; ".join([*imports, *settings, "raise SystemExit(program.main())"])


def _age(pid: int, thread: int) -> tuple[int, int]:
    """Start time in ticks, proc(5)."""
    stat = Path(f"/proc/{pid}/task/{thread}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[19]), thread


class Trace:
    """What strace saw; complete when it was detached."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.text = ""

    @property
    def injected(self) -> list[str]:
        """The calls that were interfered with."""
        return re.findall(r"^(\w+)\(.*\((?:INJECTED|DELAYED)\)$", self.text, re.MULTILINE)

    @property
    def calls(self) -> list[str]:
        """All calls that were traced."""
        return re.findall(r"^(\w+)\(", self.text, re.MULTILINE)

    def read(self) -> None:
        self.text = self._path.read_text()


@contextmanager
def into(thread: int, *faults: str, traced: str = "") -> Iterator[Trace]:
    """Attach to a thread while the body runs. faults: as for `-e inject=`; traced: more to see."""
    sets = ",".join([*(fault.partition(":")[0] for fault in faults), *filter(None, [traced])])
    options = [f"--inject={fault}" for fault in faults]
    with TemporaryDirectory() as directory:
        trace = Trace(Path(directory, "trace"))
        said = Path(directory, "said")
        with said.open("wb") as stream:
            strace = subprocess.Popen(
                ["strace", f"--output={directory}/trace", f"--trace={sets}", *options, f"-p{thread}"],
                stderr=stream,
            )
        try:
            wait_for(
                lambda: "attached" in said.read_text() or strace.poll() is not None, "strace attaches"
            )
            assert strace.poll() is None, said.read_text()
            yield trace
        finally:
            if strace.poll() is None:
                strace.send_signal(signal.SIGINT)
            strace.wait(60)
        trace.read()
