"""What all connections share, and the mail that one of them waits for."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field

from benno_common import descriptors, log
from benno_common.daemon import Sessions
from benno_common.envelope import Envelope
from benno_common.networks import Networks
from benno_milter.message import Refuse


@dataclass
class Shared(Sessions):
    """What all connections share.

    gateway: stands in every envelope. allowed: may connect over TCP. places: connections at a time.
    """

    gateway: bytes | None = None
    allowed: Networks = field(default_factory=Networks)
    places: int = sys.maxsize
    pending: str | None = None  # a file that tells systemd of new mail (systemd.path(5), PathExists=)

    def admits(self, peer: str, *, by_tcp: bool) -> bool:
        """Whether a client may connect; else it is logged, with what would let it in.

        Who may use a Unix socket is decided by its mode.
        """
        if by_tcp and peer not in self.allowed:
            allowed = " ".join(str(self.allowed).split(","))
            self.stranger_refused(peer, f"to allow it too, start with --allow {allowed} {peer}")
            return False
        if len(self.connections) >= self.places:
            reason = f"{self.places} connections are open, and there are descriptors for no more"
            self.crowd_refused(peer, "descriptors", f"{reason}; {descriptors.RAISE}")
            return False
        return True

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
