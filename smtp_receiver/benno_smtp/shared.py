"""What all connections share."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from benno_common import log
from benno_common.daemon import Sessions
from benno_common.identity import directory_identity
from benno_common.networks import Networks
from benno_smtp.policy import Gateways


@dataclass
class Shared(Sessions):
    """max_message_size: octets, 0 for no limit."""

    hostname: str = "localhost"
    gateways: Gateways = field(default_factory=lambda: Gateways(None, Networks([])))
    max_message_size: int = 0

    def identity(self) -> str:
        """That of the import directory as it is open now, for EHLO; empty where it is not."""
        with contextlib.suppress(OSError):
            return directory_identity(self.drop.directory.place.fd)
        return ""

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
