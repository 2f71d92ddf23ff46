"""Command lines as they are read: which of them are BDAT for aiosmtpd, and which are too long."""

from __future__ import annotations

import asyncio

import pytest

from benno_common.mail import OVERHEAD
from benno_smtp.reader import MAX_HELD, Reader

LIMIT = 100


def read(*pieces: bytes) -> list[bytes]:
    """What aiosmtpd sees: lines, and for one that is too long b"..." at each attempt, as it skips it.

    A piece comes when all that came before is read.
    """

    async def lines() -> list[bytes]:
        stream = asyncio.StreamReader(limit=LIMIT)
        reader, seen, waiting = Reader(stream), [], list(pieces)
        while True:
            asking = asyncio.ensure_future(reader.readuntil())
            await asyncio.sleep(0)
            while not asking.done():
                if waiting:
                    stream.feed_data(waiting.pop(0))
                else:
                    stream.feed_eof()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            try:
                seen.append(asking.result())
            except asyncio.LimitOverrunError as error:
                seen.append(b"...")
                await stream.read(error.consumed)
            except asyncio.IncompleteReadError:
                return seen
            if seen[-1] == b"BDAT":
                return seen

    return asyncio.run(asyncio.wait_for(lines(), 30))


LONG = b"x" * LIMIT

SEEN: dict[str, tuple[tuple[bytes, ...], list[bytes]]] = {
    "commands": ((b"EHLO x\r\nNOOP BDAT 5\r\n",), [b"EHLO x\r\n", b"NOOP BDAT 5\r\n"]),
    "no verb": ((b"\r\n \r\nB\r\nBDA\r\n",), [b"\r\n", b" \r\n", b"B\r\n", b"BDA\r\n"]),
    "exact": ((b"BDAT 5\r\n",), [b"BDAT"]),
    "unclear": ((b"\xff bdat\t5\r\n",), [b"BDAT"]),
    "begins in another piece": ((b"NOOP\r\n\t", b"Bd", b"aT\t5\r\n"), [b"NOOP\r\n", b"BDAT"]),
    "too long": ((b"BDAT 5" + LONG,), [b"BDAT"]),
    "too long, only blanks yet": ((b" " * LIMIT + b" ", b"BDAT 5\r\n"), [b"BDAT"]),
    "too long, half the verb": ((b" " * (LIMIT - 1) + b"BD", b"AT 5\r\n"), [b"BDAT"]),
    "too long, another verb": ((LONG + b" ", b"\r\nBDAT 5\r\n"), [b"...", b"\r\n", b"BDAT"]),
    "its end": ((LONG + b" ", b"BDAT 5\r\nNOOP\r\n"), [b"...", b"BDAT 5\r\n", b"NOOP\r\n"]),
    "its middle": (
        (LONG + b" ", b"BDAT 5" + LONG, b"x\r\nNOOP\r\nbdat\r\n"),
        [b"...", b"...", b"x\r\n", b"NOOP\r\n", b"BDAT"],
    ),
}


@pytest.mark.parametrize(("pieces", "seen"), SEEN.values(), ids=SEEN)
def test_lines(pieces: tuple[bytes, ...], seen: list[bytes]) -> None:
    assert read(*pieces) == seen


class Transport(asyncio.Transport):
    """Says whether it is read."""

    reading = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def streaming() -> tuple[Reader, Transport]:
    stream, transport = asyncio.StreamReader(limit=LIMIT), Transport()
    stream.set_transport(transport)
    return Reader(stream), transport


def test_content_and_commands() -> None:
    """Content comes in its pieces, with what was there before; what is behind it is commands."""

    async def content() -> None:
        reader, transport = streaming()
        reader.feed(b"DATA\r\none" + b"x" * 2 * LIMIT)
        assert not transport.reading, "there is more than StreamReader holds"
        assert await reader.readuntil() == b"DATA\r\n"
        reader.begin_content()
        assert reader.in_content
        assert transport.reading
        reader.feed(b"two")
        assert await reader.piece() == b"one" + b"x" * 2 * LIMIT
        assert await reader.piece() == b"two"
        waiting = asyncio.ensure_future(reader.piece())
        await asyncio.sleep(0)
        assert reader.is_waiting
        for piece in (b"three\r\n.\r\nNO", b"OP\r\nQU", b"IT\r\n"):
            reader.feed(piece)
        assert await waiting == b"three\r\n.\r\nNO"
        assert not reader.is_waiting
        reader.end_content(b"NO")
        assert not reader.in_content
        assert [await reader.readuntil(), await reader.readuntil()] == [b"NOOP\r\n", b"QUIT\r\n"]

    asyncio.run(asyncio.wait_for(content(), 30))


@pytest.mark.parametrize("waits", [False, True])
def test_end_in_content(waits: bool) -> None:
    """All that came before the client closed its side is content."""

    async def content() -> list[bytes]:
        reader, _ = streaming()
        reader.begin_content()
        reader.feed(b"one")
        seen = [await reader.piece()] if waits else []
        asking = asyncio.ensure_future(reader.piece())
        if waits:
            await asyncio.sleep(0)
        reader.feed_eof()
        return [*seen, await asking, await reader.piece()]

    seen = asyncio.run(asyncio.wait_for(content(), 30))
    assert seen == ([b"one", b"", b""] if waits else [b"one", b""])


@pytest.mark.parametrize("by", ["piece", "end_content"])
def test_content_is_held_within_limits(by: str) -> None:
    """Reading stops when more than MAX_HELD octets wait, and goes on at half of it or at the end."""

    async def content() -> None:
        reader, transport = streaming()
        reader.begin_content()
        piece = b"x" * (MAX_HELD // 4 - OVERHEAD)  # and what a piece takes besides
        for _ in range(4):
            reader.feed(piece)
        assert transport.reading
        reader.feed(piece)
        assert not transport.reading
        reader.feed(piece)
        if by == "end_content":
            reader.end_content(b"")
            assert transport.reading
            return
        for _ in range(3):
            assert not transport.reading
            await reader.piece()
        assert not transport.reading
        await reader.piece()
        assert transport.reading

    asyncio.run(asyncio.wait_for(content(), 30))
