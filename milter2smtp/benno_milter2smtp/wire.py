"""The two directions of an SMTP connection: octets out, replies in, both at once.

Replies are read whenever they come, also while we write: a server that answers a thousand pipelined
RCPT and finds nobody reading would stop reading itself, and both would wait for ever. Replies that
nobody asked for mean that the two are out of step; nothing is sent after them.
"""

from __future__ import annotations

import asyncio
from collections import deque

from benno_milter2smtp.reply import Reply, ReplyError, ReplyReader

_HIGH_WATER = 256 * 1024  # octets waiting to be sent before the writer has to wait


class ConnectionLost(Exception):
    """The connection cannot be used any more; the message says why."""


class Wire(asyncio.Protocol):
    """An SMTP connection after EHLO, as the protocol of its transport."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reader = ReplyReader()
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._lost: str | None = None
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        transport.set_protocol(self)
        if transport.is_closing():  # it went away before it was ours
            self._lose("connection closed by the server")

    @property
    def idle(self) -> bool:
        """It is open, and the server said nothing that it was not asked."""
        return self._lost is None and not self._replies

    def expect_silence(self) -> None:
        """Raises ConnectionLost where a reply came that belongs to no command."""
        if self._replies:
            said = self._replies.popleft()
            self.abort()
            raise ConnectionLost(f"unasked, the server said {said}")

    def expect_no_success(self) -> None:
        """Raises ConnectionLost where a good reply came before what it answers had ended."""
        if self._replies and self._replies[0].code < 400:
            said = self._replies.popleft()
            self.abort()
            raise ConnectionLost(f"before the end of the message, the server said {said}")

    async def write(self, octets: bytes, timeout: float) -> bool:
        """Write, and wait until there is room for more; seconds. Whether there is still a connection.

        Where there is none, the server may have said why: ask for its reply. Raises ConnectionLost.
        """
        if self._lost is None:
            self._transport.write(octets)
        while self._paused and self._lost is None:
            await self._event(timeout, "read nothing")
        return self._lost is None

    async def reply(self, timeout: float) -> Reply:
        """The next reply, within seconds. Raises ConnectionLost."""
        while not self._replies:
            if self._lost is not None:
                raise ConnectionLost(self._lost)
            await self._event(timeout, "did not answer")
        return self._replies.popleft()

    def abort(self) -> None:
        """Close it without waiting for what is not yet sent."""
        self._lose("connection closed")
        self._transport.abort()

    async def _event(self, timeout: float, failure: str) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(self._waiter, timeout)
        except asyncio.TimeoutError:
            self.abort()
            raise ConnectionLost(f"the server {failure} for {timeout:g} s") from None
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = reason
        self._wake()

    # What asyncio calls

    def data_received(self, data: bytes) -> None:
        if self._lost is not None:
            return
        try:
            self._replies += self._reader.feed(data)
        except ReplyError as error:
            self._lose(f"out of step: {error}")
            self._transport.abort()
        self._wake()

    def eof_received(self) -> bool:
        self._lose("connection closed by the server")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(f"connection lost: {exc}" if exc else "connection closed by the server")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()
