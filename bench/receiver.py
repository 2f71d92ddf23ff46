"""The receiver alone: benno-smtp, Postfix's smtpd and stock aiosmtpd take the same mails.

Mail is durable when they say 250. Postfix needs one sync a mail and leaves the name to the file system:
ext4 keeps it with the file's fsync. "Postfix" does nothing but receive, as the others do: its mail is
held. "Postfix, discarding" has its queue manager throw mail away meanwhile, on the same cores.

30 MB: stock aiosmtpd takes 32 MiB at the most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import mta, receivers
from bench.growth import grown
from bench.process import measured, traced
from bench.receivers import Receiver
from bench.report import Goal, Row, at_least, beside, compared
from bench.rounds import Run, Sample, compare
from bench.sending import KIB, MB, Load, send
from bench.setting import Setting

SUBJECT = "receiver"
OURS, OURS_BDAT, TWICE = "benno-smtp", "benno-smtp, BDAT", "benno-smtp, 2 processes"
HELD, DISCARDING = "Postfix", "Postfix, discarding"
AIOSMTPD = "aiosmtpd"

# Which of them must be how much faster than Postfix, by size and sessions.
_GOALS = {(4 * KIB, 8): 1.2, (4 * KIB, 64): 1.2, (MB, 8): 1.2}
_LARGE = 30 * MB

# What grows tenfold.
_GROWTH = {
    "sessions": (Load(2000, 4 * KIB, 8), Load(2000, 4 * KIB, 80)),
    "recipients": (Load(1000, 4 * KIB, 8, recipients=10), Load(300, 4 * KIB, 8, recipients=100)),
    "octets": (Load(500, 100_000, 8), Load(200, MB, 8)),
    "octets, large": (Load(20, 5 * MB, 4), Load(4, 50 * MB, 4)),
}


def measure(setting: Setting) -> Iterator[Row]:
    """Calls, then rates in memory, then rates on the disk."""
    yield from _calls(setting)
    if not setting.quick:
        with ExitStack() as stack:
            started = _start(stack, setting, setting.ram / SUBJECT)
            for load in _loads(setting, 4000):
                yield from _compared(setting, started, load, "memory", min(setting.rounds, 3))
    with ExitStack() as stack:
        started = _start(stack, setting, setting.directory / SUBJECT)
        for load in _loads(setting, setting.either(400, 2000)):
            yield from _compared(setting, started, load, "disk", setting.rounds)
    if not setting.quick:
        yield from _growing(setting)


def _loads(setting: Setting, small: int) -> list[Load]:
    """Runs of about a second each; a half in a quick benchmark. small: so many small mails."""
    if setting.quick:
        loads = [Load(small, 4 * KIB, 8), Load(small, 4 * KIB, 64)]
        return [*loads, Load(24, MB, 8), Load(1, _LARGE, 1)]
    loads = [Load(small // 2, 4 * KIB, 1), Load(small, 4 * KIB, 8), Load(small, 4 * KIB, 64)]
    loads += [Load(small // 8, 4 * KIB, 8, recipients=100), Load(small, 4 * KIB, 8, each=1)]
    loads += [Load(100, MB, 1), Load(200, MB, 8), Load(200, MB, 64)]
    return [*loads, Load(5, _LARGE, 1), Load(16, _LARGE, 8)]


def _start(stack: ExitStack, setting: Setting, place: Path) -> dict[str, Receiver]:
    """All of them, in directories of their own below `place`."""
    started = {OURS: stack.enter_context(receivers.benno_smtp(place / "benno-smtp"))}
    started[TWICE] = stack.enter_context(receivers.benno_smtp_twice(place / "twice"))
    started[AIOSMTPD] = stack.enter_context(receivers.aiosmtpd(place / "aiosmtpd"))
    if mta.missing() is None:
        started[HELD] = stack.enter_context(receivers.postfix(place / "postfix"))
        if not setting.quick:
            discarding = receivers.postfix(place / "discarding", mta.DISCARDED)
            started[DISCARDING] = stack.enter_context(discarding)
    return started


def _compared(
    setting: Setting, started: Mapping[str, Receiver], load: Load, place: str, rounds: int
) -> Iterator[Row]:
    plain = load.recipients == 1 and not load.each
    contenders: dict[str, Run] = {
        name: partial(_run, setting, receiver, load)
        for name, receiver in started.items()
        if name != AIOSMTPD or _is_for_aiosmtpd(setting, load) or HELD not in started
        if name != DISCARDING or (plain and load.sessions == 8)
        if name != TWICE or (plain and _is_for_two(setting, load))
    }
    bdat = replace(load, bdat=True)
    contenders[OURS_BDAT] = partial(_run, setting, started[OURS], bdat)
    comparison = compare(contenders, rounds)
    work = f"{load}, {'a connection each, ' if load.each else ''}{place}"
    base = HELD if HELD in started else AIOSMTPD
    goal = _GOALS.get((load.size, load.sessions)) if place == "disk" and base == HELD else None
    goals = {OURS: at_least(goal)} if goal and plain else {}
    yield from compared(SUBJECT, work, comparison, base=base, goals=goals, note=mta.missing() or "")
    yield from beside(SUBJECT, work, comparison, TWICE, OURS)
    if base != AIOSMTPD and AIOSMTPD in contenders:
        faster: Goal | None = at_least(5) if load.size == _LARGE and place == "disk" else None
        yield Row(SUBJECT, work, OURS, ratio=comparison.ratio(OURS, AIOSMTPD), goal=faster)


def _is_for_two(setting: Setting, load: Load) -> bool:
    """Whether two processes can share it."""
    return load.sessions > 1 and load.size <= setting.either(4 * KIB, MB)


def _is_for_aiosmtpd(setting: Setting, load: Load) -> bool:
    """It needs 80 ms of CPU for 1 MB: it takes part where something is learned from it."""
    if load.size == _LARGE:
        return load.sessions == 1
    return not setting.quick and load.sessions == 8


def _run(setting: Setting, receiver: Receiver, load: Load) -> Sample:
    receiver.empty()
    return measured(receiver.daemon, lambda: send(setting, receiver.port, load))


def _growing(setting: Setting) -> Iterator[Row]:
    """CPU time a mail, and its growth; on a tmpfs, so that the disk is left out."""
    with receivers.benno_smtp(setting.ram / f"{SUBJECT}.growth") as receiver:
        for what, loads in _GROWTH.items():
            works = ((load, partial(_run, setting, receiver, load)) for load in loads)
            yield from grown(setting, SUBJECT, what, OURS, works)


def _calls(setting: Setting) -> Iterator[Row]:
    """System calls of a mail."""
    makers: dict[str, Callable[[Path], Receiver]] = {}
    with ExitStack() as stack:
        makers[OURS] = lambda root: stack.enter_context(receivers.benno_smtp(root))
        makers[AIOSMTPD] = lambda root: stack.enter_context(receivers.aiosmtpd(root))
        for name, start in makers.items():
            receiver = start(setting.directory / SUBJECT / f"{name}.traced")
            for load in _traced_loads(setting, name):
                with traced(receiver.daemon.pid) as calls:
                    send(setting, receiver.port, load)
                figures = {
                    "calls/mail": calls.count / load.mails,
                    "syncs/mail": calls.syncs / load.mails,
                    "octets copied/mail": calls.octets / load.mails,
                }
                kind = "BDAT" if load.bdat else "DATA"
                yield Row(SUBJECT, f"{load}, {kind}, traced", name, figures)
            receiver.empty()


def _traced_loads(setting: Setting, name: str) -> Iterator[Load]:
    mails = setting.either(64, 512)
    for sessions in (8,) if setting.quick else (1, 8, 64):
        yield Load(mails, 4 * KIB, sessions)
        if name == OURS:
            yield Load(mails, 4 * KIB, sessions, bdat=True)
    if not setting.quick:
        yield Load(2, _LARGE, 1)
