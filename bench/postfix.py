"""Postfix with benno-milter, with the C peer, and without a milter: a mail's way into the queue.

Each has a Postfix of its own with the same settings. What was accepted is held in the queue, so that
only receiving is measured. The mails are sent by Debian's smtp-source, in sessions that stay, and in a
session for each mail, as most mail comes from the net; and by smtpload, which times the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from bench import mta, process
from bench.milters import ALL, BENNO, C_PEER, C_UNSAFE, KIB, MIB, TWICE, Milter
from bench.report import Row, at_least, beside, compared
from bench.rounds import Run, Sample, compare
from bench.sending import Load, send, send_by_smtp_source
from bench.setting import Setting

SUBJECT = "postfix"
NONE = "no milter"
_ALL = (BENNO, TWICE, C_PEER, C_UNSAFE, NONE)

_Sender = Callable[[int, Load], Sample]  # to this port


@dataclass(frozen=True)
class _Pair:
    """A Postfix, and the milter that it asks."""

    server: mta.Server
    milter: Milter | None

    def empty(self) -> None:
        self.server.empty()
        if self.milter is not None:
            self.milter.empty()


def measure(setting: Setting) -> Iterator[Row]:
    if reason := mta.missing():
        yield Row(SUBJECT, "nothing was measured", "", note=reason)
        return
    with ExitStack() as stack:
        pairs = _start(setting, stack)
        for load in _loads(setting):
            goals = {BENNO: at_least(1.2)} if load.size == 4 * KIB else {}
            work = f"{load}, {'a session for each mail' if load.each else 'sessions stay'}"
            runs = _runs(pairs, load, send_by_smtp_source)
            comparison = compare(runs, setting.rounds)
            yield from compared(SUBJECT, work, comparison, base=C_PEER, goals=goals)
            yield from beside(SUBJECT, work, comparison, TWICE, BENNO)
        for sessions in setting.either([], [1, 8, 32]):
            load = Load(1000, 4 * KIB, sessions)
            comparison = compare(_runs(pairs, load, partial(send, setting)), setting.rounds)
            yield from compared(SUBJECT, f"{load}, answers timed", comparison, base=C_PEER)


def _runs(pairs: Mapping[str, _Pair], load: Load, sender: _Sender) -> dict[str, Run]:
    return {name: partial(_run, pair, load, sender) for name, pair in pairs.items()}


def _loads(setting: Setting) -> Iterator[Load]:
    mails = setting.either(300, 1000)
    for sessions in (8, 32):
        yield Load(mails, 4 * KIB, sessions)
        if not setting.quick:
            yield Load(mails, 4 * KIB, sessions, each=1)
    if not setting.quick:
        yield Load(100, MIB, 8)


def _start(setting: Setting, stack: ExitStack) -> Mapping[str, _Pair]:
    pairs = {}
    for number, name in enumerate(setting.either((BENNO, C_PEER), _ALL)):
        root = setting.directory / f"{SUBJECT}.{number}"
        milter = None if name == NONE else stack.enter_context(ALL[name](setting, root / "milter"))
        asked = milter.for_postfix if milter else ""
        server = stack.enter_context(mta.running(root / "mta", milter=asked, extra=mta.HELD))
        pairs[name] = _Pair(server, milter)
    return pairs


def _run(pair: _Pair, load: Load, sender: _Sender) -> Sample:
    pair.empty()
    sample = process.measured(pair.server.daemon, lambda: sender(pair.server.port, load))
    kept = [len(pair.server.files("hold")), pair.milter.count() if pair.milter else load.mails]
    if kept != [load.mails] * 2:
        raise RuntimeError(f"{load}: {kept} mails are in the queue and with the milter")
    pair.empty()
    return replace(sample, switches=None, peak=None)  # its processes come and go
