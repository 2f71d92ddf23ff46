"""A committer under a test's control: exact batches, the calls it makes, and faults at chosen calls.

bench = Bench(directory)
calls = SystemCalls(monkeypatch)
calls.fail("fdatasync", errno.EIO, nth=2)
first, second, third = bench.batch(job("a"), job("b"), job("c"))
assert bench.outcome(first) == "stored"
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benno_common.durable import Committer, Directory, Draft, Job

SECONDS = 30.0


def job(*names: str, content: bytes = b"content", draft: Draft | None = None) -> Job:
    """A job that asks for these names, one after the other. done does nothing."""
    return Job(None if draft else content, draft, iter(names).__next__, lambda _: None)


def outcome(done: Job) -> str:
    """`stored NAME`, or the error. Both or neither is a fault of the committer."""
    assert (done.stored is None) != (done.error is None), done
    return f"stored {done.stored}" if done.error is None else str(done.error)


class Bench:
    """A committer's thread that commits what one `batch()` gives it, and no more, at a time.

    changes: what it told of the directory. deaths: what it died of. events: SystemCalls writes the
    calls there, and we the reports.
    """

    def __init__(self, directory: Directory, min_free: int = 0) -> None:
        self.changes: list[str | None] = []
        self.deaths: list[BaseException] = []
        self.events: list[str] = []
        self._reported: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()
        self._gate = threading.Semaphore(0)
        self._ending = False
        self.committer = Committer(
            directory,
            min_free,
            report=self._report,
            changed=self.changes.append,
            died=self.deaths.append,
        )

    def batch(self, *jobs: Job) -> list[str]:
        """Commit these together; the outcome of each."""
        assert jobs
        for one in jobs:
            self.committer.submit(one)
        self.go_on()
        reported = self._reported.get(timeout=SECONDS)
        assert reported == list(jobs)
        return [outcome(one) for one in jobs]

    def look(self) -> None:
        """Have the committer look at the directory. After this no `batch()` is exact any more."""
        self.committer.recheck()
        self.go_on()

    def end(self) -> None:
        """Stop the committer as a daemon does."""
        self._ending = True
        self.committer.stop()
        self.go_on()
        self.committer.join(SECONDS)
        assert not self.committer.is_alive()

    def go_on(self) -> None:
        if self.committer.ident is None:
            self.committer.start()
        else:
            self._gate.release()

    def _report(self, batch: list[Job]) -> None:
        """In the committer's thread: keep it here until the next batch is complete."""
        self.events.append("report")
        self._reported.put(batch)
        if not self._ending:
            self._gate.acquire()


@contextmanager
def bench(directory: Directory, min_free: int = 0) -> Iterator[Bench]:
    """A bench that has ended well at the end."""
    made = Bench(directory, min_free)
    try:
        yield made
    finally:
        if made.committer.is_alive():
            made.end()
    assert made.deaths == []


class SystemCalls:
    """Watches the calls of the committer's threads, has some fail, or something happen before one."""

    NAMES = ("open", "write", "posix_fadvise", "fdatasync", "link", "fsync", "unlink", "stat")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, events: list[str]) -> None:
        self.made = events
        self._faults: dict[str, tuple[int, int | None]] = {}  # error number, and at which call
        self._counts: dict[str, int] = {}
        self._event: tuple[int, Callable[[], None]] | None = None
        self._watching = threading.RLock()  # an event may make calls, too
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def fail(self, name: str, code: int, *, nth: int | None = None) -> None:
        """Have the nth call from now on fail, or every one."""
        self._counts[name] = 0
        self._faults[name] = (code, nth)

    def before(self, nth: int, event: Callable[[], None]) -> None:
        """Have something happen before the nth call of them all."""
        self._event = len(self.made) + nth, event

    def heal(self) -> None:
        self._faults.clear()

    def count(self, name: str) -> int:
        return self.made.count(name)

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            if threading.current_thread().name in {"committer", "syncer"}:
                with self._watching:
                    self._see(name)
            return call(*arguments, **named)

        return watched

    def _see(self, name: str) -> None:
        self.made.append(name)
        if self._event and len(self.made) == self._event[0]:
            event, self._event = self._event[1], None
            event()
        self._counts[name] = self._counts.get(name, 0) + 1
        code, nth = self._faults.get(name, (0, None))
        if code and nth in {None, self._counts[name]}:
            raise OSError(code, os.strerror(code))


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))


def around(directory: Directory) -> list[str]:
    """What lies in the directory and, but for it and the staging directory, beside it."""
    place = Path(directory.path)
    beside = [path.name for path in place.parent.iterdir() if path != place]
    staged = [path.name for path in place.parent.glob(".*.staging/*") if path.name != "lock"]
    inside = [path.name for path in place.iterdir()]
    return sorted(inside + staged + [name for name in beside if not name.endswith(".staging")])
