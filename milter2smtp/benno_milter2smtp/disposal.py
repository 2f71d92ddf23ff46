"""What becomes of each mail: the one place that acts on outcomes, and sees when a host or a run ends.

    delivered        taken out, in batches
    temporary        kept for the next run; ten in a row are enough, where it is the host that cannot,
                     and a thousand where it may be these mails: ten must not block all others
    permanent        held as .err when another mail was taken; ten in a row end this run, none is held
    session trouble  everything kept, the run ends; where one mail may be the reason, with the second
    connection lost  the mail is kept, the next goes over a new one; three in a row are enough

"In a row" is without a delivery in between. Where it is enough, the next host is used, and the run ends
if there is none. Before that it goes on at the other end of the backlog: where the oldest mails
themselves are the trouble, they must not keep all others here, run after run.

A mail whose connection was lost before its end was sent, and one that a host cannot take, goes again in
this run if its host is given up and there is another: nobody has stored it. A mail whose last reply was
lost is kept, and may come twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from benno_common import log
from benno_common.spool import Spool, Stamp
from benno_milter2smtp.backlog import Backlog
from benno_milter2smtp.outcome import Delivered, Permanent, SessionTrouble, Temporary
from benno_milter2smtp.parcel import Parcel
from benno_milter2smtp.removal import Removal
from benno_milter2smtp.route import Host, Route

IN_A_ROW = 10
PATIENCE = 1000  # with mails that are put off one by one, in a row
LOSSES = 3


@dataclass
class Tally:
    """Mails, and octets of those that were sent. kept: all that lie in the spool, if it ended early."""

    sent: int = 0
    kept: int = 0
    held: int = 0
    size: int = 0


class Begun(NamedTuple):
    """How things stood when a mail was begun: those that are under way together count as one."""

    host: Host | None
    losses: int
    troubles: int


class _Waiting(NamedTuple):
    """A mail that goes again if its host is given up; else it is kept, for this reason."""

    name: str
    host: str
    reason: str


class Disposal:
    """stopped: no further mail may be begun."""

    def __init__(self, spool: Spool, backlog: Backlog, route: Route, removal: Removal) -> None:
        self.tally = Tally()
        self.stopped = False
        self._spool = spool
        self._backlog = backlog
        self._route = route
        self._removal = removal
        self._again: list[_Waiting] = []  # stored by nobody, and no fault of their own
        self._refused: list[tuple[Parcel, str]] = []  # to be held, with the reason
        self._suspicion: tuple[Host, str] | None = None  # trouble that may be that of one mail
        self._deferred = self._losses = self._troubles = 0  # in a row; the first is weighed

    def begin(self) -> Begun:
        """To be kept with each mail."""
        return Begun(self._route.host, self._losses, self._troubles)

    async def delivered(
        self, parcel: Parcel, host: Host, done: Delivered, seconds: float, *, altered: bool
    ) -> None:
        content = parcel.letter.content
        self.tally.sent += 1
        self.tally.size += content.size
        self._forget()
        self._keep_waiting()
        self._suspicion = None
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
        await self._hold_refused()

    def deferred(self, name: str, host: Host, outcome: Temporary) -> None:
        """A mail was put off: by its host, or for its own sake."""
        self._put_off(name, host, outcome.reason, again=outcome.general)
        if self._is_past(host):
            return
        before = self._deferred
        self._deferred += PATIENCE // IN_A_ROW if outcome.general else 1
        if before < PATIENCE // 2 <= self._deferred:
            self._backlog.turn_round()
        if self._deferred >= PATIENCE:
            self._give_up(host, f"too many mails in a row were put off, the last one: {outcome.reason}")

    def refused(self, parcel: Parcel, host: Host, outcome: Permanent) -> None:
        """A mail was refused for good, perhaps for its own sake."""
        self._refused.append((parcel, outcome.reason))
        if len(self._refused) == IN_A_ROW // 2:
            self._backlog.turn_round()
        if len(self._refused) >= IN_A_ROW:
            reason = f"{IN_A_ROW} mails in a row were refused, the last one: {outcome.reason}"
            self._stop(host, f"{reason}; nothing is held for that")

    def troubled(self, name: str, host: Host, outcome: SessionTrouble, begun: Begun) -> None:
        self.keep(name, str(host), outcome.reason)
        before = self._troubles
        self._troubles = max(before, begun.troubles + 1)
        if not outcome.doubtful or self._troubles > 1:
            self._stop(host, f"{outcome.reason}; nothing is held for that")
        elif not before:
            self._suspicion = host, outcome.reason
            self._backlog.turn_round()

    def lost(self, name: str, host: Host, reason: str, begun: Begun, *, stored: bool) -> None:
        """A connection was lost in the middle of a mail. stored: perhaps it is."""
        self._put_off(name, host, reason, again=not stored)
        if self._is_past(host):
            return
        before = self._losses
        self._losses = max(before, (begun.losses if begun.host == host else 0) + 1)
        if before < LOSSES - 1 <= self._losses:
            self._backlog.turn_round()
        if self._losses >= LOSSES:
            reason = f"{LOSSES} connections in a row were lost, the last one: {reason}"
            self._route.give_up(host, reason)
            self._go_again()

    def go_on_elsewhere(self) -> bool:
        """At the end of the backlog: whether mails that the host did not take go to the next."""
        host = self._route.host
        if host is None or not self._again or not self._route.has_next or self.stopped:
            return False
        reason = self._again[-1].reason
        self._give_up(host, f"the last {len(self._again)} mails did not get there: {reason}")
        return True

    async def finish(self) -> None:
        """The run ends: what was refused is held, unless the host is the reason."""
        self._keep_waiting()
        if self._suspicion and not self.stopped:
            host, reason = self._suspicion
            self._stop(host, f"{reason}; nothing is held for that")
        if self.stopped:
            for parcel, reason in self._refused:
                self.keep(parcel.name, "", reason)
        else:
            await self._hold_refused()

    def keep(self, name: str, host: str, reason: str) -> None:
        self.tally.kept += 1
        log.mail_kept(name, host=host, reason=reason)

    async def hold(self, name: str, reason: str, stamp: Stamp | None = None) -> None:
        """Put a mail aside; it stays where that fails, or where another lies under its name now."""
        try:
            if stamp is not None and await asyncio.to_thread(self._spool.is_replaced, name, stamp):
                self.keep(name, "", "another file of this name came while it was sent")
                return
            held = await asyncio.to_thread(self._spool.hold, name)
        except FileNotFoundError:
            return
        except OSError as error:
            self.keep(name, "", f"{reason}; and it cannot be held: {error.strerror}")
            return
        self.tally.held += 1
        log.mail_held(name, held, reason=reason)

    async def _hold_refused(self) -> None:
        refused, self._refused = self._refused, []
        for parcel, reason in refused:
            await self.hold(parcel.name, reason, parcel.stamp)

    def _forget(self) -> None:
        """A row has ended."""
        self._deferred = self._losses = self._troubles = 0

    def _put_off(self, name: str, host: Host, reason: str, *, again: bool) -> None:
        """again: in this run, perhaps, to the next host."""
        if again:
            self._again.append(_Waiting(name, str(host), reason))
        else:
            self.keep(name, str(host), reason)

    def _keep_waiting(self) -> None:
        """No mail goes again in this run."""
        waiting, self._again = self._again, []
        for mail in waiting:
            self.keep(*mail)

    def _is_past(self, host: Host) -> bool:
        """Whether this host was given up meanwhile; what it did not take goes to the next at once."""
        if host == self._route.host:
            return False
        self._go_again()
        return True

    def _give_up(self, host: Host, reason: str) -> None:
        """Use the next host, or end the run."""
        if not self._route.has_next:
            self._stop(host, reason)
            return
        self._route.give_up(host, reason)
        self._go_again()

    def _go_again(self) -> None:
        self._forget()
        if self._route.host and not self.stopped:
            self._backlog.put_back([mail.name for mail in self._again])
            self._again = []

    def _stop(self, host: Host, reason: str) -> None:
        if not self.stopped:
            log.host_failed(str(host), reason)
            self.stopped = True
