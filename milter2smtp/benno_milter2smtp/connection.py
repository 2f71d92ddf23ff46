"""A TCP connection to an address of the archive host."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

CONNECT_SECONDS = 30.0  # at the most; nothing is known of the server yet

# A host without power says nothing: it is asked after a minute of silence, and given up after another.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}


class HostUnusable(Exception):
    """No mail can be sent there now; the message says why."""


async def reach(address: tuple[Any, ...], timeout: float) -> socket.socket:
    """Connect to an entry of getaddrinfo(3), within seconds. Raises HostUnusable."""
    family, kind, protocol, _, where = address
    loop = asyncio.get_running_loop()
    try:
        connection = socket.socket(family, kind, protocol)
    except OSError as error:
        raise HostUnusable(str(error.strerror)) from error
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        await asyncio.wait_for(loop.sock_connect(connection, where), min(timeout, CONNECT_SECONDS))
    except asyncio.TimeoutError:
        connection.close()
        raise HostUnusable("the connection timed out") from None
    except OSError as error:
        connection.close()
        raise HostUnusable(error.strerror or str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def own_name(connection: socket.socket) -> str:
    """What to say in EHLO: our full name, or our address (RFC 5321 4.1.4); getfqdn(3) might block."""
    name = socket.gethostname()
    if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name):
        return name
    address = str(connection.getsockname()[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
