"""What all connections share, and the mail that one of them waits for."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field

from benno_common import log
from benno_common.daemon import Sessions
from benno_common.envelope import Envelope
from benno_common.networks import Networks
from benno_milter.message import Refuse


@dataclass
class Shared(Sessions):
    """What all connections share. gateway: stands in every envelope. allowed: may connect over TCP."""

    gateway: bytes | None = None
    allowed: Networks = field(default_factory=Networks)
    pending: str | None = None  # a file that tells systemd of new mail (systemd.path(5), PathExists=)

    def announce(self) -> None:
        """Have the new mail forwarded."""
        if self.pending is not None:
            with contextlib.suppress(OSError):  # the next run of cron or timer finds the mail too
                os.close(os.open(self.pending, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o640))


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
