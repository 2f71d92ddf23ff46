"""The names of the mails that wait, oldest first, in windows: a million of them fit into no short list.

A run ends with what was there when the directory was last listed; what comes later waits for the next.
"""

from __future__ import annotations

import asyncio
from collections import deque

from benno_common import spool
from benno_common.spool import Spool


class Backlog:
    """Each name once, unless it is put back."""

    def __init__(self, spooled: Spool) -> None:
        self._spool = spooled
        self._names: deque[str] = deque()
        self._last: str | None = None
        self._ended = False
        self._listing = asyncio.Lock()

    async def next(self) -> str | None:
        """The oldest that is left; None at the end. Raises OSError where none can be listed."""
        async with self._listing:
            if not self._names and not self._ended:
                window = await asyncio.to_thread(self._spool.window, self._last)
                self._ended = len(window) < spool.WINDOW
                self._last = window[-1] if window else None
                self._names.extend(window)
        return self._names.popleft() if self._names else None

    def skip_ahead(self) -> None:
        """Go on in the middle of what was listed; the older half comes after the other."""
        self._names.rotate(-(len(self._names) // 2))

    def put_back(self, names: list[str]) -> None:
        """To be given out next, in this order."""
        self._names.extendleft(reversed(names))
