"""A directory of mail files, as a daemon on an event loop writes into it.

`MailDrop.begin(envelope)` gives a Mail; pieces of the message are given to `write()`, and `commit()`
makes it durable. The loop never touches the disk. A small mail stays in memory and is handed whole to
the committer thread. A larger one is flushed piece by piece by one of a few worker threads while the
connection it comes from is not read (`write()` says when), synced there too, and joins the committer's
batch only to be linked, so that a sync of 50 MB holds up no batch. Memory is therefore bounded by
connections times FLUSH_SIZE.

This module is the bridge: threads report to it, and it resolves futures on the loop, one wake-up a
batch. Once `commit()` was called the mail runs to its end, whoever is left to hear of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from benno_common import log
from benno_common.durable import Committer, Directory, DirectoryUnusable, Draft, Job
from benno_common.envelope import Envelope
from benno_common.filename import FileNames
from benno_common.log import Stored
from benno_common.mailfile import Encoder

FLUSH_SIZE = 64 * 1024
WORKERS = 8
RECHECK_SECONDS = 1.0

_Result = TypeVar("_Result")
_Argument = TypeVar("_Argument")


class Mail:
    """One mail on its way into the directory. Made by MailDrop.begin, used on the loop only."""

    def __init__(self, drop: MailDrop, envelope: Envelope) -> None:
        self._drop = drop
        self._envelope = envelope
        self._encoder = Encoder(envelope)
        self._block = self._encoder.start()  # until it has been written
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._held = 0
        self._size = 0
        self._draft: Draft | None = None
        self._error: Exception | None = None
        self._flushing = False
        self._dropped = False

    def write(self, data: bytes) -> bool:
        """Take a piece of the message. True: enough is held, flush() before the next piece."""
        self._parts.append(data)
        self._held += len(data) + 64  # what a piece takes besides its octets
        return self._held >= FLUSH_SIZE

    def flush(self, then: Callable[[], None]) -> None:
        """Write what is held in a worker thread, then call `then` on the loop.

        An error is kept for commit(): the sender is answered at the end of the message.
        """
        data = self._take()
        self._flushing = True
        future = self._drop.in_worker(self._spill, data)
        future.add_done_callback(lambda _: self._flushed(then))

    def commit(self) -> asyncio.Future[Stored]:
        """Make the mail durable. Nothing may be called afterwards. The future raises what failed."""
        data = self._take()
        if self._draft is None and self._error is None:
            content = self._encode(data) + self._encoder.finish()
            self._answer = self._drop.promise()
            self._drop.submit(Job(content, None, self._names(len(content)), self._committed))
        else:
            future = self._drop.in_worker(self._finish, data)
            self._answer = self._drop.promise()
            future.add_done_callback(lambda done: self._finished(done.result()))
        return asyncio.shield(self._answer)  # who waits may be cancelled, and the mail is not

    def abort(self) -> None:
        """Forget the mail: nothing of it will ever be visible."""
        self._dropped = True
        self._parts.clear()
        if not self._flushing:
            self._drop.discard(self._draft)

    def _take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        return data

    def _encode(self, data: bytes) -> bytes:
        block, self._block = self._block, b""
        self._hash.update(data)
        self._size += len(data)
        return block + self._encoder.feed(data)

    def _spill(self, data: bytes) -> None:
        """In a worker thread: append a piece to the draft. Errors are kept."""
        if self._error is not None:
            return
        try:
            if self._draft is None:
                self._draft = self._drop.directory.draft()
            self._draft.write(self._encode(data))
            self._draft.start_writeback()
        except Exception as error:  # noqa: BLE001 - answered at the end of the message
            self._error = error.with_traceback(None)  # it would hold the piece

    def _finish(self, data: bytes) -> Job | Exception:
        """In a worker thread: write and sync the rest."""
        self._spill(data)
        if self._error is not None:
            self._drop.discard(self._draft)
            return self._error
        try:
            assert self._draft is not None
            self._draft.write(self._encoder.finish())
            self._draft.sync()
            return Job(None, self._draft, self._names(self._draft.size), self._committed)
        except Exception as error:  # noqa: BLE001 - answered at the end of the message
            self._drop.discard(self._draft)
            return error.with_traceback(None)

    def _finished(self, outcome: Job | Exception) -> None:
        if isinstance(outcome, Job):
            self._drop.submit(outcome)
        else:
            self._drop.recheck()
            self._answer.set_exception(outcome)

    def _committed(self, job: Job) -> None:
        """On the loop: the committer is done."""
        if job.stored is None:
            self._answer.set_exception(job.error or DirectoryUnusable("the committer gave no reason"))
        else:
            digest = self._hash.hexdigest()
            self._answer.set_result(Stored(job.stored, self._size, digest, self._encoder.escaped))

    def _flushed(self, then: Callable[[], None]) -> None:
        self._flushing = False
        if self._dropped:
            self._drop.discard(self._draft)
        else:
            then()

    def _names(self, size: int) -> Callable[[], str]:
        return lambda: self._drop.names.new(self._envelope.sender, size)


class MailDrop:
    """The directory at `path`. `open()` on the loop comes first, `close()` last.

    min_free: octets that stay free on the disk, 0 for none. label_names: put time and sender into the
    file names. died: called on the loop with the error if the committer thread ended; the process
    cannot go on then.
    """

    def __init__(
        self,
        path: str,
        *,
        min_free: int = 0,
        label_names: bool = False,
        died: Callable[[BaseException], None],
    ) -> None:
        self.directory = Directory(path)
        self._min_free = min_free
        self.names = FileNames(labelled=label_names)
        self._died = died
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="worker")
        self._promises: set[asyncio.Future[Stored]] = set()
        self._next_recheck = 0.0

    def open(self) -> None:
        """Check the directory and start the committer. Raises DirectoryUnusable."""
        self._loop = asyncio.get_running_loop()
        self.directory.open()
        self._committer = Committer(
            self.directory,
            self._min_free,
            report=lambda batch: self._call(_report, batch),
            changed=lambda reason: log.directory_changed(self.directory.path, reason),
            died=lambda error: self._call(self._died, error),
        )
        self._committer.start()

    async def close(self) -> None:
        """Finish the mails that were committed, then let go of the directory."""
        if self._promises:
            await asyncio.wait(self._promises)
        self._committer.stop()
        await self._loop.run_in_executor(None, self._committer.join)
        await self._loop.run_in_executor(None, self._workers.shutdown)
        self.directory.close()

    def begin(self, envelope: Envelope) -> Mail:
        return Mail(self, envelope)

    def refusal(self) -> tuple[str, str] | None:
        """Why no mail can be taken now: an SMTP reply and the reason for the log. None: it can."""
        committer = self._committer
        if reason := committer.trouble or committer.overload:
            self.recheck()
            return "451 4.3.0 The mail archive is not available", reason
        if reason := committer.shortage:
            self.recheck()
            return "452 4.3.1 The mail archive is short of space", reason
        return None

    def recheck(self) -> None:
        """Have the committer look at the disk, at most once a second."""
        now = time.monotonic()
        if now >= self._next_recheck:
            self._next_recheck = now + RECHECK_SECONDS
            self._committer.recheck()

    def promise(self) -> asyncio.Future[Stored]:
        """A future that close() waits for."""
        answer = self._loop.create_future()
        self._promises.add(answer)
        answer.add_done_callback(self._promises.discard)
        return answer

    def in_worker(self, work: Callable[[bytes], _Result], data: bytes) -> asyncio.Future[_Result]:
        return self._loop.run_in_executor(self._workers, work, data)

    def discard(self, draft: Draft | None) -> None:
        """Close a draft in a worker: to free what it holds, the disk may take its time."""
        if draft is not None:
            with contextlib.suppress(RuntimeError):  # they have ended, and so does the process
                self._workers.submit(draft.close)

    def submit(self, job: Job) -> None:
        self._committer.submit(job)

    def _call(self, function: Callable[[_Argument], None], argument: _Argument) -> None:
        """From the committer's thread onto the loop."""
        self._loop.call_soon_threadsafe(function, argument)


def _report(batch: list[Job]) -> None:
    for job in batch:
        job.done(job)
