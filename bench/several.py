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

# The descriptor becomes the one that sd_listen_fds(3) knows; a command follows.
_PASS = """
import os, sys
given = int(sys.argv[1])
os.dup2(given, 3)
os.set_inheritable(3, True)
if given != 3:
    os.close(given)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp(sys.argv[2], sys.argv[2:])
"""
_QUEUE = 1024  # Backlog= in the guide


@contextmanager
def running(
    command: Sequence[str], sock: socket.socket, count: int, *, log: Path, env: Mapping[str, str]
) -> Iterator[process.Daemon]:
    """So many processes, which all get a socket that listens; it is closed here.

    log: of the first; the others have a number behind it.
    """
    descriptor = sock.fileno()
    words = [sys.executable, "-c", _PASS, str(descriptor), *command]
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
