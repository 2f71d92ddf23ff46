"""Threads for what waits for the disk."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

from benno_common.workers import Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(2)
    yield made
    made.stop()


def test_results_come_on_the_loop(workers: Workers) -> None:
    told: list[tuple[int, threading.Thread]] = []

    async def run() -> None:
        ended = asyncio.Event()

        def then(result: int) -> None:
            told.append((result, threading.current_thread()))
            if len(told) == 10:
                ended.set()

        for number in range(10):
            workers.do(lambda given: given * given, number, then)
        await ended.wait()

    asyncio.run(run())
    assert sorted(result for result, _ in told) == [number * number for number in range(10)]
    assert {thread for _, thread in told} == {threading.main_thread()}


def test_as_many_threads_as_there_may_be(workers: Workers) -> None:
    together = threading.Barrier(2)

    def meet() -> None:
        together.wait(20)

    for _ in range(4):
        workers.submit(meet)
    workers.stop()
    assert not together.broken
    assert together.n_waiting == 0


def test_nothing_is_taken_after_the_end(workers: Workers) -> None:
    workers.submit(lambda: None)
    workers.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        workers.submit(lambda: None)


def test_what_fails_takes_no_thread_with_it(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    with caplog.at_level(logging.ERROR, "benno"):
        for number in range(8):
            workers.submit(lambda: 1 / 0)  # type: ignore[arg-type]
            workers.submit(lambda number=number: done.append(number))  # type: ignore[misc]
        workers.stop()
    assert sorted(done) == list(range(8))
    assert caplog.text.count("unexpected ZeroDivisionError") == 8


def test_stop_waits_for_what_was_begun(workers: Workers) -> None:
    go_on, done = threading.Event(), threading.Event()
    workers.submit(lambda: done.set() if go_on.wait(20) else None)
    stopping = threading.Thread(target=workers.stop)
    stopping.start()
    assert not done.is_set()
    go_on.set()
    stopping.join(20)
    assert done.is_set()


def test_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        Workers(2).submit(lambda: None)
