"""The daemon's clock, by which clients are told that something takes too long."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benno_common import daemon


class Ticked:
    """A session that counts, and stops the test after a few."""

    def __init__(self, enough: asyncio.Event) -> None:
        self._enough = enough
        self._ticks = 0

    def tick(self, now: float) -> None:
        self._ticks += 1
        if self._ticks == 3:
            self._enough.set()


class Faulty:
    def __init__(self) -> None:
        self.closed = False

    def tick(self, now: float) -> None:
        raise ValueError(f"at {now}")

    def close(self) -> None:
        self.closed = True


def test_a_faulty_session_stops_nobody_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is ended itself: its client would wait for ever, and it would fail again each second."""
    monkeypatch.setattr(daemon, "TICK_SECONDS", 0.001)
    faulty = Faulty()

    async def run() -> None:
        enough = asyncio.Event()
        drop = SimpleNamespace(recheck=lambda: None)
        sessions = cast(Any, SimpleNamespace(connections=[faulty, Ticked(enough)], drop=drop))
        ticking = asyncio.create_task(daemon._tick(sessions))
        await asyncio.wait_for(enough.wait(), 10)
        ticking.cancel()

    asyncio.run(run())
    assert faulty.closed
    assert "ValueError" in caplog.text
