"""What a client sends, as command lines and as content.

Behind a BDAT line stands a chunk, which may be anything: mail that forges commands too. A server that
does not understand such a line, answers 500 and reads on takes the chunk for commands. So whatever a
client may have meant as BDAT, and nobody can be sure of, has to reach `smtp_BDAT`, which hangs up:

* BDAT with something else than a blank behind it: a TAB, a NUL, an octet outside ASCII, a letter;
* BDAT behind blanks, control characters or octets outside ASCII;
* a line that is too long and begins so, or begins with nothing but blanks.
"""

from __future__ import annotations

import asyncio
from typing import cast

# Octets of a command line; RFC 5321 4.5.3.1.4 asks for 512, but addresses may have any length here.
MAX_LINE = 64 * 1024

_BDAT = b"BDAT"
_UNSEEN = bytes({*range(256)} - {*range(0x21, 0x7F)})


class Reader:
    """The part of a StreamReader that aiosmtpd needs. line: the command line last read."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._in_long_line = False
        self.line = b""
        self.read = stream.read
        self.feed_eof = stream.feed_eof

    async def readuntil(self) -> bytes:
        """The next line; of one like BDAT only the verb, so that `smtp_BDAT` is called."""
        try:
            line = await self._stream.readuntil()
        except asyncio.LimitOverrunError:
            if self._in_long_line or not _BDAT.startswith(_verb(bytes(self._buffer))):
                self._in_long_line = True
                raise
            self.line = bytes(self._buffer[:80]) + b"..."  # which is no size
            return _BDAT
        if self._in_long_line:  # its end
            self._in_long_line = False
            return line
        self.line = line
        return _BDAT if _verb(line) == _BDAT else line

    def unread(self, data: bytes) -> None:
        """Put back what was read too much."""
        self._buffer[:0] = data

    async def response(self) -> bytes | None:
        """The next line, which is no command, without its end; None if it was too long."""
        too_long = False
        while True:
            try:
                line = await self._stream.readuntil()
            except asyncio.LimitOverrunError as error:
                too_long = True
                await self._stream.read(error.consumed)
            else:
                return None if too_long else line.removesuffix(b"\n").removesuffix(b"\r")

    @property
    def is_waiting(self) -> bool:
        """Whether the client is waited for."""
        return self._stream._waiter is not None  # type: ignore[attr-defined] # noqa: SLF001

    @property
    def has_more(self) -> bool:
        """Whether something was received that is not read yet."""
        return bool(self._buffer)

    def begin_anew(self, transport: asyncio.Transport) -> None:
        """Read from another transport. Of the old one nothing was left, see has_more.

        What is there came over the new one: a client may say EHLO with the end of its handshake.
        """
        self._in_long_line = False
        self.line = b""
        self._stream._transport = transport  # type: ignore[attr-defined] # noqa: SLF001

    @property
    def _buffer(self) -> bytearray:
        """StreamReader has no method to look into it."""
        return cast(bytearray, self._stream._buffer)  # type: ignore[attr-defined] # noqa: SLF001


def _verb(line: bytes) -> bytes:
    """The first four letters, or what there is of them, behind what nobody sees."""
    return line.lstrip(_UNSEEN)[: len(_BDAT)].upper()
