"""How a connection comes about: connect, hear the greeting, say EHLO; TLS, user and password as wanted.

aiosmtplib reads the greeting, says EHLO (or HELO, to a server that does not know it) and AUTH; then its
transport is taken over. Its own MAIL, RCPT and DATA would rewrite addresses and line ends, and count a
partial refusal as success.

Its STARTTLS is not used: that of version 2 keeps what came in plain text behind the 220, and takes it
for the reply to the next command. Here what listened to plain text is thrown away with all that it
heard, TLS gets a listener of its own, and EHLO is said anew (RFC 3207 4.2). Nor does version 2 do TLS
from the first octet on over a socket that is connected already.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from benno_common import log
from benno_milter2smtp.connection import HostUnusable, own_name, reach
from benno_milter2smtp.credentials import Credentials
from benno_milter2smtp.delivery import Delivery
from benno_milter2smtp.offer import Offer, parse_offer
from benno_milter2smtp.outcome import Phase, Temporary, judge
from benno_milter2smtp.reply import Reply
from benno_milter2smtp.tls import Tls, explain, server_name

HANDSHAKE_SECONDS = 30.0  # at the most, of TLS

_NO_STARTTLS = "it does not offer STARTTLS: turn TLS on there, or see BENNO_TLS and BENNO_TLS_IMPLICIT"
_NO_AUTH = "it offers neither AUTH PLAIN nor AUTH LOGIN: set a user there, or no BENNO_AUTH_FILE here"


class TlsUnusable(HostUnusable):
    """It is TLS that does not work."""


class LoginRefused(HostUnusable):
    """By user and password; at another address of the host they would be no better."""


class _Step(NamedTuple):
    """What the server is to do, when a connection that is lost was lost, and as what this is told."""

    owed: str
    lost: str
    kind: type[HostUnusable]


_PLAIN = _Step("greet us or answer EHLO", "before it greeted us or answered EHLO: ", HostUnusable)
_SECURED = _Step("answer over TLS", "before it answered over TLS: ", TlsUnusable)
_LOGIN = _Step("answer AUTH", "before it answered AUTH: ", HostUnusable)


@dataclass(frozen=True)
class Access:
    """How we come in. timeout: seconds for each reply. tls: None for plain text.

    plain: addresses where opportunistic TLS failed in this run.
    """

    timeout: float
    tls: Tls | None = None
    credentials: Credentials | None = None
    plain: set[object] = field(default_factory=set)


async def connect(address: tuple[Any, ...], host: str, access: Access) -> Delivery:
    """Connect to an address, an entry of getaddrinfo(3), and come so far that mail can be sent.

    host: the name that the certificate is to have. Raises HostUnusable.
    """
    if access.tls is None or address in access.plain:
        return await _come_in(address, host, access, None)
    try:
        return await _come_in(address, host, access, access.tls)
    except TlsUnusable as error:
        if not access.tls.opportunistic:
            raise
        where = host if host == address[4][0] else f"{host}[{address[4][0]}]"
        log.tls_failed(where, f"{error}; mail goes there in plain text")
    access.plain.add(address)
    return await _come_in(address, host, access, None)


async def _come_in(address: tuple[Any, ...], host: str, access: Access, tls: Tls | None) -> Delivery:
    connection = await reach(address, access.timeout)
    client = aiosmtplib.SMTP(
        sock=connection,
        hostname=None,
        port=None,
        username=None,
        password=None,
        local_hostname=own_name(connection),
        timeout=access.timeout,
        use_tls=False,
        start_tls=False,
    )
    try:
        offer = await _greet(client, connection, host, access, tls)
        if access.credentials is not None:
            with _told(_LOGIN, access):
                await _authenticate(client, access.credentials)
    except BaseException:
        client.close()
        raise
    return Delivery(cast(asyncio.Transport, client.transport), offer, access.timeout, client.close)


async def _greet(
    client: aiosmtplib.SMTP, connection: socket.socket, host: str, access: Access, tls: Tls | None
) -> Offer:
    """Up to the EHLO that counts. Raises HostUnusable."""
    if tls is not None and tls.implicit:
        with _told(_SECURED, access, host):
            await _connect_by_tls(client, connection, host, tls)
            return await _hello(client)
    with _told(_PLAIN, access):
        await client.connect()
        offer = await _hello(client)
    if tls is None or (tls.opportunistic and not offer.starttls):
        return offer
    if not offer.starttls:
        raise TlsUnusable(_NO_STARTTLS)
    with _told(_SECURED, access, host):
        await _start_tls(client, host, tls)
        return await _hello(client)


async def _connect_by_tls(
    client: aiosmtplib.SMTP, connection: socket.socket, host: str, tls: Tls
) -> None:
    """TLS, and then the greeting."""
    loop = asyncio.get_running_loop()
    listener = SMTPProtocol(loop)
    client.transport, client.protocol = await loop.create_connection(
        lambda: listener,
        sock=connection,
        ssl=tls.context,
        server_hostname=server_name(host),
        ssl_handshake_timeout=_handshake_seconds(client),
    )
    greeting = await listener.read_response(client.timeout)
    _expect(Phase.GREETING, _reply(greeting.code, greeting.message))


async def _start_tls(client: aiosmtplib.SMTP, host: str, tls: Tls) -> None:
    """STARTTLS and the handshake. What came in plain text is heard by nobody who is still asked."""
    answer = await client.execute_command(b"STARTTLS")
    _expect(Phase.STARTTLS, _reply(answer.code, answer.message))
    plain = client.transport
    if plain is None or plain.is_closing():
        raise ConnectionResetError
    loop = asyncio.get_running_loop()
    listener = SMTPProtocol(loop)
    listener.connection_made(plain)  # so that it can hear what comes with the end of the handshake
    secured = await loop.start_tls(
        cast(asyncio.Transport, plain),
        listener,
        tls.context,
        server_hostname=server_name(host),
        ssl_handshake_timeout=_handshake_seconds(client),
    )
    if secured is None:
        raise ConnectionResetError
    client.transport, client.protocol = secured, listener
    listener.transport = secured


def _handshake_seconds(client: aiosmtplib.SMTP) -> float:
    return min(cast(float, client.timeout), HANDSHAKE_SECONDS)


async def _hello(client: aiosmtplib.SMTP) -> Offer:
    """Say EHLO, or HELO where it is not known. Raises HostUnusable."""
    try:
        reply = await client.ehlo()
    except aiosmtplib.SMTPHeloError as error:
        if error.code < 500:
            raise
        refused = judge(Phase.HELLO, _reply(error.code, error.message))
        try:
            await client.helo()
        except aiosmtplib.SMTPException:
            raise HostUnusable(getattr(refused, "reason", str(error))) from error
        return Offer()
    return parse_offer(reply.message.split("\n")[1:])


async def _authenticate(client: aiosmtplib.SMTP, credentials: Credentials) -> None:
    """By what is offered, once: a wrong password is no better by another mechanism."""
    if "plain" in client.server_auth_methods:
        log_in = client.auth_plain
    elif "login" in client.server_auth_methods:
        log_in = client.auth_login
    else:
        raise HostUnusable(_NO_AUTH)
    try:
        await log_in(credentials.user, credentials.password)
    except aiosmtplib.SMTPAuthenticationError as error:
        reply = credentials.expunge(_reply(error.code, error.message))
        refused = judge(Phase.AUTH, reply)
        kind = HostUnusable if isinstance(refused, Temporary) else LoginRefused
        raise kind(getattr(refused, "reason", str(reply))) from None


def _expect(phase: Phase, reply: Reply) -> None:
    """Raises HostUnusable where the reply refuses."""
    if refused := judge(phase, reply):
        raise HostUnusable(getattr(refused, "reason", str(reply)))


@contextlib.contextmanager
def _told(step: _Step, access: Access, host: str = "") -> Iterator[None]:
    """Whatever goes wrong is told as the step says. host: where it may be TLS that goes wrong."""
    try:
        yield
    except HostUnusable as error:
        if isinstance(error, step.kind):
            raise
        raise step.kind(str(error)) from error
    except aiosmtplib.SMTPResponseException as error:
        refused = judge(Phase.GREETING, _reply(error.code, error.message))
        raise step.kind(getattr(refused, "reason", str(error))) from error
    except (aiosmtplib.SMTPTimeoutError, asyncio.TimeoutError) as error:
        raise step.kind(f"it did not {step.owed} for {access.timeout:g} s") from error
    except (aiosmtplib.SMTPException, OSError) as error:
        reason = str(error).rpartition(" port None: ")[2]  # its own words for our socket
        raise step.kind(explain(error, host) if host else step.lost + reason) from error


def _reply(code: int, message: str) -> Reply:
    """aiosmtplib keeps octets that are no UTF-8 as surrogates, and lines apart."""
    octets = message.encode("utf-8", "surrogateescape")
    return Reply(code, " ".join(octets.decode("utf-8", "backslashreplace").split("\n")))
