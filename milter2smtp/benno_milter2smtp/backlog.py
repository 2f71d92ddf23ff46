"""The names of the mails that wait, oldest first, in windows: a million of them fit into no short list.

A run ends with what was there when the directory was last listed; what comes later waits for the next.

A directory with other files than mail is a spool that somebody got wrong: nothing in it is touched.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque

from benno_common import spool
from benno_common.mailfile import MailFileError
from benno_common.service import Exit
from benno_common.spool import MOST_FOREIGN, Spool

_SAMPLE = 10  # files at either end


class Backlog:
    """Each name once, unless it is put back."""

    def __init__(self, spooled: Spool) -> None:
        self._spool = spooled
        self._names: deque[str] = deque()
        self._last: str | None = None
        self._ended = False
        self._listing = asyncio.Lock()

    async def next(self) -> str | None:
        """The oldest that is left; None at the end.

        Raises OSError where none can be listed, Exit where these are no mails.
        """
        async with self._listing:
            if not self._names and not self._ended:
                window = await asyncio.to_thread(self._window)
                self._ended = len(window) < spool.WINDOW
                self._last = window[-1] if window else None
                self._names.extend(window)
        return self._names.popleft() if self._names else None

    def turn_round(self) -> None:
        """Go on at the other end of what was listed: with the newest, or with the oldest again."""
        self._names.reverse()

    def put_back(self, names: list[str]) -> None:
        """To be given out next, in this order."""
        self._names.extendleft(reversed(names))

    def _window(self) -> list[str]:
        window = self._spool.window(self._last)
        if self._last is None:
            self._expect_mail(window)
        return window

    def _expect_mail(self, window: list[str]) -> None:
        sample = [*window[:_SAMPLE], *window[-_SAMPLE:]] if len(window) >= _SAMPLE else []
        if sample and not any(self._is_mail(name) for name in sample):
            what = f"{sample[0]} and others do not begin with an envelope"
        elif not window and len(self._spool.foreign) == MOST_FOREIGN:
            what = f"{', '.join(sorted(self._spool.foreign))} are no mail"
        else:
            return
        raise Exit(os.EX_CONFIG, f"{self._spool.path} is no spool, nothing in it was touched: {what}")

    def _is_mail(self, name: str) -> bool:
        try:
            self._spool.read(name)
        except MailFileError:
            return False
        except OSError:  # perhaps; whoever sends it will see
            pass
        return True
