"""From the MTA's events to mails: which octets and which envelope belong together. No I/O.

The rules, each of which has cost some milter a mail:

* A connection carries many mails, and many SMTP sessions one after the other. Nothing of one mail is
  left when the next begins: MAIL, ABORT, a new session and the end of a message each start afresh.
* ABORT comes also after a successful end of message, and does not undo it.
* The envelope is what MAIL and RCPT said, and it is complete when the first content comes. Without MAIL
  there is no envelope, and none is made up: such a mail is refused.
* An address that cannot be written as it is refuses its mail, not only itself, because a recipient that
  was accepted from the MTA and is missing in the file would be a wrong envelope; and it does so at the
  end of the message, because mail from sendmail(1) has no other point where a refusal reaches the
  sender.
"""

from __future__ import annotations

from dataclasses import dataclass

from benno_common.envelope import Envelope, is_storable
from benno_milter.event import Abort, Content, EndOfMessage, Event, Mail, NewSession, Quit, Rcpt

BAD_ADDRESS = "553 5.1.3 Address contains a control character that cannot be archived"
TOO_MANY = "452 4.5.3 Too many recipients for the mail archive"
NOT_STORED = "451 4.3.0 The mail archive could not store this mail"
TOO_SLOW = "451 4.3.0 The mail archive is too slow"
NOT_UNDERSTOOD = "451 4.3.0 The mail archive could not understand this mail"

# Memory for all recipients of a mail, in octets; Postfix takes 1,000 of them (smtpd_recipient_limit).
MAX_RECIPIENTS = 1024 * 1024
_OVERHEAD = 64  # of each


@dataclass(frozen=True, slots=True)
class Begin:
    """A mail begins, and this is its envelope."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Append:
    """The next octets of the mail that began."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Finish:
    """The mail is complete: keep it."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The mail is complete and cannot be kept: the reply, the reason, and whose mail it was."""

    reply: str
    reason: str
    sender: bytes
    recipients: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Forget the mail that began."""


Step = Begin | Append | Finish | Refuse | Cancel


class Assembly:
    """Makes mails of one connection's events. gateway: stands in every envelope."""

    def __init__(self, gateway: bytes | None = None) -> None:
        self._gateway = gateway
        self._reset()

    def _reset(self) -> None:
        self._sender: bytes | None = None
        self._recipients: list[bytes] = []
        self._count = 0  # of recipients
        self._octets = 0  # of memory for all of them
        self._begun = False
        self._fault: tuple[str, str] | None = None  # reply and reason

    @property
    def idle(self) -> bool:
        """Whether no mail is under way."""
        return self._sender is None and not self._begun and self._fault is None

    def fail(self, reply: str, reason: str) -> None:
        """Refuse the mail under way at its end. What it has begun is the caller's to cancel."""
        self._begun = False
        self._fault = self._fault or (reply, reason)

    def handle(self, event: Event) -> list[Step]:
        """What is to be done, in this order."""
        if isinstance(event, Content):
            return self._content(event.data)
        if isinstance(event, Mail):
            steps = self._forget()
            self._sender = self._address(event.address)
            return steps
        if isinstance(event, Rcpt):
            return self._recipient(event.address)
        if isinstance(event, EndOfMessage):
            return self._end()
        if isinstance(event, (Abort, NewSession, Quit)):
            return self._forget()
        return []

    def _forget(self) -> list[Step]:
        steps: list[Step] = [Cancel()] if self._begun else []
        self._reset()
        return steps

    def _address(self, address: bytes) -> bytes:
        if not is_storable(address):
            self.fail(BAD_ADDRESS, f"address {address!r} contains CR, LF or NUL")
        return strip_brackets(address)

    def _recipient(self, address: bytes) -> list[Step]:
        if self._begun:
            self.fail(NOT_UNDERSTOOD, "a recipient came after the content")
            return [Cancel()]
        self._count += 1
        self._octets += len(address) + _OVERHEAD
        if self._octets > MAX_RECIPIENTS:
            self._recipients.clear()
            self.fail(TOO_MANY, f"the recipients take more than {MAX_RECIPIENTS} octets")
        recipient = self._address(address)
        if self._fault is None:
            self._recipients.append(recipient)
        return []

    def _content(self, data: bytes) -> list[Step]:
        return [*self._begin(), Append(data)] if not self._refused() else []

    def _end(self) -> list[Step]:
        steps: list[Step] = []
        if self._refused() and self._fault:
            steps.append(Refuse(*self._fault, self._sender or b"", self._count))
        else:
            steps += [*self._begin(), Finish()]
        self._reset()
        return steps

    def _refused(self) -> bool:
        if self._sender is None and self._fault is None:
            self.fail(NOT_UNDERSTOOD, "the content came without a sender")
        return self._fault is not None

    def _begin(self) -> list[Step]:
        if self._begun or self._sender is None:
            return []
        self._begun = True
        return [Begin(Envelope(self._sender, tuple(self._recipients), self._gateway))]


def strip_brackets(address: bytes) -> bytes:
    """An address without its pair of angle brackets; mail from sendmail(1) comes without."""
    if address[:1] == b"<" and address[-1:] == b">":
        return address[1:-1]
    return address
