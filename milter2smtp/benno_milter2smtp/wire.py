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
_ROOM = 16 * 1024  # octets of replies that are read in one go


class ConnectionLost(Exception):
    """The connection cannot be used any more; the message says why."""


class Wire(asyncio.BufferedProtocol):
    """An SMTP connection after EHLO, as the protocol of its transport.

    It reads into memory of its own: asyncio would take 256 KiB from the system for each reply.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reader = ReplyReader()
        self._room = memoryview(bytearray(_ROOM))
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._lost: str | None = None
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0  # of the wait that goes on
        self._failure = ""  # what it says if it ends so
        self._timer: asyncio.TimerHandle | None = None  # goes off at the deadline or before
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
            await self._event(timeout, f"the server read nothing for {timeout:g} s")
        return self._lost is None

    async def reply(self, timeout: float) -> Reply:
        """The next reply, within seconds. Raises ConnectionLost."""
        while not self._replies:
            if self._lost is not None:
                raise ConnectionLost(self._lost)
            await self._event(timeout, f"the server did not answer for {timeout:g} s")
        return self._replies.popleft()

    def abort(self) -> None:
        """Close it without waiting for what is not yet sent."""
        self._lose("connection closed")
        self._transport.abort()

    async def _event(self, timeout: float, failure: str) -> None:
        """Wait until anything happens. Raises ConnectionLost with the failure after so many seconds."""
        self._waiter = self._loop.create_future()
        self._deadline, self._failure = self._loop.time() + timeout, failure
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        self._timer = self._timer or self._loop.call_at(self._deadline, self._expire)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _expire(self) -> None:
        """One timer serves very many waits: it does not move with them, but looks when it goes off."""
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._expire)
            return
        self._waiter.set_exception(ConnectionLost(self._failure))
        self.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = reason
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self._wake()

    # What asyncio calls

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - replies are short
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        if self._lost is not None:
            return
        try:
            self._replies += self._reader.feed(bytes(self._room[:nbytes]))
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
