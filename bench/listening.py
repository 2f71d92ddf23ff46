"""Where the measured daemons listen."""

from __future__ import annotations

import contextlib
import secrets
import socket

Address = str | tuple[str, int]  # the path of a Unix socket, or host and port


def answers(address: Address) -> bool:
    """Whether somebody listens there."""
    kind = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(kind) as probe, contextlib.suppress(OSError):
        probe.connect(address)
        return True
    return False


def free_port() -> int:
    """A TCP port on loopback that nobody listens on, and that a daemon finds free after a restart too.

    It lies below those that Linux gives to outgoing connections (ip_local_port_range).
    """
    while True:
        port = 16_384 + secrets.randbelow(16_384)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
