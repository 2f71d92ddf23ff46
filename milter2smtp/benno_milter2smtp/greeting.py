"""How a connection comes about: connect, hear the greeting, say EHLO.

aiosmtplib reads the greeting and says EHLO (or HELO, to a server that does not know it); then its
transport is taken over. Its own MAIL, RCPT and DATA would rewrite addresses and line ends, and count a
partial refusal as success.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any, cast

import aiosmtplib

from benno_milter2smtp.delivery import Delivery
from benno_milter2smtp.offer import Offer, parse_offer
from benno_milter2smtp.outcome import Phase, judge
from benno_milter2smtp.reply import Reply

CONNECT_SECONDS = 30.0  # at the most; nothing is known of the server yet

# A host without power says nothing: it is asked after a minute of silence, and given up after another.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}


class HostUnusable(Exception):
    """No mail can be sent there now; the message says why."""


async def connect(address: tuple[Any, ...], timeout: float) -> Delivery:
    """Connect to an address, an entry of getaddrinfo(3), and hear the greeting; seconds.

    Raises HostUnusable.
    """
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
    return await _greet(connection, timeout)


async def _greet(connection: socket.socket, timeout: float) -> Delivery:
    name = _own_name(connection)
    client = aiosmtplib.SMTP(
        sock=connection,
        hostname=None,
        port=None,
        username=None,
        password=None,
        local_hostname=name,
        timeout=timeout,
        use_tls=False,
        start_tls=False,
    )
    try:
        await client.connect()
        offer = await _hello(client)
        return Delivery(cast(asyncio.Transport, client.transport), offer, timeout, client.close)
    except aiosmtplib.SMTPResponseException as error:
        client.close()
        refused = judge(Phase.GREETING, _reply(error))
        raise HostUnusable(getattr(refused, "reason", str(error))) from error
    except (aiosmtplib.SMTPTimeoutError, asyncio.TimeoutError) as error:
        client.close()
        raise HostUnusable(f"it did not greet us or answer EHLO for {timeout:g} s") from error
    except (aiosmtplib.SMTPException, OSError) as error:
        client.close()
        reason = str(error).rpartition(" port None: ")[2]  # its own words for our socket
        raise HostUnusable(f"before it greeted us or answered EHLO: {reason}") from error
    except BaseException:
        client.close()
        raise


async def _hello(client: aiosmtplib.SMTP) -> Offer:
    """Say EHLO, or HELO where it is not known. Raises HostUnusable."""
    try:
        reply = await client.ehlo()
    except aiosmtplib.SMTPHeloError as error:
        if error.code < 500:
            raise
        refused = judge(Phase.HELLO, _reply(error))
        try:
            await client.helo()
        except aiosmtplib.SMTPException:
            raise HostUnusable(getattr(refused, "reason", str(error))) from error
        return Offer()
    return parse_offer(reply.message.split("\n")[1:])


def _reply(error: aiosmtplib.SMTPResponseException) -> Reply:
    """aiosmtplib keeps octets that are no UTF-8 as surrogates, and lines apart."""
    octets = error.message.encode("utf-8", "surrogateescape")
    return Reply(error.code, " ".join(octets.decode("utf-8", "backslashreplace").split("\n")))


def _own_name(connection: socket.socket) -> str:
    """What to say in EHLO: our full name, or our address (RFC 5321 4.1.4); getfqdn(3) might block."""
    name = socket.gethostname()
    if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name):
        return name
    address = str(connection.getsockname()[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
