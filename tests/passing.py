"""Sockets that a daemon gets as systemd passes them: descriptors from 3 on, and the environment."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

# The descriptors come as arguments, before the command. One may be 3 or 4 already.
_PASS = """
import fcntl, os, sys
count = int(sys.argv[1])
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, 100) for number in sys.argv[2:2 + count]]
for number, descriptor in enumerate(high, start=3):
    os.dup2(descriptor, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execvp(sys.argv[2 + count], sys.argv[2 + count:])
"""


def wrapper(passed: Sequence[socket.socket]) -> list[str]:
    """What stands before a command, to be started with these descriptors() as its pass_fds."""
    if not passed:
        return []
    numbers = [str(number) for number in descriptors(passed)]
    return [sys.executable, "-c", _PASS, str(len(passed)), *numbers]


def descriptors(passed: Sequence[socket.socket]) -> list[int]:
    return [sock.fileno() for sock in passed]


def unix(path: Path) -> socket.socket:
    """One that listens."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(128)
    return sock


def inet(host: str, port: int = 0, *, both: bool = False) -> socket.socket:
    """both: one of IPv6 that takes IPv4 too, as systemd makes it of ListenStream=PORT."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
    sock.bind((host, port))
    sock.listen(128)
    return sock
