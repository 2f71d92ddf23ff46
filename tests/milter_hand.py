"""A connection of the milter driven by hand: no socket, no disk, and a clock that the test sets.

hand = Hand()
hand.send(mail(b"<a@b>") + END)
hand.drop.mails[0].keep()
assert hand.replies() == [b"c", b"c"]
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from benno_common.envelope import Envelope
from benno_common.log import Stored
from benno_common.maildrop import SMALLEST_PIECE, MailDrop
from benno_common.networks import Networks
from benno_milter.connection import Connection
from benno_milter.shared import Shared
from milter_packets import (
    END,
    END_OF_HEADERS,
    body,
    header,
    macros,
    mail,
    negotiation,
    packets_of,
    rcpt,
)

Address = tuple[str, int] | str | bytes

# Replies as they are written: command and data.
C = b"c"
NOT_STORED = b"y451 4.3.0 The mail archive could not store this mail\0"
NOT_UNDERSTOOD = b"y451 4.3.0 The mail archive could not understand this mail\0"

# A mail in parts, and its message.
ENVELOPE = mail(b"<a@b>") + rcpt(b"<c@d>") + macros(b"R", b"i", b"QID")
CONTENT = header(b"Subject", b" hi") + END_OF_HEADERS + body(b"body\r\n")
MESSAGE = b"Subject: hi\r\n\r\nbody\r\n"
WHOLE = ENVELOPE + CONTENT + END


class HandMail:
    """One mail in the drop, and what becomes of it."""

    def __init__(self, drop: HandDrop, envelope: Envelope) -> None:
        self.envelope = envelope
        self.message = b""
        self.aborted = False
        self._drop = drop
        self._held = 0
        self._then: Callable[[], None] | None = None
        self._tell: Callable[[Stored | Exception], None] | None = None
        self._told = False

    def write(self, data: bytes) -> bool:
        self._drop.fail_at("write")
        assert not self.flushing, "more is written while it is flushed"
        self.message += data
        self._held += len(data)
        return self._held >= SMALLEST_PIECE

    def flush(self, then: Callable[[], None]) -> None:
        self._drop.fail_at("flush")
        self._held, self._then = 0, then

    def commit(self, then: Callable[[Stored | Exception], None], queue_id: str | None = None) -> None:
        self._drop.fail_at("commit")
        assert not self.flushing, "it is committed while it is flushed"
        self._tell = then

    def abort(self) -> None:
        assert not self.committing, "it is given up while it is made durable"
        self.aborted = True

    # What the test sees and does

    @property
    def flushing(self) -> bool:
        return self._then is not None

    @property
    def committing(self) -> bool:
        return self._tell is not None and not self._told

    def flushed(self) -> None:
        assert self._then is not None
        then, self._then = self._then, None
        then()

    def keep(self) -> None:
        self._end(Stored("1.eml", len(self.message), "0" * 64, 0))

    def lose(self, error: Exception) -> None:
        self._end(error)

    def _end(self, outcome: Stored | Exception) -> None:
        assert self._tell is not None, "its end has not come"
        self._told = True
        self._tell(outcome)
        self._drop.run()


class HandDrop:
    """faults: errors that the methods of these names raise, once. refused: why no mail is taken."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.mails: list[HandMail] = []
        self.refused: tuple[str, str] | None = None
        self.faults: dict[str, Exception] = {}
        self.piece = SMALLEST_PIECE

    def begin(self, envelope: Envelope) -> HandMail:
        self.fail_at("begin")
        self.mails.append(HandMail(self, envelope))
        return self.mails[-1]

    def refusal(self) -> tuple[str, str] | None:
        self.fail_at("refusal")
        return self.refused

    def fail_at(self, method: str) -> None:
        if error := self.faults.pop(method, None):
            raise error

    def run(self) -> None:
        """Let the loop do what is due."""
        self.loop.run_until_complete(asyncio.sleep(0))


class HandSocket:
    """The options that were set, if it is one of TCP."""

    def __init__(self, peer: Address) -> None:
        self.options: list[str] = []
        self._is_tcp = isinstance(peer, tuple)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        assert self._is_tcp, "an option of TCP on a Unix socket"
        names = [name for name in dir(socket) if name.startswith("TCP_")]
        self.options += [name for name in names if getattr(socket, name) == option and value]


class HandTransport(asyncio.Transport):
    """What the connection has written, and whether it reads."""

    def __init__(self, peer: Address) -> None:
        self.socket = HandSocket(peer)
        super().__init__({"peername": peer, "socket": self.socket})
        self.written = b""
        self.reading = True
        self.ended: str | None = None  # closed or aborted

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        assert self.ended is None, f"{data!r} is written to a connection that was {self.ended}"
        self.written += bytes(data)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return self.ended is not None

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Hand:
    """One connection. offer: the MTA's negotiation; its answer is passed over."""

    def __init__(self, peer: Address = "", offer: bytes = negotiation()) -> None:
        self.loop = asyncio.new_event_loop()
        self.drop = HandDrop(self.loop)
        self.shared = Shared(cast(MailDrop, self.drop), allowed=Networks())
        self.connection = Connection(self.shared)
        self.transport = HandTransport(peer)
        self.connection.connection_made(self.transport)
        self._began = time.monotonic()
        if offer and not self.transport.ended:
            self.send(offer)
            self.replies()

    def send(self, data: bytes) -> None:
        """Octets arrive; as the loop does, only while the connection reads."""
        while data and self.transport.reading and not self.transport.ended:
            buffer = self.connection.get_buffer(-1)
            size = min(len(data), len(buffer))
            buffer[:size] = data[:size]
            self.connection.buffer_updated(size)
            data = data[size:]
        assert not data or self.transport.ended, "the connection does not read"
        self.drop.run()

    def replies(self) -> list[bytes]:
        """Command and data of each packet that was written since the last call."""
        packets = packets_of(self.transport.written)
        self.transport.written = b""
        return [packet[4:] for packet in packets]

    def tick(self, seconds: float) -> None:
        """The clock shows so many seconds more than now."""
        self.connection.tick(time.monotonic() + seconds)

    def deliver_another(self) -> None:
        """The connection is as good as new: one more mail is taken, kept and answered."""
        before = len(self.drop.mails)
        self.send(mail(b"<next@b>") + rcpt(b"<next@d>") + body(b"next") + END)
        assert self.replies() == [C]
        kept = self.drop.mails[before]
        assert (kept.envelope.sender, kept.envelope.recipients) == (b"next@b", (b"next@d",))
        assert kept.message == b"next"
        kept.keep()
        assert self.replies() == [C]

    def leave(self) -> None:
        """The MTA hangs up."""
        self.transport.ended = "closed"
        self.connection.connection_lost(None)

    def close(self) -> None:
        self.loop.close()


@contextmanager
def hand(peer: Address = "", offer: bytes = negotiation()) -> Iterator[Hand]:
    connection = Hand(peer, offer)
    try:
        yield connection
    finally:
        connection.close()


class Log(logging.Handler):
    """The lines that are logged, each with its level."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@contextmanager
def logged() -> Iterator[list[str]]:
    """Everything that is logged within."""
    logger, handler = logging.getLogger("benno"), Log()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
