"""A running benno-milter: the real command in a process of its own, its log, its spool."""

from __future__ import annotations

import os
import re
import signal
import socket as sockets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import passing
from benno_common.mailfile import Decoder
from directories import contents
from waiting import wait_for

COMMAND = (sys.executable, "-c", "import sys; from benno_milter.program import main; sys.exit(main())")


class Daemon:
    """address: what an MTA connects to. process: the wrapper (strace, say) or the milter itself."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, spool: Path, socket: str) -> None:
        self.process = process
        self.spool = spool
        self.socket = socket  # as given with -p
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def address(self) -> str | tuple[str, int]:
        if self.socket.startswith("inet"):
            return "127.0.0.1", int(re.findall(r"started .*port=(\d+)", self.log)[0])
        return self.socket.partition(":")[2]

    @property
    def pid(self) -> int:
        """Of the milter itself, also where a wrapper was started."""
        return int(re.findall(r"benno-milter\[(\d+)\]: INFO: started", self.log)[0])

    def files(self) -> list[Path]:
        return contents(self.spool)

    def mails(self) -> list[tuple[bytes, tuple[bytes, ...], bytes]]:
        """Sender, recipients and message of each file, in order."""
        return [read(path) for path in self.files()]

    def wait_for_log(self, pattern: str) -> str:
        """The first text in the log that matches, once it is there."""
        wait_for(lambda: re.search(pattern, self.log), f"{pattern!r} in the log")
        found = re.search(pattern, self.log)
        assert found
        return found[0]

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(60)


def read(path: Path) -> tuple[bytes, tuple[bytes, ...], bytes]:
    """Sender, recipients and message of one of our files. Raises MailFileError."""
    decoder = Decoder()
    message = decoder.feed(path.read_bytes()) + decoder.finish()
    assert decoder.envelope is not None
    return decoder.envelope.sender, decoder.envelope.recipients, message


@contextmanager
def running(
    spool: Path,
    *options: str,
    socket: str | None = None,
    wrapper: Sequence[str] = (),
    log: Path | None = None,
    command: Sequence[str] = (),
    passed: Sequence[sockets.socket] = (),
) -> Iterator[Daemon]:
    """Start benno-milter and wait until it listens; at the end it must not be left running.

    socket: as for -p, default a Unix socket beside the spool. Without --min-free among the options
    there is no reserve. The log is written beside the spool. command: COMMAND, or what stands for it.
    passed: sockets that it gets as systemd would pass them.
    """
    spool.mkdir(exist_ok=True)
    socket = socket or f"unix:{spool.parent / (spool.name + '.sock')}"
    log = log or spool.parent / f"{spool.name}.log"
    reserve = () if "--min-free" in options else ("--min-free", "0")
    arguments = [
        *wrapper,
        *passing.wrapper(passed),
        *(command or COMMAND),
        "-p",
        socket,
        "-o",
        str(spool),
        "--log",
        "stderr",
        *reserve,
        *options,
    ]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            arguments, stdout=stream, stderr=stream, pass_fds=passing.descriptors(passed)
        )
    daemon = Daemon(process, log, spool, socket)
    try:
        wait_for(lambda: "INFO: started" in daemon.log or process.poll() is not None, "the start")
        assert process.poll() is None, f"ended with {process.returncode}: {daemon.log}"
        yield daemon
    finally:
        if process.poll() is None:
            daemon.stop()
