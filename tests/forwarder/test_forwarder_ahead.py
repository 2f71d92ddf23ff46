"""Mails are opened ahead: few thread hops, little memory, the order and what is sent as without it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benno_common.durable import Directory
from benno_common.spool import Spool
from benno_milter2smtp import backlog as backlog_module
from benno_milter2smtp.backlog import AHEAD, AHEAD_OCTETS, AHEAD_SECONDS, Backlog
from benno_milter2smtp.parcel import Parcel, open_parcel
from forwarding import MESSAGE, forward, names, put
from scripted import serving

Story = Callable[[Backlog], Coroutine[Any, Any, None]]


def play(path: Path, story: Story) -> None:
    directory = Directory(str(path))
    directory.open_to_empty()

    async def played() -> None:
        await story(Backlog(Spool(directory)))

    try:
        asyncio.run(played())
    finally:
        directory.close()


async def given_out(backlog: Backlog, mails: int) -> list[str]:
    found = [await backlog.next() for _ in range(mails)]
    return [opened.name for opened in found if opened]


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was given to a thread so far."""
    given: list[object] = []
    to_thread = asyncio.to_thread

    async def counted(call: Callable[..., Any], *arguments: object) -> object:
        given.append(call)
        return await to_thread(call, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", counted)
    return given


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the mails that were opened so far."""
    opened: list[str] = []

    def watched(spool: Spool, name: str) -> Parcel:
        opened.append(name)
        return open_parcel(spool, name)

    monkeypatch.setattr(backlog_module, "open_parcel", watched)
    return opened


def test_small_mails_share_a_hop(spool: Path, hops: list[object]) -> None:
    waiting = [put(spool) for _ in range(100)]

    async def story(backlog: Backlog) -> None:
        assert await given_out(backlog, 101) == waiting
        assert len(hops) <= 1 + 100 / 10

    play(spool, story)


def test_no_more_than_a_little_is_held_in_memory(
    spool: Path, hops: list[object], read: list[str]
) -> None:
    waiting = [put(spool, b"x" * (AHEAD_OCTETS // 2)) for _ in range(3)]
    waiting += [put(spool, b"x" * (AHEAD_OCTETS // 4)) for _ in range(4)]

    async def story(backlog: Backlog) -> None:
        for name, opened in zip(waiting, (1, 2, 4, 4, 7, 7, 7), strict=True):
            assert await given_out(backlog, 1) == [name]
            assert len(read) == opened
        assert len(hops) == 1 + 4

    play(spool, story)


@pytest.mark.parametrize("passed", [0.0, AHEAD_SECONDS * 2])
def test_what_was_opened_long_ago_is_opened_anew(
    spool: Path, read: list[str], monkeypatch: pytest.MonkeyPatch, passed: float
) -> None:
    waiting = [put(spool) for _ in range(3)]

    async def story(backlog: Backlog) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        monkeypatch.setattr(loop, "time", lambda: began)
        assert await given_out(backlog, 1) == waiting[:1]
        (spool / waiting[1]).unlink()
        monkeypatch.setattr(loop, "time", lambda: began + passed)
        second = await backlog.next()
        assert second
        if passed:
            with pytest.raises(FileNotFoundError):
                second.parcel()
        else:
            assert second.parcel().letter.content.size == len(MESSAGE)
        assert read == waiting + (waiting[1:] if passed else [])

    play(spool, story)


@pytest.mark.parametrize("turned", [True, False])
def test_what_is_put_back_while_others_are_opened_comes_first(
    spool: Path, monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    waiting = [put(spool) for _ in range(6)]
    begun, go = threading.Event(), threading.Event()

    def slow(spool: Spool, name: str) -> Parcel:
        begun.set()
        assert go.wait(60)
        return open_parcel(spool, name)

    async def story(backlog: Backlog) -> None:
        monkeypatch.setattr(backlog_module, "open_parcel", slow)
        first = asyncio.ensure_future(given_out(backlog, 1))
        await asyncio.to_thread(begun.wait, 60)
        if turned:
            backlog.turn_round()
        else:
            backlog.put_back(["again.1", "again.2"])
        go.set()
        expected = waiting[::-1] if turned else ["again.1", "again.2", *waiting]
        assert await first + await given_out(backlog, 10) == expected

    play(spool, story)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["next", "next", "next", "turn", "back"])))
def test_order(tmp_path_factory: pytest.TempPathFactory, calls: list[str]) -> None:
    """As of a plain list of names."""
    spool = tmp_path_factory.mktemp("spool")
    model = deque(put(spool) for _ in range(AHEAD + 4))

    async def story(backlog: Backlog) -> None:
        last = None
        for call in ["next", *calls]:
            if call == "next":
                last = model.popleft() if model else None
                assert await given_out(backlog, 1) == ([last] if last else [])
            elif call == "turn":
                model.reverse()
                backlog.turn_round()
            elif last:
                model.appendleft(last)
                backlog.put_back([last])
                last = None
        assert await given_out(backlog, 2 * AHEAD) == list(model)

    play(spool, story)


def test_one_that_is_no_mail_among_those_that_are(spool: Path) -> None:
    waiting = [put(spool) for _ in range(5)]
    content = (spool / waiting[2]).read_bytes()
    (spool / waiting[2]).write_bytes(content[:-1])
    with serving() as server:
        run = forward(spool, server.port, options=("--connections", "1"))
    assert (run.code, run.summary) == (65, "sent=4 kept=0 held=1")
    assert names(spool) == [f"{waiting[2]}.err"]
