"""An archive host that was away for long: a spool of very many mails, and a tenth of it.

The mails are few files with many names; the forwarder opens, reads and removes each name all the same.
It sends them, from a directory on the disk, to smtp-sink, which takes little time of its own, and is
stopped early: it has listed the spool several times by then. The rate falls if the last fifth of what
was sent was slower than the first.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import process, receivers, spool
from bench.logfile import Count
from bench.report import PEAK, RATE, Row, at_least, at_most
from bench.sending import KIB
from bench.setting import Setting, environment

SUBJECT = "memory"
FIRST, LAST = "s to the first", "last fifth/first"
_CONNECTIONS = 8
_MIB = 1 << 20


@dataclass(frozen=True)
class _Run:
    """first: seconds to the first mail. fifths: seconds of each fifth, the first with the start and its
    listing, as the others have theirs. peak: octets.
    """

    first: float
    fifths: list[float]
    peak: int


def measure(setting: Setting) -> Iterator[Row]:
    """Whether it stays within bounds, and what ten times as many mails change."""
    mails, sent = setting.either((20_000, 2_000), (1_000_000, 100_000))
    tenth = run(setting, mails // 10, min(sent, mails // 10))
    whole = run(setting, mails, sent)
    yield _row(mails // 10, tenth)
    yield _row(mails, whole)
    times = {name: whole[name] / tenth[name] for name in (FIRST, RATE, PEAK)}
    yield Row(SUBJECT, _work(mails), "times a tenth's", times)
    if setting.quick:
        return
    for goal in (at_most(5, FIRST), at_least(0.9, LAST), at_most(96, PEAK)):
        assert goal.figure is not None
        figure = {goal.figure: whole[goal.figure]}
        yield Row(SUBJECT, _work(mails), f"of these, {goal.figure}", figure, goal=goal)


def _work(mails: int) -> str:
    return f"a spool of {mails} mails"


def _row(mails: int, figures: dict[str, float]) -> Row:
    return Row(SUBJECT, _work(mails), "benno-milter2smtp", figures)


def run(setting: Setting, mails: int, sent: int) -> dict[str, float]:
    """The figures of a run over so many mails that is stopped after so many of them."""
    spooled = setting.directory / "backlog"
    spool.refill_with_links(spooled, mails, 2 * KIB)
    with receivers.smtp_sink() as port:
        times = _forward(spooled, port, sent, setting.ram / "backlog.log")
    shutil.rmtree(spooled)
    return {
        RATE: sent / sum(times.fifths),
        FIRST: times.first,
        LAST: times.fifths[0] / times.fifths[-1],
        PEAK: times.peak / _MIB,
    }


def _forward(spooled: Path, port: int, sent: int, log: Path) -> _Run:
    """Stop it as soon as so many are sent."""
    counted = Count(log, b": sent ")
    words = spool.forwarder(spooled, port, connections=_CONNECTIONS)
    began = time.monotonic()
    with log.open("wb") as stream:
        forwarder = subprocess.Popen(words, stdout=stream, stderr=stream, env=environment())
    try:
        times = []
        for mark in (1, *(sent * fifth // 5 for fifth in range(1, 6))):
            process.wait_for(partial(_reached, counted, mark), f"{mark} mails sent", 3600)
            times.append(time.monotonic())
        peak = process.Daemon(forwarder.pid, log).usage().peak
    finally:
        process.end(forwarder)
        log.unlink()
    first, *marks = times
    fifths = [later - earlier for earlier, later in zip([began, *marks], marks, strict=False)]
    return _Run(first - began, fifths, peak)


def _reached(counted: Count, mark: int) -> bool:
    return counted.now() >= mark
