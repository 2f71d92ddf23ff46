"""What a client sends, as command lines and as content.

Behind a BDAT line stands a chunk, which may be anything: mail that forges commands too. A server that
does not understand such a line, answers 500 and reads on takes the chunk for commands. So whatever a
client may have meant as BDAT, and nobody can be sure of, has to reach `smtp_BDAT`, which hangs up:

* BDAT with something else than a blank behind it: a TAB, a NUL, an octet outside ASCII, a letter;
* BDAT behind blanks, control characters or octets outside ASCII;
* a line that is too long and begins so, or begins with nothing but blanks.

Content is passed on in the pieces in which it came: put into one buffer and cut again, each octet would
be copied three times.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from benno_common.mail import OVERHEAD

# Octets of a command line; RFC 5321 4.5.3.1.4 asks for 512, but addresses may have any length here.
MAX_LINE = 64 * 1024

# Octets of content that are held while the disk is slower than the client, and one piece more.
MAX_HELD = 128 * 1024

_BDAT = b"BDAT"
_UNSEEN = bytes({*range(256)} - {*range(0x21, 0x7F)})


class Reader:
    """The part of a StreamReader that aiosmtpd needs. line: the command line last read."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._in_long_line = False
        self._pieces: deque[bytes] | None = None  # of content, if it is what comes
        self._held = 0  # octets of them
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None  # for a piece
        self.line = b""
        self.read = stream.read

    def feed(self, data: bytes) -> None:
        """It has come from the client."""
        if self._pieces is None:
            self._stream.feed_data(data)
            return
        self._pieces.append(data)
        self._held += len(data) + OVERHEAD
        self._wake()
        if self._held > MAX_HELD and not self._paused:
            self._transport.pause_reading()
            self._paused = True

    def feed_eof(self) -> None:
        """No more will come."""
        self._stream.feed_eof()
        self._wake()

    def begin_content(self) -> None:
        """What comes is content, until `end_content`; so is what has come already."""
        self._held = len(self._buffer) + OVERHEAD if self._buffer else 0
        self._pieces = deque([bytes(self._buffer)] if self._buffer else [])
        self._buffer.clear()
        self._stream._maybe_resume_transport()  # type: ignore[attr-defined] # noqa: SLF001

    async def piece(self) -> bytes:
        """The next piece of content, of any size; b"" if the client has closed its side."""
        assert self._pieces is not None
        if not self._pieces and not self._stream._eof:  # type: ignore[attr-defined] # noqa: SLF001
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        self._held -= len(piece) + OVERHEAD
        if self._held <= MAX_HELD // 2:
            self._resume()
        return piece

    def end_content(self, rest: bytes) -> None:
        """Commands follow. rest: what was read behind the content."""
        assert self._pieces is not None
        self._buffer[:0] = b"".join([rest, *self._pieces])
        self._pieces = None
        self._resume()

    def _resume(self) -> None:
        if self._paused:
            self._transport.resume_reading()
            self._paused = False

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

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
        waiter = self._waiter or self._stream._waiter  # type: ignore[attr-defined] # noqa: SLF001
        return waiter is not None

    @property
    def in_content(self) -> bool:
        """Whether content is what the client sends now."""
        return self._pieces is not None

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
    def _transport(self) -> asyncio.Transport:
        return cast(asyncio.Transport, self._stream._transport)  # type: ignore[attr-defined] # noqa: SLF001

    @property
    def _buffer(self) -> bytearray:
        """StreamReader has no method to look into it."""
        return cast(bytearray, self._stream._buffer)  # type: ignore[attr-defined] # noqa: SLF001


def _verb(line: bytes) -> bytes:
    """The first four letters, or what there is of them, behind what nobody sees."""
    return line.lstrip(_UNSEEN)[: len(_BDAT)].upper()
