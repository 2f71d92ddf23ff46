"""What all connections share."""

from __future__ import annotations

from dataclasses import dataclass, field

from benno_common import log
from benno_common.daemon import Sessions
from benno_common.networks import Networks
from benno_smtp.policy import Gateways


@dataclass
class Shared(Sessions):
    """max_message_size: octets, 0 for no limit. identity: of the import directory, for EHLO."""

    hostname: str = "localhost"
    gateways: Gateways = field(default_factory=lambda: Gateways(None, Networks([])))
    max_message_size: int = 0
    identity: str = ""

    def refused(
        self,
        ident: str | None,
        sender: bytes,
        recipients: int,
        *,
        reply: str,
        reason: str,
        client: str,
    ) -> None:
        """Count a mail, or a command of one, that was refused, and log it."""
        self.statistics.refused += 1
        log.mail_refused(
            ident, sender=sender, recipients=recipients, reply=reply, reason=reason, client=client
        )
