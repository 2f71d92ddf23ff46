"""SMTP replies as a stream: octets in, replies out (RFC 5321 4.2).

A reply is one or more lines of one code; all but the last have a hyphen after it. Lines may end in a
bare LF. What cannot be a reply means that client and server are out of step, and the connection is
worth nothing any more: the next 250 could belong to something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINE = 8192
MAX_REPLY = 64 * 1024

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r\n]*))?\r?\n")
_STATUS = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9.])")


class ReplyError(ValueError):
    """The server sent what is no reply."""


@dataclass(frozen=True)
class Reply:
    """code: 200 to 599. text: the texts of its lines, joined by blanks."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()

    @property
    def status(self) -> str:
        """The enhanced status code (RFC 3463) that the text begins with, or nothing."""
        match = _STATUS.match(self.text)
        return match[0] if match else ""


class ReplyReader:
    """Reads replies out of octets that come in pieces."""

    def __init__(self) -> None:
        self._rest = b""  # of a line that is not complete
        self._code = 0  # of a reply that is not complete
        self._texts: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that are now complete. Raises ReplyError."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        replies = [reply for line in lines if (reply := self._take(line + b"\n"))]
        if len(self._rest) > MAX_LINE:
            raise ReplyError(f"a line of more than {MAX_LINE} octets came")
        return replies

    def _take(self, line: bytes) -> Reply | None:
        match = _LINE.fullmatch(line)
        if not match or self._code not in {0, int(match[1])}:
            raise ReplyError(f"{line[:200]!r} came, which is no reply")
        self._size += len(line)
        if self._size > MAX_REPLY:
            raise ReplyError(f"a reply of more than {MAX_REPLY} octets came")
        self._code = int(match[1])
        self._texts.append((match[3] or b"").decode("utf-8", "backslashreplace").strip())
        if match[2] == b"-":
            return None
        reply = Reply(self._code, " ".join(self._texts))
        self._code, self._size, self._texts = 0, 0, []
        return reply
