"""The committer: one thread that makes many files durable with few syncs.

While one batch is being synced the next one collects. Of a batch, every file is written and its
writeback started before the first sync waits, so that the disk works on all of them at once; then all
are synced side by side (`syncing`), each is linked, and one sync of the directory makes all names
durable.

Errors are judged as narrowly as is safe. A file that cannot be written, synced or linked fails alone.
A directory that cannot be synced, or no longer lies at its path, fails the batch; then nothing is
accepted until the directory has been opened and tried anew, at most once a second.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from benno_common.durable.directory import Directory
from benno_common.durable.draft import Draft
from benno_common.durable.syncing import SideBySide
from benno_common.durable.trial import DirectoryUnusable

BATCH = 64
RETRY_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class Job:
    """One file to be made durable.

    content: the whole file, or None where `draft` holds it, written and synced. name: makes a new
    name at each call. done: for the owner's use, never called here. Afterwards either `stored` is
    the name or `error` says why there is no file.
    """

    content: bytes | None
    draft: Draft | None
    name: Callable[[], str]
    done: Callable[[Job], None]
    stored: str | None = None
    error: Exception | None = None


class Committer(threading.Thread):
    """Makes jobs durable until `stop()`.

    report: called in this thread with each finished batch. changed: called in this thread when the
    directory becomes unusable (the reason) or usable again (None). died: called if the thread ends
    for any other reason than `stop()`; nothing is accepted any more then.
    """

    def __init__(
        self,
        directory: Directory,
        min_free: int,
        *,
        report: Callable[[list[Job]], None],
        changed: Callable[[str | None], None],
        died: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name="committer", daemon=True)
        self._directory = directory
        self._min_free = min_free
        self._report = report
        self._changed = changed
        self._died = died
        self._queue: queue.SimpleQueue[tuple[Job, ...]] = queue.SimpleQueue()
        self._syncing = SideBySide(_sync)
        self._submitted = 0  # octets, counted by the thread that submits
        self._finished = 0  # octets, counted by this one
        self._stopping = False
        self._next_try = 0.0
        self.trouble: str | None = None  # why the directory takes nothing
        self.shortage, self.room = directory.reserve(min_free)

    @property
    def waiting(self) -> int:
        """Octets of jobs that were submitted and not finished."""
        return self._submitted - self._finished

    def submit(self, *jobs: Job) -> None:
        self._submitted += sum(len(job.content or b"") for job in jobs)
        self._queue.put(jobs)

    def recheck(self) -> None:
        """Look at the directory and the reserve soon, even if there is nothing to do."""
        self._queue.put(())

    def stop(self) -> None:
        """Finish what was submitted, then end."""
        self._stopping = True
        self._queue.put(())

    def run(self) -> None:
        try:
            while not (self._stopping and self._queue.empty()):
                batch = self._collect()
                self._commit(batch)
                self._finished += sum(len(job.content or b"") for job in batch)
                if batch:
                    self._report(batch)
                del batch  # nothing of it is held while we wait for the next
        except BaseException as error:  # noqa: BLE001 - the process must hear of it
            self._died(error)
        self._syncing.stop()

    def _collect(self) -> list[Job]:
        jobs = list(self._queue.get())
        with contextlib.suppress(queue.Empty):
            while len(jobs) < BATCH:
                jobs += self._queue.get_nowait()
        return jobs

    def _commit(self, batch: list[Job]) -> None:
        if not self._usable():
            for job in batch:
                _fail(job, DirectoryUnusable(self.trouble))
            return
        for job in batch:
            _attempt(job, self._write)
        self._syncing.do([job for job in batch if job.content is not None and job.error is None])
        for job in batch:
            if job.error is None:
                _attempt(job, _link)
        try:
            stored = any(job.stored for job in batch)
            if stored:
                self._directory.sync()
            self._directory.verify()
            if batch and not stored:
                self._directory.check()  # is it these files, or would any other fail?
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was acknowledged yet
            self._withdraw(batch, error)
        for job in batch:
            _let_go(job)
        with contextlib.suppress(OSError):
            self.shortage, self.room = self._directory.reserve(self._min_free)

    def _write(self, job: Job) -> None:
        if job.draft is None:
            assert job.content is not None
            job.draft = self._directory.draft()
            job.draft.write(job.content)
            job.draft.start_writeback()
        elif job.draft.place is not self._directory.place:
            raise DirectoryUnusable(
                f"{self._directory.path} was opened anew while the file was written"
            )

    def _withdraw(self, batch: list[Job], error: Exception) -> None:
        """The directory failed: refuse all that it was to hold, and open it anew before the next."""
        self.trouble = str(error)
        self._next_try = 0.0
        for job in batch:
            if job.stored is not None:
                with contextlib.suppress(OSError):
                    self._directory.unlink(job.stored)
                job.stored = None
                job.error = error.with_traceback(None)
        self._directory.let_go()
        self._changed(self.trouble)

    def _usable(self) -> bool:
        if self.trouble is None:
            return True
        if time.monotonic() < self._next_try:
            return False
        self._next_try = time.monotonic() + RETRY_SECONDS
        try:
            self._directory.open()
        except Exception as error:  # noqa: BLE001 - tried again, and told to each mail
            self.trouble = str(error)
            return False
        self.trouble = None
        self._changed(None)
        return True


def _sync(job: Job) -> None:
    """In any thread. Never raises."""
    try:
        assert job.draft is not None
        job.draft.sync()
    except Exception as error:  # noqa: BLE001 - one mail must not stop the others
        _fail(job, error)


def _link(job: Job) -> None:
    assert job.draft is not None
    for _ in range(100):
        name = job.name()
        with contextlib.suppress(FileExistsError):
            job.draft.link(name)
            job.stored = name
            return
    raise FileExistsError(f"a hundred names exist already, the last was {name}")


def _attempt(job: Job, step: Callable[[Job], None]) -> None:
    try:
        step(job)
    except Exception as error:  # noqa: BLE001 - one mail must not stop the others
        _fail(job, error)


def _fail(job: Job, error: Exception) -> None:
    job.error = error.with_traceback(None)  # it would hold the job's octets until it is heard of
    _let_go(job)


def _let_go(job: Job) -> None:
    if job.draft is not None:
        job.draft.close()
