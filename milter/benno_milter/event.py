"""What the MTA says about mails: the events that `wire` makes of packets and `message` of mails."""

from __future__ import annotations

from dataclasses import dataclass


class ProtocolError(ValueError):
    """What came is not the milter protocol; the connection cannot be understood any further."""


@dataclass(frozen=True, slots=True)
class Negotiation:
    """The MTA's offer was answered: `reply` is the packet to send."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class Mail:
    """A new mail. address: as it came, with or without brackets. It is answered."""

    address: bytes


@dataclass(frozen=True, slots=True)
class Rcpt:
    """One more recipient. owed: the MTA waits for a reply."""

    address: bytes
    owed: bool


@dataclass(frozen=True, slots=True)
class Content:
    """Octets of the message. owed: the MTA waits for a reply."""

    data: bytes
    owed: bool


@dataclass(frozen=True, slots=True)
class EndOfMessage:
    """The message is complete. It is answered."""

    queue_id: str | None


@dataclass(frozen=True, slots=True)
class Abort:
    """The mail under way is cancelled; none before it is."""


@dataclass(frozen=True, slots=True)
class NewSession:
    """Another SMTP session begins on this connection."""


@dataclass(frozen=True, slots=True)
class Quit:
    """The MTA is done with this connection."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A command that says nothing about the mail. owed: the MTA waits for a reply."""

    owed: bool


Event = Negotiation | Mail | Rcpt | Content | EndOfMessage | Abort | NewSession | Quit | Ignored
