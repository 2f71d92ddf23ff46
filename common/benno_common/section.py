"""The header section of a message as a stream: its lines are found and may be edited where they begin.

The section ends with the first CRLFCRLF, counting a CRLF before the message, else with the message.
Its lines are maximal runs of octets other than CR and LF, which need not come in pairs. What follows
the section passes unseen. Only the beginning of one line is ever held.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator

_LINE = re.compile(rb"[^\r\n]+")


class Section(ABC):
    """The header section of one message: `feed()` its pieces, then `finish()`; both return octets.

    reach: octets of a line that `edit()` wants to see. suspect: finds each line that `edit()` might
    change and the CR or LF before it, the line as its group; it must see the first line in any case.
    """

    def __init__(self, reach: int, suspect: re.Pattern[bytes]) -> None:
        self._reach = reach
        self._suspect = suspect
        self._before = b"\r\n"  # the last octets seen, at most three
        self._held = b""  # the beginning of a line that is still too short to be judged
        self._inside = False  # what comes next continues a line that was judged
        self.first = True  # no line was edited yet
        self._open = True  # the section has not ended

    def feed(self, data: bytes) -> bytes:
        if not self._open:
            return data
        joined = self._before + data
        end = joined.find(b"\r\n\r\n")
        if end < 0:
            self._before = joined[-3:]
            return self._lines(data, last=False)
        self._open = False
        end += 4 - len(self._before)
        return self._lines(data[:end], last=True) + data[end:]

    def finish(self) -> bytes:
        return self._lines(b"", last=True) if self._open else b""

    def _lines(self, data: bytes, *, last: bool) -> bytes:
        data = self._held + data
        self._held = b""
        if not data:
            return b""
        if not last:
            data = self._hold(data)
        out: list[bytes] = []
        done = 0  # octets of data that stand in out, or are dropped
        for start, end in self._suspects(data):
            insert, skip = self.edit(data[start : min(end, start + self._reach)])
            self.first = False
            if insert or skip:
                out += (data[done:start], insert)
                done = start + skip
        self._inside = not self._held and data[-1] not in b"\r\n"
        return b"".join((*out, data[done:])) if out else data

    def _hold(self, data: bytes) -> bytes:
        """The data without an unfinished line at its end that is too short to be judged."""
        begin = max(data.rfind(b"\r"), data.rfind(b"\n")) + 1
        if len(data) - begin >= self._reach or (self._inside and not begin):
            return data
        self._held = data[begin:]
        return data[:begin]

    def _suspects(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where lines begin and end that `edit()` must see."""
        position = 0
        if self.first or self._inside or data[:1] not in {b"\r", b"\n", b""}:
            line = _LINE.search(data)  # begins here, or has begun in an earlier piece
            if line is None:
                return
            position = line.end()
            if not self._inside or line.start():
                yield line.span()
        for match in self._suspect.finditer(data, position):
            yield match.span(1)

    @abstractmethod
    def edit(self, head: bytes) -> tuple[bytes, int]:
        """What to insert before a line that begins so, and how many of its octets to drop."""
