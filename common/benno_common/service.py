"""What any daemon does with its system: signals, readiness, PID file, limits, exit codes.

Exit codes are those of sysexits.h: 64 usage, 69 another instance or program has the socket, 70 a fault
of this program, 73 a file cannot be made, 75 ended before all was done, 77 no permission, 78
configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator

from benno_common import log


class Exit(Exception):
    """The program cannot go on: exit code of sysexits.h, and what to tell the administrator."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def check_pidfile(path: str | None) -> None:
    """Whether pidfile() could write it; nothing is changed. Raises Exit."""
    if path and not os.access(path if os.path.exists(path) else os.path.dirname(path) or ".", os.W_OK):
        raise Exit(os.EX_CANTCREAT, f"PID file {path}: it or its directory cannot be written")


@contextlib.contextmanager
def pidfile(path: str | None) -> Iterator[None]:
    """Write our process id to `path` for as long as we run, or until another does. Raises Exit."""
    if not path:
        yield
        return
    ours = f"{os.getpid()}\n"
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(ours)
    except OSError as error:
        raise Exit(os.EX_CANTCREAT, f"PID file {path}: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            if file.read() == ours:
                os.unlink(path)


def notify(state: str) -> None:
    """Tell systemd, if it asked: `READY=1`, `STOPPING=1`, `STATUS=…` (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.connect("\0" + path[1:] if path.startswith("@") else path)
        notifier.sendall(state.encode())


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system allows: one for each connection and each mail."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; the second of them ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def received() -> None:
        if stop.is_set():
            log.fatal("second signal: ended at once, mails under way were not answered")
            os._exit(os.EX_TEMPFAIL)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received)
    return stop
