"""One connection to a server that has greeted us, and the mails that go over it one after another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import cast

from benno_milter2smtp.offer import Offer
from benno_milter2smtp.outcome import CLOSING, Delivered, Outcome, Temporary
from benno_milter2smtp.parcel import Parcel
from benno_milter2smtp.plan import Plan, make_plan
from benno_milter2smtp.reply import Reply
from benno_milter2smtp.transaction import RSET, Exchange, transaction
from benno_milter2smtp.wire import ConnectionLost, Wire

FINAL_SECONDS = 600.0  # at the least, for the reply to the end of the message (RFC 5321 4.5.3.2.6)
QUIT_SECONDS = 5.0

_BLOCK = 32 * 1024  # octets that are worth a system call; to copy more costs more than it saves
_READ_AT_ONCE = 4  # blocks of a large file


class Delivery:
    """A connection. close: lets go of what made its transport. timeout: seconds for a reply.

    usable: another mail can go over it. ending: the end of the last message was written, and the server
    may have stored it whatever happened then. delivered: mails so far. tls: its version, if any.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        offer: Offer,
        timeout: float,
        close: Callable[[], None],
    ) -> None:
        self.offer = offer
        self.ending = False
        self.delivered = 0
        secured = transport.get_extra_info("ssl_object")
        self.tls: str | None = secured.version() if secured else None
        self._close = close
        self._timeout = timeout
        self._wire = Wire(transport)
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
        if not isinstance(plan, Plan):
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
        self._close()

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
        commands = b"".join([command + b"\r\n" for command in exchange.commands])
        if not exchange.content:
            self.ending = self.ending or exchange.final
            await self._wire.write(commands, self._timeout)
        else:
            await self._send_content(commands, parcel, plan, final=exchange.final)
        seconds = max(self._timeout, FINAL_SECONDS) if exchange.final else self._timeout
        owed = len(exchange.commands) or 1
        replies = [await self._wire.reply(seconds) for _ in range(owed)]
        if any(reply.code == CLOSING for reply in replies):
            self._broken = True
        return replies

    async def _send_content(self, commands: bytes, parcel: Parcel, plan: Plan, *, final: bool) -> None:
        """final: the last block ends the message."""
        blocks = _blocks(commands, parcel.octets(plan))
        written = True
        held: list[bytes] = []  # the last block that was read
        while written and (some := await _some(blocks, small=parcel.letter.small)):
            *ready, last = held + some
            held = [last]
            written = all([await self._wire.write(block, self._timeout) for block in ready])
        if not plan.early:  # else the commands are answered meanwhile
            self._wire.expect_no_success()
        if written:
            self.ending = self.ending or final
            await self._wire.write(held[0], self._timeout)

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


def _blocks(commands: bytes, octets: Iterator[bytes]) -> Iterator[bytes]:
    """All that is to be written, in blocks: small ones joined, large ones not copied."""
    block = commands
    for piece in octets:
        block += piece
        if len(block) >= _BLOCK:
            yield block
            block = b""
    if block:
        yield block


async def _some(blocks: Iterator[bytes], *, small: bool) -> list[bytes]:
    """The next blocks of a message, all where it is held in memory; none at its end."""
    if small:
        return list(blocks)
    return await asyncio.to_thread(lambda: list(islice(blocks, _READ_AT_ONCE)))
