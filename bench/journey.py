"""The whole journey: Postfix, benno-milter, spool, benno-milter2smtp, benno-smtp, import directory.

Mails are sent to Postfix, which asks benno-milter about each of them; then the forwarder, which cron
would start, sends the spool to benno-smtp. A journey's seconds are those of both parts, one after the
other; the rows of the parts say where they went.

The other way that has one more host with a disk in it: Postfix holds its mail, then sends it on to
another Postfix, which keeps it. It syncs each mail twice as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import milters, mta, place, receivers, spool
from bench.report import Row, compared
from bench.rounds import Comparison, Run, Sample, compare
from bench.sending import KIB, MB, Load, send
from bench.setting import Setting

SUBJECT = "journey"
WHOLE, ACCEPTED, FORWARDED = "whole journey", "into the spool", "into the archive"
POSTFIX = "Postfix to Postfix"
_CONNECTIONS = 8


@dataclass(frozen=True)
class _Journey:
    """A Postfix with a milter, the spool that this fills, and the receiver behind the forwarder."""

    setting: Setting
    server: mta.Server
    spool: Path
    receiver: receivers.Receiver
    parts: dict[str, list[Sample]]

    def travel(self, load: Load) -> Sample:
        self.server.empty()
        self.receiver.empty()
        receivers.empty(self.spool)
        accepted = send(self.setting, self.server.port, load)
        self.server.empty()  # the mail's recipients are not what is measured
        place.rest(self.spool)
        log = self.setting.ram / "forwarder.log"
        forwarded = spool.forward(
            self.spool, self.receiver.port, load.mails, connections=_CONNECTIONS, log=log
        )
        for name, sample in ((ACCEPTED, accepted), (FORWARDED, forwarded)):
            self.parts.setdefault(name, []).append(sample)
        return Sample(load.mails, accepted.seconds + forwarded.seconds)


def measure(setting: Setting) -> Iterator[Row]:
    """Small mails over 8 and 32 sessions, and large ones."""
    if reason := mta.missing():
        yield Row(SUBJECT, "", WHOLE, note=reason)
        return
    loads = [Load(200, 4 * KIB, 8)]
    if not setting.quick:
        loads = [Load(3000, 4 * KIB, 8), Load(3000, 4 * KIB, 32), Load(200, MB, 8)]
    disk = setting.directory / SUBJECT
    with ExitStack() as stack:
        enter = stack.enter_context
        receiver = enter(receivers.benno_smtp(disk / "benno-smtp"))
        milter = enter(milters.benno(setting, disk / "milter"))
        server = enter(mta.running(disk / "postfix", milter=milter.for_postfix, extra=mta.DISCARDED))
        contenders: dict[str, Run] = {}
        if not setting.quick:
            archive = enter(receivers.postfix(disk / "archive"))
            relayed = mta.relayed(archive.port, _CONNECTIONS)
            first = enter(mta.running(disk / "relay", extra=relayed))
        for load in loads:
            way = _Journey(setting, server, milter.spool, receiver, {})
            contenders[WHOLE] = partial(way.travel, load)
            if not setting.quick:
                contenders[POSTFIX] = partial(_relay, setting, first, archive, load)
            base = None if setting.quick else POSTFIX
            yield from compared(SUBJECT, str(load), compare(contenders, setting.rounds), base=base)
            yield from compared(SUBJECT, str(load), Comparison(way.parts))


def _relay(setting: Setting, first: mta.Server, archive: receivers.Receiver, load: Load) -> Sample:
    archive.empty()
    place.rest(first.root)
    accepted = send(setting, first.port, load)
    first.release()
    place.rest(first.root)
    return Sample(load.mails, accepted.seconds + first.send_on(load.mails))
