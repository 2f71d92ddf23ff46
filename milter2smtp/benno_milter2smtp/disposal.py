"""What becomes of each mail: the one place that acts on outcomes, and that sees when a run must end.

    delivered        taken out, in batches
    temporary        kept for the next run; ten in a row end this one, where it is the host that cannot,
                     and a thousand where it may be these mails: ten of them must not block all others
    permanent        held as .err; ten in a row end this run
    session trouble  everything kept, the run ends
    connection lost  the mail is kept, the next goes over a new one; three in a row: the next host

"In a row" is without a delivery in between. A mail whose connection was lost before its end was sent
goes again in this run if its host is given up and there is another: nobody has stored it. A mail whose
last reply was lost is kept, and may come twice.

Before a row is full, the run goes on elsewhere in the backlog: where the oldest mails themselves are
the trouble, they must not keep all others here, run after run.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from benno_common import log
from benno_common.spool import Spool
from benno_milter2smtp.backlog import Backlog
from benno_milter2smtp.delivery import Delivery
from benno_milter2smtp.outcome import Delivered
from benno_milter2smtp.parcel import Parcel
from benno_milter2smtp.removal import Removal
from benno_milter2smtp.route import LOSSES, Host, Route

IN_A_ROW = 10
PATIENCE = 1000  # with mails that are put off one by one, in a row


@dataclass
class Tally:
    """Mails, and octets of those that were sent. kept: all that lie in the spool, if it ended early."""

    sent: int = 0
    kept: int = 0
    held: int = 0
    size: int = 0


class Disposal:
    """stopped: no further mail may be begun."""

    def __init__(self, spool: Spool, backlog: Backlog, route: Route, removal: Removal) -> None:
        self.tally = Tally()
        self.stopped = False
        self._spool = spool
        self._backlog = backlog
        self._route = route
        self._removal = removal
        self._deferred = 0  # in a row, weighed
        self._held = 0  # in a row
        self._again: list[str] = []  # lost in a row, and stored by nobody

    async def delivered(
        self, parcel: Parcel, host: Host, done: Delivered, seconds: float, *, altered: bool
    ) -> None:
        content = parcel.letter.content
        self.tally.sent += 1
        self.tally.size += content.size
        self._deferred = self._held = 0
        self._again.clear()
        self._route.delivered()
        log.mail_sent(
            parcel.name,
            parcel.letter.envelope,
            host=str(host),
            size=content.size,
            sha256=content.sha256,
            seconds=seconds,
            reply=str(done.reply),
            altered=altered,
        )
        await self._removal.add(parcel.name, parcel.stamp)

    def deferred(self, name: str, host: Host, reason: str, *, general: bool) -> None:
        """A mail was put off. general: others will be too, so that ten of them are enough."""
        self.keep(name, str(host), reason)
        before = self._deferred
        self._deferred += PATIENCE // IN_A_ROW if general else 1
        if before < PATIENCE // 2 <= self._deferred:
            self._backlog.skip_ahead()
        if self._deferred >= PATIENCE and not self.stopped:
            log.host_failed(str(host), f"too many mails in a row were put off, the last one: {reason}")
            self.stopped = True

    async def refused(self, name: str, host: Host, reason: str) -> None:
        if self.stopped:  # ten in a row may be more than it looks: hold no more of them
            self.keep(name, str(host), reason)
            return
        self._held += 1
        if self._held == IN_A_ROW:
            log.host_failed(
                str(host), f"{IN_A_ROW} mails in a row were refused, the last one: {reason}"
            )
            self.stopped = True
        await self.hold(name, reason)

    def troubled(self, name: str, host: Host, reason: str) -> None:
        self.keep(name, str(host), reason)
        if not self.stopped:
            log.host_failed(str(host), f"{reason}; nothing is held for that")
            self.stopped = True

    def lost(self, name: str, delivery: Delivery, reason: str, losses: int) -> None:
        """The connection was lost in the middle of a mail. losses: those before it was begun."""
        self.keep(name, str(self._route.host_of(delivery)), reason)
        if not delivery.ending:
            self._again.append(name)
        before = self._route.losses
        given_up = self._route.lost(delivery, reason, losses)
        if before < LOSSES - 1 <= self._route.losses:
            self._backlog.skip_ahead()
        if given_up and self._route.host:
            self.tally.kept -= len(self._again)
            self._backlog.put_back(self._again)
            self._again = []

    def keep(self, name: str, host: str, reason: str) -> None:
        self.tally.kept += 1
        log.mail_kept(name, host=host, reason=reason)

    async def hold(self, name: str, reason: str) -> None:
        """Put a mail aside; it stays where that fails."""
        try:
            held = await asyncio.to_thread(self._spool.hold, name)
        except FileNotFoundError:
            return
        except OSError as error:
            self.keep(name, "", f"{reason}; and it cannot be held: {error.strerror}")
            return
        self.tally.held += 1
        log.mail_held(name, held, reason=reason)
