"""The mails that wait, oldest first: their names in windows, for a million fit into no short list.

A run ends with what was there when the directory was last listed; what comes later waits for the next.

Small mails are opened ahead, some in one go of a thread: to wake a thread for each costs as much as to
read it. They are few, and given out soon or opened anew, so that what is sent is what lies there now.

A directory with other files than mail is a spool that somebody got wrong: nothing in it is touched.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from itertools import islice

from benno_common import spool
from benno_common.filename import size_of
from benno_common.mailfile import MailFileError
from benno_common.service import Exit
from benno_common.spool import MOST_FOREIGN, Spool
from benno_milter2smtp.parcel import Parcel, open_parcel

AHEAD = 16  # mails
AHEAD_OCTETS = 128 * 1024  # of their files together
AHEAD_SECONDS = 1.0

_SAMPLE = 10  # files at either end


class Opened:
    """A mail that was opened, or what went wrong."""

    def __init__(self, spooled: Spool, name: str) -> None:
        self.name = name
        self._parcel: Parcel | Exception
        try:
            self._parcel = open_parcel(spooled, name)
        except Exception as error:  # noqa: BLE001 - of whoever sends it
            self._parcel = error

    def parcel(self) -> Parcel:
        """Raises what open_parcel() raised."""
        if isinstance(self._parcel, Exception):
            raise self._parcel
        return self._parcel


class Backlog:
    """Each mail once, unless it is put back."""

    def __init__(self, spooled: Spool) -> None:
        self._spool = spooled
        self._names: deque[str] = deque()  # those of the mails that were opened among them, first
        self._opened: deque[Opened] = deque()
        self._stale = 0.0  # when they will be
        self._last: str | None = None
        self._ended = False
        self._busy = asyncio.Lock()

    async def next(self) -> Opened | None:
        """The oldest that is left; None at the end.

        Raises OSError where none can be listed, Exit where these are no mails.
        """
        async with self._busy:
            while not self._fresh():
                if not self._names and not self._ended:
                    await self._list()
                if not self._names:
                    return None
                some = self._some()
                if len(some) == 1:
                    name = self._names.popleft()
                    break
                await self._open(some)
            else:
                self._names.popleft()
                return self._opened.popleft()
        return await asyncio.to_thread(Opened, self._spool, name)

    def turn_round(self) -> None:
        """Go on at the other end of what was listed: with the newest, or with the oldest again."""
        self._names.reverse()
        self._opened.clear()

    def put_back(self, names: list[str]) -> None:
        """To be given out next, in this order."""
        self._names.extendleft(reversed(names))
        self._opened.clear()

    def _fresh(self) -> bool:
        """Whether the next mail is open, and has not been for long."""
        if self._opened and asyncio.get_running_loop().time() > self._stale:
            self._opened.clear()
        return bool(self._opened)

    def _some(self) -> list[str]:
        """The next, and as many more as are opened in one go."""
        some: list[str] = []
        octets = 0
        for name in islice(self._names, AHEAD):
            octets += size_of(name) or AHEAD_OCTETS
            if some and octets > AHEAD_OCTETS:
                break
            some.append(name)
        return some

    async def _open(self, names: list[str]) -> None:
        opened = await asyncio.to_thread(lambda: [Opened(self._spool, name) for name in names])
        if list(islice(self._names, len(names))) == names:  # else other mails come first now
            self._opened.extend(opened)
            self._stale = asyncio.get_running_loop().time() + AHEAD_SECONDS

    async def _list(self) -> None:
        window = await asyncio.to_thread(self._window)
        self._ended = len(window) < spool.WINDOW
        self._last = window[-1] if window else None
        self._names.extend(window)

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
