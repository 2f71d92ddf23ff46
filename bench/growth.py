"""What becomes of a mail's cost when the work grows tenfold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from bench.report import CPU, Row, compared
from bench.rounds import Run, compare
from bench.setting import Setting


def grown(
    setting: Setting, subject: str, what: str, name: str, works: Iterable[tuple[object, Run]]
) -> Iterator[Row]:
    """Two rows of one contender. works: little and ten times as much, each with its description."""
    little, much = works
    comparison = compare({"1": little[1], "10": much[1]}, min(setting.rounds, 3))
    rows = list(compared(f"{subject}: ten times", what, comparison))
    for row, (work, _) in zip(rows, (little, much), strict=True):
        figures = {**row.figures, "times the CPU": row.figures[CPU] / rows[0].figures[CPU]}
        yield replace(row, contender=name, figures=figures, note=str(work))
