"""What a client is told. Replies to commands that came together go out together (RFC 2920 3.2).

A reply waits for no longer than this turn of the loop: once the session waits for anything, be it the
next command, the disk or a password that is checked, the loop sends what was gathered. The session
itself cannot forget to.
"""

from __future__ import annotations

import asyncio

from benno_smtp.reader import MAX_LINE

# Replies of so many octets are sent at once: a client may send commands and read nothing.
MAX_GATHERED = 16 * 1024

# For aiosmtpd's own replies, by their beginning; the first that fits.
_OUR_WORDS = {
    "500 Command line too long": f"500 5.5.2 A command has {MAX_LINE} octets at the most",
    "500 ": "500 5.5.2 Unknown command",
    "502 5.5.1 Too many": "421 4.7.0 Too many unknown commands",
}


def in_our_words(reply: str) -> str:
    """Of a reply that may be aiosmtpd's own."""
    if not reply.startswith("50"):
        return reply
    return next((ours for theirs, ours in _OUR_WORDS.items() if reply.startswith(theirs)), reply)


class Replies:
    """The part of a StreamWriter that aiosmtpd and we need."""

    def __init__(self, stream: asyncio.StreamWriter, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop
        self._gathered = bytearray()
        self.is_closing = stream.is_closing
        self.can_write_eof = stream.can_write_eof

    def write(self, data: bytes) -> None:
        """Send it with what else is said in this turn of the loop."""
        if not self._gathered:
            self._loop.call_soon(self.flush)
        self._gathered += data

    def flush(self) -> None:
        """Send what was gathered now."""
        if self._gathered:
            gathered, self._gathered = self._gathered, bytearray()
            self._stream.write(gathered)

    @property
    def are_many(self) -> bool:
        """Whether there are so many that the client has to take some before there may be more."""
        return len(self._gathered) >= MAX_GATHERED

    async def drain(self) -> None:
        """Wait until there is room for more."""
        self.flush()
        await self._stream.drain()

    def write_eof(self) -> None:
        self.flush()
        self._stream.write_eof()

    def close(self) -> None:
        self.flush()
        self._stream.close()

    def begin_anew(self, transport: asyncio.Transport) -> None:
        """Send over another transport from now on."""
        self._stream._transport = transport  # type: ignore[attr-defined] # noqa: SLF001 - as asyncio does
