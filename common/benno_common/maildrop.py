"""A directory of mail files, as a daemon on an event loop writes into it.

`MailDrop.begin(envelope)` gives a Mail (`mail`). The loop never touches the disk: the committer thread
and a few workers do. This module is the bridge: it hands jobs over once a turn of the loop, threads
report to it, and it tells each mail on the loop, one wake-up a batch. Once `commit()` was called the
mail runs to its end, whoever is left to hear of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from benno_common import log
from benno_common.durable import Committer, Directory, Draft, Job
from benno_common.envelope import Envelope
from benno_common.filename import FileNames
from benno_common.mail import Mail
from benno_common.workers import Workers

WORKERS = 8

# What a mail may hold in memory. To hand it to a worker and back takes 0.2 to 0.5 ms of CPU, however
# little it is.
SMALLEST_PIECE, LARGEST_PIECE = 64 * 1024, 256 * 1024  # octets
PIECES = 8 * 1024 * 1024  # octets of all mails together, above the smallest

MAX_WAITING = 32 * 1024 * 1024  # octets of all mails that wait for the disk
RECHECK_SECONDS = 1.0
NO_SPACE = "452 4.3.1 The mail archive is short of space"

_Result = TypeVar("_Result")
_Argument = TypeVar("_Argument")


class MailDrop:
    """The directory at `path`. `open()` on the loop comes first, `close()` last.

    min_free: octets that stay free on the disk, 0 for none. label_names: put time and sender into the
    file names. with_envelope: write the block of trusted headers. died: called on the loop with the
    error if the committer thread ended; the process cannot go on then.
    """

    def __init__(
        self,
        path: str,
        *,
        min_free: int = 0,
        label_names: bool = False,
        with_envelope: bool = True,
        died: Callable[[BaseException], None],
    ) -> None:
        self.directory = Directory(path)
        self.min_free = min_free
        self.with_envelope = with_envelope
        self.names = FileNames(labelled=label_names)
        self._died = died
        self._workers = Workers(WORKERS)
        self._under_way = 0  # mails that were committed and not told of
        self._handed = 0  # octets that the workers have
        self.mails = 0  # that were begun and still hold something
        self._idle = asyncio.Event()
        self._jobs: list[Job] = []  # to be handed over at the end of this turn of the loop
        self._next_recheck = 0.0

    def open(self) -> None:
        """Check the directory and start the committer. Raises DirectoryUnusable."""
        self._loop = asyncio.get_running_loop()
        self.directory.open()
        self._committer = Committer(
            self.directory,
            self.min_free,
            report=lambda batch: self._call(_report, batch),
            changed=lambda reason: log.directory_changed(self.directory.path, reason),
            died=lambda error: self._call(self._died, error),
        )
        self._committer.start()

    async def close(self) -> None:
        """Finish the mails that were committed, then let go of the directory."""
        if self._under_way:
            self._idle.clear()
            await self._idle.wait()
        self._committer.stop()
        await self._loop.run_in_executor(None, self._committer.join)
        await self._loop.run_in_executor(None, self._workers.stop)
        self.directory.close()

    def begin(self, envelope: Envelope) -> Mail:
        return Mail(self, envelope)

    def refusal(self, size: int = 0) -> tuple[str, str] | None:
        """Why no mail of `size` octets can be taken now: an SMTP reply and the reason for the log."""
        committer = self._committer
        if reason := committer.trouble or self._overload:
            self.recheck()
            return "451 4.3.0 The mail archive is not available", reason
        if reason := committer.shortage:
            self.recheck()
            return NO_SPACE, reason
        if size > committer.room:
            self.recheck()
            return NO_SPACE, f"{size} octets are announced, there is room for {committer.room}"
        return None

    @property
    def _overload(self) -> str | None:
        """What waits in memory where that is too much: the disk hangs, and each mail comes again."""
        waiting = self._committer.waiting + self._handed
        return f"{waiting} octets wait for the disk" if waiting > MAX_WAITING else None

    @property
    def piece(self) -> int:
        """Octets that a mail may hold: the more mails are under way, the fewer."""
        return max(SMALLEST_PIECE, min(LARGEST_PIECE, PIECES // max(1, self.mails)))

    def recheck(self) -> None:
        """Have the committer look at the disk, at most once a second."""
        now = time.monotonic()
        if now >= self._next_recheck:
            self._next_recheck = now + RECHECK_SECONDS
            self._committer.recheck()

    def began(self) -> None:
        """A mail was committed: close() waits for it."""
        self._under_way += 1

    def ended(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    def in_worker(
        self, work: Callable[[bytes], _Result], data: bytes, then: Callable[[_Result], None]
    ) -> None:
        """Do `work`, which must not raise, with the data in a thread, then `then` on the loop."""
        size = len(data)

        def returned(result: _Result) -> None:
            self._handed -= size
            then(result)

        self._workers.do(work, data, returned)
        self._handed += size

    def discard(self, draft: Draft | None) -> None:
        """Close a draft in a worker: to free what it holds, the disk may take its time."""
        if draft is not None:
            with contextlib.suppress(RuntimeError):  # they have ended, and so does the process
                self._workers.submit(draft.close)

    def submit(self, job: Job) -> None:
        """Each hand-over wakes the committer's thread, which costs more than all else here."""
        if not self._jobs:
            self._loop.call_soon(self._hand_over)
        self._jobs.append(job)

    def _hand_over(self) -> None:
        jobs, self._jobs = self._jobs, []
        self._committer.submit(*jobs)

    def _call(self, function: Callable[[_Argument], None], argument: _Argument) -> None:
        """From the committer's thread onto the loop."""
        self._loop.call_soon_threadsafe(function, argument)


def _report(batch: list[Job]) -> None:
    for job in batch:
        job.done(job)
