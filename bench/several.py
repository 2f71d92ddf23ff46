"""Several processes of one of our daemons that serve one socket, as systemd passes it to them.

with running(command, sock, 2, log=directory / "log") as daemon:
    sample = process.measured(daemon, work)      # of both
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench import process

# Its arguments: how many descriptors, which, and a command. One may be 3 or 4 already.
_PASS = """
import fcntl, os, sys
count = int(sys.argv[1])
given = [int(number) for number in sys.argv[2:2 + count]]
high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100) for number in given]
for number in given:
    os.close(number)
for number, descriptor in enumerate(high, start=3):
    os.dup2(descriptor, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execvp(sys.argv[2 + count], sys.argv[2 + count:])
"""
_QUEUE = 1024  # Backlog= in the guide


def passing(descriptors: Sequence[int]) -> list[str]:
    """What stands before a command that gets these descriptors as systemd passes them; it inherits
    them (pass_fds).
    """
    return [sys.executable, "-c", _PASS, str(len(descriptors)), *map(str, descriptors)]


@contextmanager
def running(
    command: Sequence[str], sock: socket.socket, count: int, *, log: Path, env: Mapping[str, str]
) -> Iterator[process.Daemon]:
    """So many processes, which all get a socket that listens; it is closed here.

    log: of the first; the others have a number behind it.
    """
    descriptor = sock.fileno()
    words = [*passing([descriptor]), *command]
    logs = [log, *(log.with_name(f"{log.name}.{number}") for number in range(2, count + 1))]
    with ExitStack() as stack:
        with sock:
            first, *others = [
                stack.enter_context(
                    process.running(
                        words, ready=partial(_has_started, one), log=one, env=env, passed=[descriptor]
                    )
                )
                for one in logs
            ]
        first.others = tuple(other.pid for other in others)
        yield first


def unix(path: str) -> socket.socket:
    """One that listens, for everybody: Postfix is not root."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(_QUEUE)
    os.chmod(path, 0o666)
    return sock


def loopback() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=_QUEUE)


def _has_started(log: Path) -> bool:
    return b": started " in log.read_bytes()
