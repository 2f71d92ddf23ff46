"""The forwarder: benno-milter2smtp empties a spool into benno-smtp over eight connections.

* smtp-source sends mails of the same size into the same benno-smtp, from memory: it has no spool to
  read, nothing to remove and nothing to remember. It makes a connection for each mail, as it does by
  itself.

And where the spool is in memory, and the inbox on the disk:

* smtp-source with eight connections that stay (-d).
* smtpload sends them by BDAT, pipelined, as the forwarder does: what benno-smtp could take.
* Postfix sends its own queue there, from the moment that it is told to until the last is removed.

The forwarder's seconds are all of its process, from its start to its end, and so are its CPU seconds.

Spool and import directory lie on different file systems, as on two hosts: one on the disk and the other
in memory, either way; then both on one disk, which has the work of both. The last comparison is one of
senders only: smtp-sink takes all and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench import mta, place, receivers, spool
from bench.growth import grown
from bench.report import Row, at_least, compared
from bench.rounds import Run, Sample, compare
from bench.sending import KIB, MB, Load, send, send_by_smtp_source
from bench.setting import Setting

SUBJECT = "forwarder"
OURS, POSTFIX = "benno-milter2smtp", "Postfix"
SOURCE, KEEPING, LOADING = "smtp-source -s 8", "smtp-source -s 8 -d", "smtpload, BDAT"
_CONNECTIONS = 8

# What grows tenfold.
_GROWTH = {
    "mails": (Load(1000, 4 * KIB, 8), Load(10_000, 4 * KIB, 8)),
    "octets": (Load(500, 100_000, 8), Load(200, MB, 8)),
    "octets, large": (Load(20, 5 * MB, 8), Load(4, 50 * MB, 8)),
}


@dataclass(frozen=True)
class _Way:
    """From a spool below `root` to a port. empty: makes the receiver forget all."""

    setting: Setting
    root: Path
    port: int
    empty: Callable[[], None]

    def forward(self, load: Load) -> Sample:
        spooled = self.root / "spool"
        self.empty()
        spool.refill(spooled, load.mails, load.size)
        log = self.setting.ram / "forwarder.log"
        return spool.forward(spooled, self.port, load.mails, connections=_CONNECTIONS, log=log)

    def relay(self, server: mta.Server, load: Load) -> Sample:
        """By a Postfix that holds these mails until it is told to send them."""
        send(self.setting, server.port, load)
        server.release()
        self.empty()
        place.rest(server.root)
        return Sample(load.mails, server.send_on(load.mails), octets=load.mails * load.size)

    def after(self, run: Run) -> Run:
        """Another sender, which has no spool."""

        def emptied() -> Sample:
            self.empty()
            return run()

        return emptied


def measure(setting: Setting) -> Iterator[Row]:
    """Calls, then into benno-smtp on several file systems, then into a sink."""
    disk, ram = setting.directory / SUBJECT, setting.ram / SUBJECT
    # So many that the forwarder's start, which is in its seconds, counts for little.
    small, large = Load(setting.either(1000, 5000), 4 * KIB, 8), Load(setting.either(150, 400), MB, 8)
    yield from _calls(setting)
    ways = [("spool in memory, inbox on disk", ram, disk)]
    if not setting.quick:
        ways.append(("spool on disk, inbox in memory", disk, ram))
        ways.append(("both on one disk", disk, disk))
    for where, spooled, imported in ways:
        with receivers.benno_smtp(disk / "benno-smtp", imported / "inbox") as receiver:
            way = _Way(setting, spooled, receiver.port, receiver.empty)
            for load in (small, large):
                everybody = not setting.quick and where == ways[0][0]
                yield from _compared(way, load, where, everybody=everybody)
    if setting.quick:
        return
    with receivers.smtp_sink() as port:
        way = _Way(setting, ram, port, lambda: None)
        yield from _compared(way, small, "spool in memory, into smtp-sink", everybody=False)
        for what, loads in _GROWTH.items():
            works = ((load, partial(way.forward, load)) for load in loads)
            yield from grown(setting, SUBJECT, f"{what}, into smtp-sink", OURS, works)


def _compared(way: _Way, load: Load, where: str, *, everybody: bool) -> Iterator[Row]:
    work, into_sink = f"{load}, {where}", "smtp-sink" in where
    once, bdat = replace(load, each=1), replace(load, bdat=True)
    contenders: dict[str, Run] = {
        OURS: partial(way.forward, load),
        SOURCE: way.after(partial(send_by_smtp_source, way.port, once)),
    }
    if everybody:
        contenders[KEEPING] = way.after(partial(send_by_smtp_source, way.port, load))
        contenders[LOADING] = way.after(partial(send, way.setting, way.port, bdat))
    with ExitStack() as stack:
        if everybody and mta.missing() is None:
            relayed = mta.relayed(way.port, _CONNECTIONS)
            server = stack.enter_context(mta.running(way.root / "postfix", extra=relayed))
            contenders[POSTFIX] = partial(way.relay, server, load)
        comparison = compare(contenders, way.setting.rounds)
    goals = {} if into_sink else {OURS: at_least(1)}
    yield from compared(SUBJECT, work, comparison, base=SOURCE, goals=goals)
    for other in contenders.keys() & {KEEPING, POSTFIX}:
        yield Row(SUBJECT, work, OURS, ratio=comparison.ratio(OURS, other))


def _calls(setting: Setting) -> Iterator[Row]:
    """System calls and syncs of a mail; those of the start and the end are taken off."""
    few, many = setting.either((8, 136), (8, 520))
    with receivers.benno_smtp(setting.ram / SUBJECT / "traced") as receiver:
        counted = []
        for mails in (few, many):
            spooled = setting.directory / SUBJECT / "spool"
            spool.refill(spooled, mails, 4 * KIB)
            words = spool.forwarder(spooled, receiver.port, connections=_CONNECTIONS)
            counted.append(spool.traced(words))
        receiver.empty()
    first, then = counted
    figures = {
        "calls/mail": (then.count - first.count) / (many - few),
        "syncs/mail": (then.syncs - first.syncs) / (many - few),
        "octets copied/mail": (then.octets - first.octets) / (many - few),
    }
    yield Row(SUBJECT, f"4 KiB, {_CONNECTIONS} sessions, traced", OURS, figures)
