"""What becomes of a mail's cost when the work grows tenfold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench.report import CPU, Row, compared
from bench.rounds import Run, compare

ROUNDS = 3


def grown(
    subject: str, what: str, name: str, little: tuple[object, Run], much: tuple[object, Run]
) -> Iterator[Row]:
    """Two rows of one contender: little work and ten times as much, each with its description."""
    comparison = compare({"1": little[1], "10": much[1]}, ROUNDS)
    rows = list(compared(f"{subject}: ten times", what, comparison))
    for row, (work, _) in zip(rows, (little, much), strict=True):
        figures = {**row.figures, "times the CPU": row.figures[CPU] / rows[0].figures[CPU]}
        yield replace(row, contender=name, figures=figures, note=str(work))
