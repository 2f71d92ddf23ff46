"""What all connections share, and the mail that one of them waits for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benno_common import log
from benno_common.envelope import Envelope
from benno_common.log import Stored
from benno_common.maildrop import MailDrop
from benno_common.networks import Networks
from benno_milter.message import Refuse
from benno_milter.statistics import Statistics

if TYPE_CHECKING:
    from benno_milter.connection import Connection


@dataclass
class Shared:
    """What all connections share. gateway: stands in every envelope. allowed: may connect over TCP."""

    drop: MailDrop
    gateway: bytes | None
    allowed: Networks
    statistics: Statistics = field(default_factory=Statistics)
    connections: set[Connection] = field(default_factory=set)
    draining: bool = False  # the daemon ends
    empty: asyncio.Event = field(default_factory=asyncio.Event)  # there are no connections

    def stored(self, pending: Pending, stored: Stored, *, answered: bool) -> None:
        """Count a mail that is durable, and log it."""
        seconds = time.monotonic() - pending.began
        self.statistics.stored(stored.size, seconds)
        log.mail_stored(pending.queue_id, pending.envelope, stored, seconds, answered=answered)


@dataclass(slots=True, eq=False)
class Pending:
    """A mail whose end has come and that is being made durable. Times are of the monotonic clock."""

    queue_id: str | None
    envelope: Envelope
    began: float
    told: float  # when the MTA last heard of it


def refusal_of(envelope: Envelope, reply: str, reason: str) -> Refuse:
    """The refusal of a mail whose envelope was complete."""
    return Refuse(reply, reason, envelope.sender, len(envelope.recipients))


def log_refusal(queue_id: str | None, refusal: Refuse) -> None:
    """One line for a mail that is not stored."""
    log.mail_refused(
        queue_id,
        sender=refusal.sender,
        recipients=refusal.recipients,
        reply=refusal.reply,
        reason=refusal.reason,
    )
