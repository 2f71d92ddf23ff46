"""A thin adapter to aiosmtpd, and its only importer: one TCP connection, as the daemon needs it.

aiosmtpd reads command lines and calls `smtp_VERB`. Its habits that matter here, and what is done:

* An exception is answered 500, and one in the middle of DATA leaves the rest of a mail to be taken for
  commands. Here content is read to its end whatever happens (`receive`), and the answer is 451.
* A client that closes its side is cancelled in the middle of a command. Here what it sent is handled
  to its end; the next read finds that no more comes.
* After a close it goes on with what was read already. Here the task ends at once (`hang_up`).
* It strips arguments of more than blanks. Here they are the line's own octets (`argument`).
* It answers 500 to a line that it does not understand, and reads on. Behind a BDAT line stands a chunk,
  so that each line like one goes to `smtp_BDAT`, which hangs up where the size is not clear.
* Its own replies have no enhanced code and repeat what the client sent. They are put into our words.
* It sends each reply for itself. Here those to commands that came together share a write (`replies`).
* A close waits until the client has read all replies. Here not for ever.
* Its timer starts anew with each command, whatever becomes of it. Here the daemon's clock says how long
  the client has been waited for, and `limits` how long it may be.
* It formats each command for its log, addresses and all. That is turned off.
* It looks at all attributes of each new connection. Here at the commands only (`__dir__`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NoReturn, cast

from aiosmtpd import smtp

from benno_common import log
from benno_common.networks import plain
from benno_smtp.limits import Patience
from benno_smtp.reader import MAX_LINE, Reader
from benno_smtp.replies import Replies, in_our_words
from benno_smtp.shared import Shared
from benno_smtp.transfer import ChunkDecoder, DataDecoder

READ_SIZE = 64 * 1024

# For a client to read why it is hung up on: while it is sending, a close would take the reply away.
PARTING_SECONDS = 10.0

FAULT = "451 4.3.0 The mail archive has a fault; see its log"

logging.getLogger("mail.log").setLevel(logging.CRITICAL)
smtp.sanitized_log = lambda *_: None  # twice a command, 2 to 8 % of what a mail costs


class _Limits(dict[str, int]):
    """The same for all commands, known or not, and remembers none of them."""

    def __missing__(self, _: str) -> int:
        return MAX_LINE


class Connection(smtp.SMTP):
    """One connection.

    busy: whether a mail is under way, so that a daemon that ends waits for it. patience: how
    long the client may go on.
    """

    command_size_limit = MAX_LINE
    command_size_limits = _Limits()
    line_length_limit = MAX_LINE  # also the size of the read buffer
    _commands: Sequence[str] = ()

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.client = ""
        self.busy = False
        self.half_closed = False  # the client sends no more, and perhaps is gone
        self._draining = False
        self.patience = Patience(shared.limits)
        self.parting = False  # the last word has been said, and perhaps no other can be
        super().__init__(
            None,
            data_size_limit=None,
            enable_SMTPUTF8=True,
            hostname=shared.hostname,
            ident="ESMTP Benno MailArchiv",
            loop=asyncio.get_running_loop(),
        )

    def __dir__(self) -> Iterable[str]:
        """Where aiosmtpd looks for commands, at the begin of each connection."""
        return self._commands

    def __init_subclass__(cls) -> None:
        cls._commands = [name for name in dir(cls) if name.startswith("smtp_")]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.client = plain((transport.get_extra_info("peername") or ("unknown",))[0])
        self.shared.join(self)
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # asyncio reads 256 KiB at once, and hundreds do it together
            transport.max_size = READ_SIZE
        self._reader: Reader = Reader(self._reader)  # type: ignore[assignment, arg-type] # all it calls
        self._writer: Replies = Replies(self._writer, self.loop)  # type: ignore[assignment, arg-type]

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)

    def eof_received(self) -> bool:
        self.half_closed = True
        self._reader.feed_eof()
        return True  # the transport stays open for the reply

    def connection_lost(self, error: Exception | None) -> None:
        self.shared.leave(self)
        self.forget()
        super().connection_lost(error)

    def forget(self) -> None:
        """The client has gone, or has begun afresh: drop the mail under way."""

    def tick(self, now: float) -> None:
        """Called once in a while."""

    def drain(self) -> None:
        """End as soon as no mail is under way."""
        self._draining = True
        if not self.busy and self._handler_coroutine is not None:
            self._say_goodbye()
            self._handler_coroutine.cancel()

    def close(self) -> None:
        """End now: a mail whose end has come is still kept, but nobody hears of it."""
        if self.transport is not None:
            cast(asyncio.Transport, self.transport).abort()

    @property
    def line(self) -> bytes:
        """The command, octet for octet."""
        return self._reader.line.removesuffix(b"\n").removesuffix(b"\r")

    @property
    def verb(self) -> bytes:
        """The command's name, in upper case."""
        return self.line.partition(b" ")[0].upper()

    @property
    def argument(self) -> bytes:
        """What stands behind the verb."""
        return self.line.partition(b" ")[2]

    @property
    def is_stuck(self) -> bool:
        """Whether the client has to read before there is room for more replies."""
        return cast(bool, self._paused)  # type: ignore[attr-defined] # asyncio's

    async def push(self, status: str | None) -> None:  # type: ignore[override] # we push text only
        """Send a reply, which may have several lines, without the last CR LF."""
        if not status:
            return
        status = in_our_words(status)
        self._writer.write(f"{status}\r\n".encode())
        if self.is_stuck or self._writer.are_many:
            await self._writer.drain()
        if status.startswith(("221", "421")):
            self.hang_up()
        if self._draining and not self.busy:
            self._say_goodbye()
            self.hang_up()

    async def handle_exception(self, error: Exception) -> str:
        if isinstance(error, asyncio.IncompleteReadError):  # the client closed its side
            self.hang_up()
        log.unexpected(None, error)
        return FAULT

    def _set_post_data_state(self) -> None:
        """Called by aiosmtpd where the state of a mail ends: RSET, EHLO, HELO, STARTTLS."""
        super()._set_post_data_state()  # type: ignore[no-untyped-call]
        self.forget()

    def begin_session(self, *, extended: bool) -> None:
        """EHLO, or HELO: what was before is forgotten."""
        self._set_post_data_state()
        assert self.session is not None
        self.session.extended_smtp = extended
        self.session.host_name = "greeted"  # nobody asks what it was

    @property
    def greeted(self) -> bool:
        """Whether EHLO or HELO came."""
        return self.session is not None and self.session.host_name is not None

    @contextlib.contextmanager
    def content_follows(self) -> Iterator[None]:
        """Whatever fails in here ends the connection, as the content would be taken for commands."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is
            log.unexpected(None, error)
            self._writer.write(b"421 4.3.0 The mail archive has a fault; see its log\r\n")
            self.hang_up()

    async def receive(
        self,
        decoder: DataDecoder | ChunkDecoder,
        take: Callable[[bytes], Awaitable[str | None]] | None,
    ) -> str | None:
        """Read content to its end, whatever becomes of it.

        take: gets each piece, and nothing before the first one, and returns the reply of a mail that
        will be refused; None: nobody wants the content. Returns what it returned last.
        """
        reply = await take(b"") if take is not None else None
        self._reader.begin_content()
        while not decoder.ended:
            data = await self._reader.piece()
            if not data:
                self.hang_up()
            self.patience.octets += len(data)
            piece = decoder.feed(data)
            if take is not None:
                reply = await take(piece)
        self._reader.end_content(decoder.rest)
        return reply

    def hang_up(self) -> NoReturn:
        """End the connection and its task; what was read and not handled is nobody's."""
        self._writer.close()
        raise asyncio.CancelledError

    async def part(self, reply: str) -> NoReturn:
        """Hang up with a reply, while the client may be sending what nobody can make out."""
        await self.push(reply)
        self.busy = self.parting = True  # nothing more can be said, should the daemon end
        with contextlib.suppress(asyncio.TimeoutError, OSError):
            if self._writer.can_write_eof():  # TLS has no half-closed connection
                self._writer.write_eof()
            await asyncio.wait_for(self._swallow(), PARTING_SECONDS)
        self.hang_up()

    async def _swallow(self) -> None:
        while await self._reader.read(READ_SIZE):
            pass

    def _say_goodbye(self) -> None:
        """The daemon ends."""
        self._draining = False
        self._writer.write(b"421 4.3.2 The mail archive is shutting down\r\n")
        self._writer.close()
