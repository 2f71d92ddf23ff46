"""benno-milter alone, beside other milters that keep mail: what a mail costs, and how quick they are.

What it costs depends little on how busy the machine is: system calls, syncs and octets copied are
counted with strace(1) in runs of their own; CPU time, context switches and the rate without a disk are
taken on a tmpfs. Then all have their turn on the disk.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import listening, process
from bench.growth import grown
from bench.milters import (
    ALL,
    BENNO,
    C_PEER,
    C_UNSAFE,
    KIB,
    MIB,
    PURE,
    TWICE,
    Milter,
    Work,
    benno,
    load,
    send,
)
from bench.report import SWITCHES, Goal, Row, at_least, at_most, beside, compared
from bench.rounds import Run, Sample, compare
from bench.setting import Setting

SUBJECT = "milter"
_SYNCS = "syncs/mail"
_C_AND_OURS = (BENNO, TWICE, C_PEER, C_UNSAFE)

_PROFILED = """
import cProfile
from benno_milter.program import main
profile = cProfile.Profile()
try:
    profile.runcall(main)
finally:
    calls = sum(entry.callcount for entry in profile.getstats())
    open({result!r}, "w").write(str(calls))
"""

# Work on the disk, what is to be reached beside the C peer, and whether all others have their turn.
_SMALL = (
    (Work(500, 4 * KIB, 1), at_least(1.0), False),
    (Work(1500, 4 * KIB, 8), at_least(1.5), True),
    (Work(3000, 4 * KIB, 64), at_least(1.5), False),
    (Work(3000, 4 * KIB, 500), None, False),
)
_LARGE = (
    (Work(800, 64 * KIB, 8), None, False),
    (Work(800, 64 * KIB, 64), None, False),
    (Work(60, MIB, 1), at_least(1.0), False),
    (Work(100, MIB, 8), at_least(1.0), False),
    (Work(4, 50 * MIB, 4), None, False),
    (Work(800, 16 * KIB, 8, headers=200), None, False),
    (Work(400, 4 * KIB, 8, recipients=500), None, False),
)
# What is counted; as many mails as each connection needs.
_COUNTED = (
    Work(0, 4 * KIB, 64),
    Work(0, 4 * KIB, 1),
    Work(0, 4 * KIB, 8),
    Work(0, MIB, 1),
    Work(0, MIB, 8),
)
# What grows tenfold.
_GROWTH = {
    "recipients": (Work(1000, 4 * KIB, 8, recipients=50), Work(300, 4 * KIB, 8, recipients=500)),
    "headers": (Work(1000, 16 * KIB, 8, headers=20), Work(500, 16 * KIB, 8, headers=200)),
    "octets": (Work(500, 100 * KIB, 8), Work(200, 1000 * KIB, 8)),
    "octets, large": (Work(50, 5 * MIB, 4), Work(5, 50 * MIB, 4)),
    "connections": (Work(2000, 4 * KIB, 50), Work(2000, 4 * KIB, 500)),
    "mails kept": (Work(1000, 4 * KIB, 8), Work(10_000, 4 * KIB, 8)),
}


def measure(setting: Setting) -> Iterator[Row]:
    yield from _sink(setting)
    for work in setting.either(_COUNTED[:1], _COUNTED):
        for name in setting.either([BENNO], [BENNO, C_PEER]):
            yield _cost(setting, name, work)
    if not setting.quick:
        yield from _in_memory(setting)
    yield from _on_disk(setting)
    if not setting.quick:
        yield from _growing(setting)


@contextmanager
def _started(setting: Setting, root: Path, names: Sequence[str]) -> Iterator[Mapping[str, Milter]]:
    with ExitStack() as stack:
        milters = {}
        for number, name in enumerate(names):
            milters[name] = stack.enter_context(ALL[name](setting, root / f"{number}"))
        yield milters


def _run(setting: Setting, milter: Milter, work: Work) -> Sample:
    milter.empty()
    sample = load(setting, milter, work)
    milter.empty()
    return sample


def _sink(setting: Setting) -> Iterator[Row]:
    """How fast the load generator is by itself: what is slower is not its doing."""
    address = str(setting.ram / "sink")
    with process.running(
        [setting.program("miltersink"), address],
        ready=lambda: listening.answers(address),
        log=setting.ram / "sink.log",
    ):
        for connections in (8, 64):
            work = Work(setting.either(5000, 50_000), 4 * KIB, connections)
            comparison = compare({"miltersink": partial(send, setting, address, work)}, setting.rounds)
            goal = {"miltersink": at_least(20_000, "mails/s")}
            yield from compared(f"{SUBJECT}: load generator", str(work), comparison, goals=goal)


def _cost(setting: Setting, name: str, work: Work) -> Row:
    """What a mail takes on the disk: counted in one run, and the switches in another, undisturbed."""
    work = replace(work, mails=setting.either(4, 40) * work.connections)
    enough = setting.either(1000, 2000) * 4 * KIB // work.octets  # so that the start counts for little
    more = replace(work, mails=max(work.mails, enough))
    with (
        ALL[name](setting, setting.directory / "traced") as milter,
        process.traced(milter.daemon.pid) as calls,
    ):
        load(setting, milter, work)
    with ALL[name](setting, setting.directory / "untraced") as milter:
        load(setting, milter, more)
    for done in ("traced", "untraced"):
        shutil.rmtree(setting.directory / done)
    assert milter.daemon.used is not None
    figures = {
        "calls/mail": calls.count / work.mails,
        _SYNCS: calls.syncs / work.mails,
        "octets copied/mail": calls.octets / work.mails,
        SWITCHES: milter.daemon.used.switches / more.mails,
    }
    if name == BENNO:
        figures["Python calls/mail"] = _python_calls(setting, work)
    common = calls.names.most_common(14)
    note = ", ".join(f"{call} {count / work.mails:.2f}" for call, count in common)
    goal = at_most(1.1, _SYNCS) if name == BENNO and work.connections == 64 else None
    return Row(f"{SUBJECT}: cost", str(work), name, figures, goal=goal, note=note)


def _python_calls(setting: Setting, work: Work) -> float:
    """Calls of functions, built-in ones too, in the thread of the event loop, from its start on."""
    root = setting.directory / "profiled"
    code = _PROFILED.format(result=str(root / "calls"))
    with benno(setting, root, start=[sys.executable, "-c", code]) as milter:
        load(setting, milter, work)
    calls = int((root / "calls").read_text())
    shutil.rmtree(root)
    return calls / work.mails


def _in_memory(setting: Setting) -> Iterator[Row]:
    with _started(setting, setting.ram / SUBJECT, tuple(ALL)) as milters:
        for connections in (1, 8, 64, 500):
            work = Work(3000, 4 * KIB, connections)
            runs = _runs(setting, milters, work)
            comparison = compare(runs, min(setting.rounds, 5))
            yield from compared(f"{SUBJECT}: tmpfs", str(work), comparison, base=C_PEER)
            yield from beside(f"{SUBJECT}: tmpfs", str(work), comparison, TWICE, BENNO)


def _on_disk(setting: Setting) -> Iterator[Row]:
    works = [work for work in _SMALL + _LARGE if not setting.quick or work[1] is not None]
    started = setting.either((BENNO, TWICE, C_PEER), tuple(ALL))
    with _started(setting, setting.directory / f"{SUBJECT}.disk", started) as milters:
        for work, goal, everybody in works:
            names = started if everybody else [one for one in _C_AND_OURS if one in started]
            yield from _compared_on_disk(setting, {name: milters[name] for name in names}, work, goal)


def _compared_on_disk(
    setting: Setting, milters: Mapping[str, Milter], work: Work, goal: Goal | None
) -> Iterator[Row]:
    work = replace(work, mails=setting.either(work.mails // 4, work.mails))
    comparison = compare(_runs(setting, milters, work), setting.rounds)
    goals = {BENNO: goal} if goal else {}
    yield from compared(f"{SUBJECT}: disk", str(work), comparison, base=C_PEER, goals=goals)
    yield from beside(f"{SUBJECT}: disk", str(work), comparison, TWICE, BENNO)


def _runs(setting: Setting, milters: Mapping[str, Milter], work: Work) -> Mapping[str, Run]:
    return {
        name: partial(_run, setting, milter, work)
        for name, milter in milters.items()
        if name != TWICE or _is_for_two(setting, work)
        if name != PURE or work.connections == 8  # 200 mails a second
    }


def _is_for_two(setting: Setting, work: Work) -> bool:
    """Whether two processes can share it, and it is one of the plain ones."""
    plain = work.headers == Work.headers and work.recipients == Work.recipients
    return work.connections > 1 and plain and work.octets in setting.either([4 * KIB], [4 * KIB, MIB])


def _growing(setting: Setting) -> Iterator[Row]:
    """CPU time a mail, and its growth; on a tmpfs, so that the disk is left out."""
    with _started(setting, setting.ram / f"{SUBJECT}.growth", (BENNO, C_PEER)) as milters:
        for what, grows in _GROWTH.items():
            for name, milter in milters.items():
                works = ((work, partial(_run, setting, milter, work)) for work in grows)
                yield from grown(setting, SUBJECT, what, name, works)
