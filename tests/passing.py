"""Sockets that a daemon gets as systemd passes them: descriptors from 3 on, and the environment."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from bench import several


def wrapper(passed: Sequence[socket.socket]) -> list[str]:
    """What stands before a command, to be started with these descriptors() as its pass_fds."""
    return several.passing(descriptors(passed)) if passed else []


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
