"""The header section of a message as a stream: its lines are found and may be edited where they begin.

The section ends with the first CRLFCRLF, counting a CRLF before the message, else with the message.
Its lines are maximal runs of octets other than CR and LF, which need not come in pairs. What follows
the section passes unseen. Only the beginning of one line is ever held.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

_LINE = re.compile(rb"[^\r\n]+")


class Section(ABC):
    """The header section of one message: `feed()` its pieces, then `finish()`; both return octets.

    reach: octets of a line that `edit()` wants to see.
    """

    def __init__(self, reach: int) -> None:
        self._reach = reach
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
        out: list[bytes] = []
        done = 0  # octets of data that stand in out, or are dropped
        for match in _LINE.finditer(data):
            start, end = match.span()
            if self._inside and start == 0:
                continue
            if end == len(data) and end - start < self._reach and not last:
                self._held = data[start:]
                break
            insert, skip = self.edit(data[start : min(end, start + self._reach)])
            self.first = False
            if insert or skip:
                out += (data[done:start], insert)
                done = start + skip
        self._inside = not self._held and data[-1] not in b"\r\n"
        out.append(data[done : len(data) - len(self._held)])
        return b"".join(out)

    @abstractmethod
    def edit(self, head: bytes) -> tuple[bytes, int]:
        """What to insert before a line that begins so, and how many of its octets to drop."""
