"""One mail on its way into a directory: pieces of the message in, a durable file out.

`MailDrop.begin(envelope)` makes it; pieces are given to `write()`, and `commit()` makes it durable. A
small mail stays in memory and is handed whole to the committer thread. A larger one is flushed piece by
piece by one of a few worker threads (`write()` says when), synced there too, and joins the committer's
batch only to be linked, so that a sync of 50 MB holds up no batch. It takes nothing while a piece is
flushed, so that it holds one piece; how much more is read meanwhile is for the connection to bound.
How large a piece is depends on how many mails are under way, and so does what is a small mail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from benno_common import log
from benno_common.durable import DirectoryUnusable, Draft, Job
from benno_common.envelope import Envelope
from benno_common.log import Stored
from benno_common.mailfile import Encoder

if TYPE_CHECKING:
    from benno_common.maildrop import MailDrop

OVERHEAD = 64  # octets that a piece takes besides its own


class Mail:
    """Made by MailDrop.begin, used on the loop only."""

    def __init__(self, drop: MailDrop, envelope: Envelope) -> None:
        self._drop = drop
        self._envelope = envelope
        self._encoder = Encoder(envelope if drop.with_envelope else None)
        self._block = self._encoder.start()  # until it has been written
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._held = 0
        self._size = 0
        self._draft: Draft | None = None
        self._error: Exception | None = None
        self._flushing = False
        self._dropped = False
        self._ended = False
        drop.mails += 1

    def write(self, data: bytes) -> bool:
        """Take a piece of the message. True: enough is held, flush() before the next piece."""
        self._parts.append(data)
        self._held += len(data) + OVERHEAD
        return self._held >= self._drop.piece

    def flush(self, then: Callable[[], None]) -> None:
        """Write what is held in a worker thread, then call `then` on the loop.

        An error is kept for commit(): the sender is answered at the end of the message.
        """
        self._drop.in_worker(self._spill, self._take(), lambda _: self._flushed(then))
        self._flushing = True  # not before: where no worker takes it, nobody would let go of the draft

    def commit(self, then: Callable[[Stored | Exception], None], queue_id: str | None = None) -> None:
        """Make the mail durable, in a file whose name has the queue id.

        then: called on the loop with what was stored, or with what failed. Nothing may be called on
        this mail afterwards.
        """
        self._then, self._queue_id = then, queue_id
        data = self._take()
        if self._draft is None and self._error is None:
            content = self._encode(data) + self._encoder.finish()
            self._drop.submit(Job(content, None, self._names(len(content)), self._committed))
        else:
            self._drop.in_worker(self._finish, data, self._finished)
        self._drop.began()

    def abort(self) -> None:
        """Forget the mail: nothing of it will ever be visible."""
        self._dropped = True
        self._parts.clear()
        if not self._flushing:
            self._end()
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
            self._draft.expect_room(self._drop.min_free)
        except Exception as error:  # noqa: BLE001 - answered at the end of the message
            self._error = error.with_traceback(None)  # it would hold the piece
            if self._draft is not None:
                self._draft.close()  # what it has taken of the disk is for other mails now

    def _finish(self, data: bytes) -> Job | Exception:
        """In a worker thread: write and sync the rest."""
        self._spill(data)
        if self._error is not None:
            return self._error
        assert self._draft is not None
        try:
            self._draft.write(self._encoder.finish())
            self._draft.sync()
            return Job(None, self._draft, self._names(self._draft.size), self._committed)
        except Exception as error:  # noqa: BLE001 - answered at the end of the message
            self._draft.close()
            return error.with_traceback(None)

    def _finished(self, outcome: Job | Exception) -> None:
        try:
            if isinstance(outcome, Job):
                self._drop.submit(outcome)
                return
            self._drop.recheck()
        except Exception as error:  # noqa: BLE001 - who waits must hear of it
            self._drop.discard(self._draft)
            outcome = error
        self._tell(outcome)

    def _committed(self, job: Job) -> None:
        """On the loop: the committer is done."""
        if job.stored is None:
            self._tell(job.error or DirectoryUnusable("the committer gave no reason"))
        else:
            digest = self._hash.hexdigest()
            self._tell(Stored(job.stored, self._size, digest, self._encoder.escaped))

    def _tell(self, outcome: Stored | Exception) -> None:
        self._end()
        self._drop.ended()
        try:
            self._then(outcome)
        except Exception as error:  # noqa: BLE001 - others of the batch wait to be told, too
            log.unexpected(self._queue_id, error)

    def _flushed(self, then: Callable[[], None]) -> None:
        self._flushing = False
        if self._dropped:
            self._end()
            self._drop.discard(self._draft)
        else:
            then()

    def _end(self) -> None:
        """It holds nothing any more."""
        self._drop.mails -= not self._ended
        self._ended = True

    def _names(self, size: int) -> Callable[[], str]:
        return lambda: self._drop.names.new(self._envelope.sender, size, self._queue_id)
