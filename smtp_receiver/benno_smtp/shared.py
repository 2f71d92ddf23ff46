"""What all connections share."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field

from benno_common import log
from benno_common.daemon import Sessions
from benno_common.identity import Mark
from benno_common.networks import Networks
from benno_common.seldom import Seldom
from benno_smtp.credentials import Users
from benno_smtp.guard import Guard
from benno_smtp.limits import Limits, Memory, Places
from benno_smtp.policy import Gateways
from benno_smtp.tls import Tls


@dataclass
class Shared(Sessions):
    """allowed: who may connect. max_message_size: octets, 0 for no limit. tls: None if not offered.

    users: who may log in, None if nobody need. shared_by_many: addresses that may have any number of
    connections.
    """

    hostname: str = "localhost"
    allowed: Networks = field(default_factory=Networks)
    gateways: Gateways = field(default_factory=lambda: Gateways(None, Networks([])))
    max_message_size: int = 0
    tls: Tls | None = None
    users: Users | None = None
    auth_without_tls: bool = False
    limits: Limits = field(default_factory=Limits)
    shared_by_many: Networks = field(default_factory=lambda: Networks([]))
    mark: Mark = field(default_factory=lambda: Mark(""))

    def __post_init__(self) -> None:
        self.places = Places(self.limits, self.shared_by_many)
        self.guard = Guard()
        self.memory = Memory()
        self.guesses = Seldom()
        self.lacking = Seldom()

    def identity(self) -> str:
        """What names the import directory as it is open now in the EHLO reply."""
        with contextlib.suppress(OSError):  # of a disk in trouble, which refuses mail anyway
            self.mark.put(self.drop.directory.place.fd)
        return self.mark.identity

    def admits(self, client: str) -> bool:
        """Whether a client may connect; else it is logged, with the line that would let it in."""
        if client in self.allowed:
            return True
        line = json.dumps([*str(self.allowed).split(","), client.partition("%")[0]])
        self.stranger_refused(client, f"to allow it too, write allowed_networks = {line}")
        return False

    def has_place(self, client: str) -> bool:
        """Take a place for a client; else it is logged, with the setting that does not allow it."""
        setting = self.places.enter(client)
        if setting is None:
            return True
        limits = {"max_connections": self.limits.connections}
        limit = limits.get(setting, self.limits.per_address)
        whose = "" if setting in limits else " of its address"
        reason = f"{limit} connections{whose} are open, see {setting}"
        self.crowd_refused(client, setting, reason)
        return False

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
