"""The octets of a message as SMTP sees them: looked at before sending, and changed for the way they go.

SMTP's DATA carries lines that end in CRLF. A bare CR or LF, a NUL, or a missing last CRLF does not
survive it (servers repair, refuse or, worse, take it for the end of the message), so that such a
message needs BDAT, and all but the last of these BINARYMIME too (RFC 3030).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from benno_milter2smtp.newline import has_bare

END_OF_DATA = b".\r\n"  # after content that ends in CRLF, or is empty (RFC 5321 4.1.1.4)

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


@dataclass(frozen=True)
class Content:
    """size: octets. sha256: in hexadecimal. bare: number of bare CR and bare LF. begin: first octet.

    complete: it ends in CRLF, or is empty. open_end: it ends neither in CR nor in LF.
    """

    size: int
    sha256: str
    bare: int
    nul: bool
    eight_bit: bool
    complete: bool
    open_end: bool
    begin: bytes

    @property
    def binary(self) -> bool:
        """It can only travel with BINARYMIME."""
        return bool(self.bare) or self.nul

    @property
    def normalized_size(self) -> int:
        """Octets that Normalizer makes of it."""
        return self.size + self.bare + (2 if self.open_end else 0)


class Inspector:
    """Looks at a message in pieces: `feed()` each, then `content()`. size: octets so far."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0
        self._bare = 0
        self._nul = False
        self._eight_bit = False
        self._begin = b""
        self._end = b""  # the last two octets

    def feed(self, piece: bytes) -> None:
        self._hash.update(piece)
        self._begin = self._begin or piece[:1]
        self.size += len(piece)
        if has_bare(piece):
            self._bare += piece.count(b"\r") + piece.count(b"\n") - 2 * piece.count(b"\r\n")
            if self._end[-1:] == b"\r" and piece[:1] == b"\n":
                self._bare -= 2
        self._nul = self._nul or b"\0" in piece
        self._eight_bit = self._eight_bit or not piece.isascii()
        self._end = (self._end + piece[-2:])[-2:]

    def content(self) -> Content:
        return Content(
            size=self.size,
            sha256=self._hash.hexdigest(),
            bare=self._bare,
            nul=self._nul,
            eight_bit=self._eight_bit,
            complete=self._end in {b"", b"\r\n"},
            open_end=self._end[-1:] not in {b"", b"\r", b"\n"},
            begin=self._begin,
        )


class Stuffer:
    """Doubles the dot that begins a line (RFC 5321 4.5.2), in pieces. Lines end in CRLF only."""

    def __init__(self) -> None:
        self._before = b"\r\n"  # the last two octets

    def feed(self, piece: bytes) -> bytes:
        joined = self._before + piece
        stuffed = joined.replace(b"\r\n.", b"\r\n..")[len(self._before) :]
        self._before = joined[-2:]
        return stuffed


class Normalizer:
    """Makes each bare CR and bare LF a CRLF, in pieces, and `finish()` the last line."""

    def __init__(self) -> None:
        self._held = b""  # a CR whose LF may come with the next piece
        self._open_end = False

    def feed(self, piece: bytes) -> bytes:
        piece = self._held + piece
        self._held = b"\r" if piece.endswith(b"\r") else b""
        piece = piece[: len(piece) - len(self._held)]
        if piece:
            self._open_end = not piece.endswith(b"\n")
        return _BARE.sub(b"\r\n", piece)

    def finish(self) -> bytes:
        return b"\r\n" if self._held or self._open_end else b""
