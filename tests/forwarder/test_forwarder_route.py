"""Hosts and connections: when a failure is the host's, and when it is one connection too many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from benno_milter2smtp import route as route_module
from benno_milter2smtp.connection import HostUnusable
from benno_milter2smtp.greeting import Access
from benno_milter2smtp.offer import Offer
from benno_milter2smtp.route import Crowded, Host, NoHost, Route

FIRST, SECOND = Host("first", 1), Host("second", 2)


class Connection:
    """A delivery without a server."""

    offer = Offer()

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def close(self) -> None:
        self.closed.set()


Attempt = Callable[[Host], Awaitable[Any]]


def play(
    monkeypatch: pytest.MonkeyPatch, story: Callable[[Route, list[Attempt]], Awaitable[None]]
) -> None:
    """Run a story on two hosts; it lists what each attempt to connect meets, in turn."""
    attempts: list[Attempt] = []

    async def connect_any(host: Host, access: Access, dead: set[object]) -> Any:
        return await attempts.pop(0)(host)

    async def run() -> None:
        await story(Route([FIRST, SECOND], Access(1), lambda _: False), attempts)
        assert attempts == []

    monkeypatch.setattr(route_module, "_connect_any", connect_any)
    monkeypatch.setattr(route_module, "FORGET_SECONDS", 0)
    asyncio.run(run())


async def good(_: Host) -> Any:
    return Connection()


async def bad(host: Host) -> Any:
    raise HostUnusable(f"{host} is dead")


def test_the_next_host_and_then_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(route: Route, attempts: list[Attempt]) -> None:
        attempts += [bad, good, bad]
        first = await route.connect()
        assert route.host_of(first) == SECOND
        await route.close(first)
        with pytest.raises(NoHost):
            await route.connect()
        with pytest.raises(NoHost):
            await route.connect()

    play(monkeypatch, story)


def test_one_connection_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(route: Route, attempts: list[Attempt]) -> None:
        attempts += [good, bad]
        await route.connect()
        with pytest.raises(Crowded):
            await route.connect()
        assert route.host == FIRST

    play(monkeypatch, story)


@pytest.mark.parametrize("moment", ["before", "while"])
def test_refused_because_another_was_just_being_closed(
    monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Its sender has gone, so that nobody else would send this mail: it is tried once more."""

    async def story(route: Route, attempts: list[Attempt]) -> None:
        async def meanwhile(host: Host) -> Any:
            if moment == "while":
                await route.close(other)
            return await bad(host)

        attempts += [good, meanwhile, good]
        other = await route.connect()
        if moment == "before":
            closing = asyncio.ensure_future(route.close(other))
            await asyncio.sleep(0)
        connection = await route.connect()
        assert route.host_of(connection) == FIRST
        assert cast(Connection, other).closed.is_set()
        if moment == "before":
            await closing

    play(monkeypatch, story)
