"""What was measured, as a table for people and as JSON.

    yield Row("milter", "4 KiB, 8 connections", "benno-milter", {"calls/mail": 31.2})
    yield from compared("milter", "4 KiB, 8 connections, disk", comparison, base="C peer",
                        goals={"benno-milter": at_least(1.5)})

A Row is one line: subject and work say what was done, contender who did it, figures what came out, by
name with unit. A goal belongs to the row's ratio where it has one, else to the figure that it names. It
is reached if the median reaches it; where the whole interval does, it is said to be sure.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from bench.rounds import Comparison, Ratio, Sample

RATE = "mails/s"
CPU = "CPU us/mail"
SWITCHES = "switches/mail"
P50, P99, WORST = "median ms", "99 % ms", "worst ms"
PEAK = "peak MiB"
STEAL = "steal %"
_COLUMNS = (RATE, CPU, SWITCHES, P50, P99, PEAK)


@dataclass(frozen=True)
class Goal:
    """What is to be reached: `value` or more, or less; of the figure of this name, or of the ratio."""

    value: float
    more: bool = True
    figure: str | None = None

    def met(self, value: float) -> bool:
        return value >= self.value if self.more else value <= self.value

    def __str__(self) -> str:
        return f"{'>=' if self.more else '<='} {self.value:g}"


def at_least(value: float, figure: str | None = None) -> Goal:
    return Goal(value, True, figure)


def at_most(value: float, figure: str | None = None) -> Goal:
    return Goal(value, False, figure)


@dataclass(frozen=True)
class Row:
    """One line of the report. note: what a reader must know of it. rates, steals: of each round."""

    subject: str
    work: str
    contender: str
    figures: Mapping[str, float] = field(default_factory=dict)
    ratio: Ratio | None = None
    goal: Goal | None = None
    note: str = ""
    rates: Sequence[float] = ()
    steals: Sequence[float] = ()

    @property
    def reached(self) -> bool | None:
        """Whether the goal was; None without one."""
        if self.goal is None:
            return None
        return self.goal.met(self.figures[self.goal.figure] if self.goal.figure else self._ratio.median)

    @property
    def sure(self) -> bool | None:
        """Whether every ratio of the interval reaches the goal; None without a goal for the ratio."""
        if self.goal is None or self.goal.figure:
            return None
        return self.goal.met(self._ratio.lower) and self.goal.met(self._ratio.upper)

    @property
    def _ratio(self) -> Ratio:
        assert self.ratio is not None, f"{self.work}: a goal for a ratio, and no ratio"
        return self.ratio


def compared(
    subject: str,
    work: str,
    comparison: Comparison,
    *,
    base: str | None = None,
    goals: Mapping[str, Goal] | None = None,
    note: str = "",
) -> Iterator[Row]:
    """A row for each contender; base: whom the others are compared with. goals: by contender."""
    for name, samples in comparison.samples.items():
        yield Row(
            subject,
            work,
            name,
            figures(samples),
            comparison.ratio(name, base) if base and name != base else None,
            (goals or {}).get(name),
            note,
            [round(sample.rate, 1) for sample in samples],
            [round(sample.steal, 3) for sample in samples if sample.steal is not None],
        )


def beside(subject: str, work: str, comparison: Comparison, name: str, base: str) -> Iterator[Row]:
    """A row for the ratio of two that took part, where both did; the base of compared() is another."""
    if {name, base} <= comparison.samples.keys():
        yield Row(subject, work, name, ratio=comparison.ratio(name, base))


def figures(samples: Sequence[Sample]) -> dict[str, float]:
    """Medians over the runs of all that was measured."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in _figures_of(sample):
            found.setdefault(name, []).append(value)
    return {name: median(values) for name, values in found.items()}


def _figures_of(sample: Sample) -> Iterator[tuple[str, float]]:
    yield RATE, sample.rate
    if sample.cpu_seconds is not None:
        yield CPU, sample.cpu_seconds / sample.mails * 1e6
    if sample.switches is not None:
        yield SWITCHES, sample.switches / sample.mails
    if sample.latency is not None:
        yield P50, sample.latency.median * 1000
        yield P99, sample.latency.high * 1000
        yield WORST, sample.latency.worst * 1000
    if sample.peak is not None:
        yield PEAK, sample.peak / 2**20
    if sample.octets is not None:
        yield "MB/s", sample.octets / sample.seconds / 1e6
    if sample.steal is not None:
        yield STEAL, sample.steal * 100


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """The table, line by line, as the rows come; a heading where subject or work changes."""
    subject = work = None
    for row in rows:
        if row.subject != subject:
            subject, work = row.subject, None
            yield ""
            yield f"{row.subject:28}" + "".join(f"{name:>15}" for name in _COLUMNS)
        if row.work != work:
            work = row.work
            yield f"{work}"
        yield _line(row)
        if row.note:
            yield f"      {row.note}"


def _line(row: Row) -> str:
    cells = [f"{_number(row.figures[one]) if one in row.figures else '':>15}" for one in _COLUMNS]
    rest = [
        f"{name} {_number(value)}"
        for name, value in row.figures.items()
        if name not in _COLUMNS and name != WORST
    ]
    if row.ratio is not None:
        ratio = row.ratio
        rest.append(f"{ratio.median:.2f} x {ratio.base} (>= {ratio.lower:.2f} at {ratio.level:.0%})")
    if row.goal is not None:
        said = "not reached" if not row.reached else "reached, sure" if row.sure else "reached"
        rest.append(f"goal {row.goal.figure or ''}{row.goal}: {said}")
    return "  ".join([f"  {row.contender:26}" + "".join(cells), *rest]).rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine(directory: Path) -> dict[str, object]:
    """On what was measured; directory: on the disk's file system."""
    found = subprocess.run(
        ["stat", "-f", "-c", "%T", str(directory)], capture_output=True, text=True, check=True
    )
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file system": found.stdout.strip(),
        "load average": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def as_json(row: Row) -> dict[str, object]:
    """A row with all that is known of it."""
    return {**asdict(row), "reached": row.reached, "sure": row.sure}
