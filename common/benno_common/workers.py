"""A few threads for what waits for the disk, and their reports to the loop.

An executor's future, and asyncio's about it, cost a hundred Python calls for each piece of a mail. Here
a piece is put into a queue, and what became of it is told by callback.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from benno_common import log

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")


class Workers:
    """So many threads at the most, one begun with each of the first tasks. Used on the loop only."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._threads: list[threading.Thread] = []
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopped = False

    def do(
        self,
        work: Callable[[_Argument], _Result],
        argument: _Argument,
        then: Callable[[_Result], Any],
    ) -> None:
        """Do it in a thread, then call `then` on the loop. work: must not raise.

        Raises RuntimeError where there is no thread and none can be had.
        """
        loop = asyncio.get_running_loop()

        def task() -> None:
            result = work(argument)
            with contextlib.suppress(RuntimeError):  # the loop has ended, nobody waits
                loop.call_soon_threadsafe(then, result)

        self.submit(task)

    def submit(self, task: Callable[[], None]) -> None:
        """Do it in a thread. It must not raise. Raises RuntimeError as do(), and after stop()."""
        if self._stopped:
            raise RuntimeError("the workers were stopped")
        if len(self._threads) < self._number:
            self._begin_another()
        self._tasks.put(task)

    def stop(self) -> None:
        """Do what is still to be done, and wait for it. In any thread."""
        self._stopped = True
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _begin_another(self) -> None:
        thread = threading.Thread(target=self._run, name="worker", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there are too many in the system
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception as error:  # noqa: BLE001 - the thread is there for other mails, too
                log.unexpected(None, error)
            del task  # nothing of it is held while we wait for the next
