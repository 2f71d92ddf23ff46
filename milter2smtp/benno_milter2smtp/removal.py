"""Taking delivered mails out of the spool, in batches: while one is synced the next collects.

A mail is handed over here after the 250 to its end and never before. When taking out fails, the run
must stop: what cannot be removed would be sent again, and again by the next run. A single file that
cannot be taken out (immutable, or somebody else's in a sticky directory) does not keep the others here.
A file that came under the name of a mail while that was sent was not sent, and stays.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

from benno_common import log
from benno_common.spool import Spool, Stamp

_MOST = 256  # delivered mails that wait; a crash sends each of them a second time
_STUCK = 10  # in a row
_OF_ONE_FILE = {errno.EPERM, errno.EACCES, errno.EBUSY}


class Removal:
    """take_out: removes or moves files for good, blocking; called in a thread, one call at a time.

    left: how many files were left where they are.
    """

    def __init__(
        self,
        spool: Spool,
        take_out: Callable[[list[str]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.left = 0
        self._stuck = 0  # in a row
        self._spool = spool
        self._take_out = take_out
        self._failed = failed
        self._waiting: list[tuple[str, Stamp]] = []
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._dead = False

    async def add(self, name: str, stamp: Stamp) -> None:
        """Take this mail out soon; waits only while very many wait. Does nothing after a failure."""
        if self._dead:
            return
        self._waiting.append((name, stamp))
        if len(self._waiting) >= _MOST:
            self._room.clear()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())
        await self._room.wait()

    async def finish(self) -> None:
        """Return when all that was added is out, or has failed."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                self._room.set()
                await asyncio.to_thread(self._take, batch)
        except Exception as error:  # noqa: BLE001 - not tried again: a good sync after a bad one says nothing
            self._dead = True
            self._failed(error)
        finally:
            self._room.set()
            self._task = None

    def _take(self, batch: list[tuple[str, Stamp]]) -> None:
        replaced = {name for name, stamp in batch if self._spool.is_replaced(name, stamp)}
        for name in replaced:
            log.mail_kept(name, host="", reason="another file of this name came while it was sent")
        self.left += len(replaced)
        names = [name for name, _ in batch if name not in replaced]
        try:
            self._take_out(names)
        except OSError as error:
            if error.errno not in _OF_ONE_FILE:
                raise
            self._take_one_by_one(names)

    def _take_one_by_one(self, names: list[str]) -> None:
        """A batch in which not all can be taken out. What is out already is passed over."""
        for name in names:
            try:
                self._take_out([name])
                self._stuck = 0
            except OSError as error:
                self._stuck += 1
                if error.errno not in _OF_ONE_FILE or self._stuck == _STUCK:
                    raise
                self.left += 1
                reason = f"it was sent, and will be again, for it cannot be removed: {error.strerror}"
                log.mail_kept(name, host="", reason=reason)
