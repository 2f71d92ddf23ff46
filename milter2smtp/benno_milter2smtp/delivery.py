"""One connection to a server, and the mails that go over it one after another.

aiosmtplib connects, reads the greeting and says EHLO (or HELO, to a server that does not know it); then
its transport is taken over. Its own MAIL, RCPT and DATA would rewrite addresses and line ends, and
count a partial refusal as success.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import aiosmtplib

from benno_milter2smtp.offer import Offer, parse_offer
from benno_milter2smtp.outcome import CLOSING, Delivered, Outcome, Permanent, Phase, Temporary, judge
from benno_milter2smtp.parcel import Parcel
from benno_milter2smtp.plan import Plan, make_plan
from benno_milter2smtp.reply import Reply
from benno_milter2smtp.transaction import RSET, Exchange, transaction
from benno_milter2smtp.wire import ConnectionLost, Wire

CONNECT_SECONDS = 30.0  # at the most; nothing is known of the server yet
FINAL_SECONDS = 600.0  # at the least, for the reply to the end of the message (RFC 5321 4.5.3.2.6)
QUIT_SECONDS = 5.0

_PIECES = 4  # of a large file, read in one go


class HostUnusable(Exception):
    """No mail can be sent there now; the message says why."""


class Delivery:
    """A connection on which the server has greeted us.

    usable: another mail can go over it. ending: the end of the last message was written, and the server
    may have stored it whatever happened then. delivered: mails so far.
    """

    def __init__(self, client: aiosmtplib.SMTP, offer: Offer, timeout: float) -> None:
        self.offer = offer
        self.ending = False
        self.delivered = 0
        self._client = client
        self._timeout = timeout
        self._wire = Wire(cast(asyncio.Transport, client.transport))
        self._broken = False

    @property
    def usable(self) -> bool:
        return not self._broken and self._wire.idle

    async def deliver(self, parcel: Parcel, *, normalize: bool = False) -> tuple[Outcome, bool]:
        """Send one mail; what became of it, and whether its line ends were altered.

        Raises MailFileError or OSError where the file cannot be read; the connection is closed then.
        """
        self.ending = False
        plan = make_plan(parcel.letter, self.offer, normalize=normalize)
        if isinstance(plan, Permanent):
            return plan, False
        try:
            outcome = await self._converse(parcel, plan)
        except ConnectionLost as lost:
            outcome = Temporary(str(lost), broken=True)
        except BaseException:  # in the middle of a message nothing can be said but this
            self.abort()
            raise
        if isinstance(outcome, Delivered) and not self.ending:
            outcome = Temporary(f"out of step: {outcome.reply}", broken=True)
        if isinstance(outcome, Delivered):
            self.delivered += 1
        elif isinstance(outcome, Temporary) and outcome.broken:
            self.abort()
        elif not self._broken:
            await self._reset()
        return outcome, plan.normalized

    async def close(self) -> None:
        """Say QUIT, where the server still listens."""
        with contextlib.suppress(ConnectionLost, asyncio.CancelledError):
            if self.usable and await self._wire.write(b"QUIT\r\n", QUIT_SECONDS):
                await self._wire.reply(QUIT_SECONDS)
        self.abort()

    def abort(self) -> None:
        self._broken = True
        self._wire.abort()
        self._client.close()

    async def _converse(self, parcel: Parcel, plan: Plan) -> Outcome:
        dialogue = transaction(plan)
        try:
            exchange = next(dialogue)
            while True:
                exchange = dialogue.send(await self._exchange(exchange, parcel, plan))
        except StopIteration as end:
            return cast(Outcome, end.value)

    async def _exchange(self, exchange: Exchange, parcel: Parcel, plan: Plan) -> list[Reply]:
        self._wire.expect_silence()
        commands = b"".join(command + b"\r\n" for command in exchange.commands)
        if not exchange.content:
            self.ending = self.ending or exchange.final
            await self._wire.write(commands, self._timeout)
        else:
            await self._send_content(
                commands, parcel.octets(plan), small=parcel.letter.small, final=exchange.final
            )
        seconds = max(self._timeout, FINAL_SECONDS) if exchange.final else self._timeout
        owed = len(exchange.commands) or 1
        replies = [await self._wire.reply(seconds) for _ in range(owed)]
        if any(reply.code == CLOSING for reply in replies):
            self._broken = True
        return replies

    async def _send_content(
        self, commands: bytes, octets: Iterator[bytes], *, small: bool, final: bool
    ) -> None:
        """final: the last piece ends the message."""
        if small:
            self.ending = self.ending or final
            await self._wire.write(commands + b"".join(octets), self._timeout)
            return
        piece = commands
        while following := await asyncio.to_thread(_read, octets):
            if not await self._wire.write(piece, self._timeout):
                self._wire.expect_no_success()
                return
            piece = following
        self._wire.expect_no_success()
        self.ending = self.ending or final
        await self._wire.write(piece, self._timeout)

    async def _reset(self) -> None:
        """Make the session ready for the next mail, or give it up."""
        try:
            self._wire.expect_silence()
            await self._wire.write(RSET + b"\r\n", self._timeout)
            reply = await self._wire.reply(self._timeout)
        except ConnectionLost:
            self.abort()
            return
        if reply.code != 250:
            self.abort()


def _read(octets: Iterator[bytes]) -> bytes:
    """The next pieces of a large message; empty at its end."""
    for pieces in iter(lambda: list(islice(octets, _PIECES)), []):
        if joined := b"".join(pieces):
            return joined
    return b""


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
        return Delivery(client, await _hello(client), timeout)
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
