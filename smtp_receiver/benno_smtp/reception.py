"""One mail that is being received: its envelope, then its content, then the answer.

Whatever fails is kept until the content has been read to its end, because what a client sends after
DATA must never be taken for commands. A mail is answered 250 only when it is durable; its commit runs
to the end even if the client has gone, and then the log says answered=no.
"""

from __future__ import annotations

import asyncio
import time

from benno_common import log
from benno_common.durable import FULL
from benno_common.envelope import Envelope
from benno_common.log import Stored
from benno_common.mail import Mail
from benno_common.maildrop import NO_SPACE
from benno_smtp.command import MailCommand
from benno_smtp.limits import OWN_OCTETS
from benno_smtp.shared import Shared

# Clients wait 10 minutes for the reply to the end of a mail (RFC 5321 4.5.3.2.6), some only 5.
ANSWER_SECONDS = 240.0

# Memory for all recipients of a mail, in octets: some 100,000 of them. What is more than OWN_OCTETS
# comes out of the memory that all mails share.
MAX_RECIPIENTS = 16 * 1024 * 1024
_OVERHEAD = 64  # of each

NOT_STORED = "451 4.3.0 The mail archive could not store this mail"
TOO_SLOW = "451 4.3.0 The mail archive is too slow"
TOO_BIG = "552 5.3.4 The message is larger than max_message_size"
TOO_MANY = "452 4.5.3 Too many recipients"
TOO_MANY_IN_ALL = "451 4.3.2 The mails under way have too many recipients; come again later"
ADDED = "250 2.1.5 OK"


class Reception:
    """One mail, from its MAIL command to its answer.

    gateway: stands in its envelope. about: what the log says of it, `key=value` with blanks between.
    """

    def __init__(
        self,
        shared: Shared,
        client: str,
        command: MailCommand,
        gateway: bytes | None,
        about: str = "",
    ) -> None:
        self._shared = shared
        self._client = client
        self._about = about
        self._ident = command.ident.decode("utf-8", "backslashreplace") if command.ident else None
        self._sender = command.sender
        self._gateway = gateway
        self._recipients: list[bytes] = []
        self._octets = 0  # of memory for them
        self._borrowed = 0  # of these, out of what all mails share
        self._size = 0
        self._mail: Mail | None = None  # begun and not yet committed
        self.fault: str | None = None  # the reply of a mail that will be refused
        self.has_begun = False  # content has come
        self._envelope: Envelope | None = None  # once content has come
        self._began = 0.0
        self._ended: asyncio.Future[None] | None = None  # the commit that is waited for
        self._reply: str | None = None  # once it has ended
        self._heard = True
        self.binary = command.body == b"BINARYMIME"

    @property
    def has_recipients(self) -> bool:
        return bool(self._recipients)

    def refusal(self, size: int) -> str | None:
        """Why a mail of `size` octets, 0 if the client does not say, cannot be taken now: a reply."""
        limit = self._shared.max_message_size
        if limit and size > limit:
            reason = f"{size} octets are announced, max_message_size is {limit}"
            self.log_refusal(TOO_BIG, reason)
            return TOO_BIG
        refusal = self._shared.drop.refusal(size)
        if refusal is None:
            return None
        self.log_refusal(*refusal)
        return refusal[0]

    def add(self, recipient: bytes) -> str:
        """One more recipient: the reply.

        With too many for one mail the others may come in another. With too many in all mails the whole
        mail has to come again: in two parts the archiver would drop the second one.
        """
        if self.fault is not None:
            return self.fault
        octets = len(recipient) + _OVERHEAD
        self._octets += octets
        if self._octets > OWN_OCTETS:
            if self._octets > MAX_RECIPIENTS:
                return TOO_MANY
            if not self._borrow(octets):
                self._fail(TOO_MANY_IN_ALL, "the memory that all sessions share for recipients is full")
                return TOO_MANY_IN_ALL
        self._recipients.append(recipient)
        return ADDED

    def _borrow(self, octets: int) -> bool:
        if not self._shared.memory.take(octets):
            return False
        self._borrowed += octets
        return True

    def _give_back(self) -> None:
        if self._borrowed:
            self._shared.memory.give_back(self._borrowed)
            self._borrowed = 0

    async def take(self, data: bytes) -> str | None:
        """Take a piece of the content; with b"" it has begun.

        Returns the reply of a mail that will be refused.
        """
        self.has_begun = True
        try:
            if self.fault is None:
                await self._take(data)
        except Exception as error:  # noqa: BLE001 - the content must be read to its end
            self._unexpected(error)
        return self.fault

    async def finish(self) -> str:
        """The content is complete: make the mail durable. Returns the reply."""
        try:
            if await self.take(b"") is None:
                return await self._commit()
        except Exception as error:  # noqa: BLE001 - the client must come again
            self._unexpected(error)
        finally:
            self._give_back()
        return self.fault or NOT_STORED

    def doubt(self) -> None:
        """The client may have gone: perhaps nobody hears the answer."""
        self._heard = False

    def tick(self, now: float) -> None:
        """Called once in a while: the answer to a mail is not waited for for ever."""
        if self._ended is not None and now - self._began > ANSWER_SECONDS:
            _end(self._ended)

    def leave(self) -> None:
        """The client has gone, or wants this mail no more. A mail whose end has come is kept."""
        self._heard = False
        self._give_back()
        self._drop()

    async def _take(self, data: bytes) -> None:
        limit = self._shared.max_message_size
        self._size += len(data)
        if limit and self._size > limit:
            self._fail(TOO_BIG, f"{self._size} octets came, max_message_size is {limit}")
            return
        if self._mail is None:
            envelope = Envelope(self._sender, tuple(self._recipients), self._gateway)
            self._mail, self._envelope = self._shared.drop.begin(envelope), envelope
        if data and self._mail.write(data):
            flushed = asyncio.get_running_loop().create_future()
            self._mail.flush(lambda: flushed.set_result(None))
            await flushed

    async def _commit(self) -> str:
        assert self._mail is not None
        self._began = time.monotonic()
        ended = self._ended = asyncio.get_running_loop().create_future()
        self._mail.commit(lambda outcome: self._committed(outcome, ended))
        self._mail = None  # it can be dropped no more
        await ended
        if self._reply is None:
            self._heard = False
            reason = f"not durable after {ANSWER_SECONDS:.0f} s; if it will be, it comes twice"
            self.log_refusal(TOO_SLOW, reason)
            return TOO_SLOW
        return self._reply

    def _committed(self, outcome: Stored | Exception, ended: asyncio.Future[None]) -> None:
        """The mail is durable, or never will be."""
        _end(ended)
        if isinstance(outcome, Stored):
            assert self._envelope is not None
            self._reply = f"250 2.0.0 Stored as {outcome.name}"
            self._shared.stored(
                self._ident,
                self._envelope,
                outcome,
                time.monotonic() - self._began,
                answered=self._heard,
                client=self._client,
                about=self._about,
            )
            return
        full = isinstance(outcome, OSError) and outcome.errno in FULL
        self._reply = NO_SPACE if full else NOT_STORED
        self.log_refusal(self._reply if self._heard else "none, the client has gone", str(outcome))

    def _fail(self, reply: str, reason: str) -> None:
        if self.fault is None:
            self.fault = reply
            self.log_refusal(reply, reason)
        self._drop()

    def _unexpected(self, error: Exception) -> None:
        log.unexpected(self._ident, error)
        self._fail(NOT_STORED, f"unexpected {type(error).__name__}")

    def _drop(self) -> None:
        if self._mail is not None:
            mail, self._mail = self._mail, None
            mail.abort()

    def log_refusal(self, reply: str, reason: str) -> None:
        self._shared.refused(
            self._ident,
            self._sender,
            len(self._recipients),
            reply=reply,
            reason=reason,
            client=self._client,
        )


def _end(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
