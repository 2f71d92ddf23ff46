"""Command lines as they are read: which of them are BDAT for aiosmtpd, and which are too long."""

from __future__ import annotations

import asyncio

import pytest

from benno_smtp.reader import Reader

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
