"""Work that is done side by side: all of it, at once, by as many threads as can be had."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from benno_common.durable import syncing
from benno_common.durable.syncing import SideBySide
from waiting import wait_for


def threads() -> int:
    return sum(thread.name == "syncer" for thread in threading.enumerate())


class Work:
    """Remembers what was done, and by whom."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.by: set[str] = set()
        self.together: threading.Barrier | None = None  # so many must be at work at once

    def __call__(self, item: int) -> None:
        if self.together is not None:
            self.together.wait(30)
        self.by.add(threading.current_thread().name)
        self.done.append(item)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def side_by_side(work: Work) -> Iterator[SideBySide[int]]:
    made = SideBySide(work)
    yield made
    made.stop()
    wait_for(lambda: not threads(), "the threads have ended")


@pytest.mark.parametrize("items", [0, 1, 2, 3, 15, 16, 17, 64, 200])
def test_all_is_done_once(side_by_side: SideBySide[int], work: Work, items: int) -> None:
    for _ in range(3):
        side_by_side.do(range(items))
        assert sorted(work.done) == list(range(items))
        work.done.clear()
    assert threads() == max(0, min(items, syncing.THREADS) - 1)


def test_one_item_needs_no_thread(side_by_side: SideBySide[int], work: Work) -> None:
    side_by_side.do([1])
    assert work.by == {threading.current_thread().name}


@pytest.mark.parametrize("items", [2, 16])
def test_at_once(side_by_side: SideBySide[int], work: Work, items: int) -> None:
    work.together = threading.Barrier(items)
    side_by_side.do(range(items))
    assert sorted(work.done) == list(range(items))


@pytest.mark.parametrize("granted", [0, 1, 5])
def test_threads_that_cannot_be_had(
    side_by_side: SideBySide[int], work: Work, monkeypatch: pytest.MonkeyPatch, granted: int
) -> None:
    begin = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if threads() >= granted:
            raise RuntimeError("can't start new thread")
        begin(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        side_by_side.do(range(64))
    assert sorted(work.done) == list(range(64))
    assert threads() == granted
    side_by_side.do(range(64))  # now they can
    assert threads() == syncing.THREADS - 1
