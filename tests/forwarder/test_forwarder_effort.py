"""What is not done for each mail, or each octet, as it costs more than all the rest."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benno_milter2smtp import parcel
from benno_milter2smtp.content import Inspector
from benno_milter2smtp.wire import Wire
from forwarding import forward, put
from scripted import EVERYTHING, WaitFor, serving

ONE = ("--connections", "1")
MEGABYTE = b"x" * 78 + b"\r\n"
MEGABYTE *= 1_000_000 // len(MEGABYTE)


class Octets(bytes):
    """That tell how often they are counted."""

    counted = 0

    def count(self, *arguments: object) -> int:
        Octets.counted += 1
        return super().count(*arguments)  # type: ignore[arg-type]


def test_line_ends_are_not_counted_where_all_are_whole() -> None:
    inspector = Inspector()
    inspector.feed(Octets(b"Subject: x\r\n\r\nhello\r\n"))
    inspector.feed(Octets(b"world"))
    assert (inspector.content().bare, Octets.counted) == (0, 0)
    inspector.feed(Octets(b"\n"))
    assert (inspector.content().bare, Octets.counted > 0) == (1, True)


def test_a_large_mail_is_looked_at_once(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time its hash says that it is the same."""
    looked: list[int] = []
    feed = Inspector.feed

    def watched(self: Inspector, piece: bytes) -> None:
        looked.append(len(piece))
        feed(self, piece)

    monkeypatch.setattr(Inspector, "feed", watched)
    put(spool, 2 * MEGABYTE)
    with serving() as server:
        assert forward(spool, server.port).code == 0
    assert [mail.message for mail in server.mails] == [2 * MEGABYTE]
    assert sum(looked) == 2 * len(MEGABYTE)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The octets of each write so far."""
    sizes: list[int] = []
    write = Wire.write

    async def watched(self: Wire, octets: bytes, timeout: float) -> bool:
        sizes.append(len(octets))
        return await write(self, octets, timeout)

    monkeypatch.setattr(Wire, "write", watched)
    return sizes


@pytest.mark.parametrize(
    ("offers", "writes"),
    [(EVERYTHING, ["MAIL, RCPT and BDAT", "LAST"]), ((), ["MAIL", "RCPT", "RCPT", "DATA", "message"])],
)
def test_a_small_message_is_one_write(
    spool: Path, written: list[int], offers: tuple[str, ...], writes: list[str]
) -> None:
    put(spool)
    with serving(offers=offers) as server:
        assert forward(spool, server.port).code == 0
    assert len(written) == len([*writes, "QUIT"])


@pytest.mark.parametrize("offers", [EVERYTHING, ()])
@pytest.mark.parametrize("size", [1, 2])
def test_what_was_read_is_not_joined(
    spool: Path, written: list[int], offers: tuple[str, ...], size: int
) -> None:
    """In memory, and from the disk."""
    put(spool, size * MEGABYTE)
    with serving(offers=offers) as server:
        assert forward(spool, server.port).code == 0
    assert [mail.message for mail in server.mails] == [size * MEGABYTE]
    assert max(written) < 100_000
    assert len(written) < size * 16 + 8


def test_waiting_for_replies_sets_no_timer_for_each(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(100):
        put(spool)
    set_for: list[float] = []
    call_at = asyncio.BaseEventLoop.call_at

    def watched(
        self: asyncio.BaseEventLoop, when: float, *arguments: object, **named: object
    ) -> object:
        set_for.append(when)
        return call_at(self, when, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_at", watched)
    with serving() as server:
        assert forward(spool, server.port, options=ONE).code == 0
    assert len(set_for) < 20


def test_replies_are_read_into_the_same_memory() -> None:
    """asyncio would take 256 KiB for each reply, and often from the system."""
    assert issubclass(Wire, asyncio.BufferedProtocol)


def test_commands_are_answered_while_the_message_behind_them_is_written(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 250 to MAIL that comes before the last octet of the message is none to the message."""
    monkeypatch.setattr(parcel, "SMALL", 1 << 30)
    put(spool, 30 * MEGABYTE)
    full = WaitFor("250 ok")
    pause = Wire.pause_writing

    def paused(self: Wire) -> None:
        full.go.set()
        pause(self)

    monkeypatch.setattr(Wire, "pause_writing", paused)
    with serving(script={"RCPT": [full, "250 ok"]}) as server:
        run = forward(spool, server.port, options=ONE)
    assert (run.code, len(server.mails)) == (0, 1), run.log
