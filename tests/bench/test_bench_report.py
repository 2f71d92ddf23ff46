"""The report: what a line says, when a goal is reached, what stands in the JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import report
from bench.report import Row, at_least, at_most
from bench.rounds import Comparison, Latency, Sample, ratio_of

SAMPLES = [
    Sample(100, 1.0, Latency(0.001, 0.002, 0.003), cpu_seconds=0.01, switches=50, peak=2 << 20),
    Sample(100, 2.0, Latency(0.002, 0.004, 0.005), cpu_seconds=0.03, switches=70, peak=4 << 20),
    Sample(100, 4.0, Latency(0.003, 0.006, 0.007), cpu_seconds=0.02, switches=90, peak=6 << 20),
]


def test_figures_are_medians_by_mail() -> None:
    assert report.figures(SAMPLES) == {
        "mails/s": 50.0,
        "CPU us/mail": 200.0,
        "switches/mail": 0.7,
        "median ms": 2.0,
        "99 % ms": 4.0,
        "worst ms": 5.0,
        "peak MiB": 4.0,
    }


def test_what_was_not_measured_has_no_figure() -> None:
    assert report.figures([Sample(100, 2.0)]) == {"mails/s": 50.0}


def test_all_but_the_base_have_a_ratio() -> None:
    comparison = Comparison({"ours": SAMPLES, "theirs": [Sample(50, 1.0)] * 3})
    ours, theirs = report.compared(
        "milter", "4 KiB", comparison, base="theirs", goals={"ours": at_least(1.5)}
    )
    assert ours.ratio is not None
    assert (ours.ratio.base, ours.ratio.rounds, ours.ratio.median) == ("theirs", (2.0, 1.0, 0.5), 1.0)
    assert (ours.reached, ours.sure) == (False, False)
    assert (theirs.ratio, theirs.reached, theirs.sure) == (None, None, None)
    assert ours.rates == [100.0, 50.0, 25.0]


@pytest.mark.parametrize(
    ("ratios", "reached", "sure"),
    [
        ([1.5, 1.6, 1.7], True, True),
        ([1.4, 1.6, 1.7], True, False),
        ([1.4, 1.49, 1.7], False, False),
    ],
)
def test_a_goal_for_a_ratio(ratios: list[float], *, reached: bool, sure: bool) -> None:
    row = Row("milter", "4 KiB", "ours", ratio=ratio_of("theirs", ratios), goal=at_least(1.5))
    assert (row.reached, row.sure) == (reached, sure)


@pytest.mark.parametrize(("value", "reached"), [(1.0, True), (1.1, True), (1.11, False)])
def test_a_goal_for_a_figure(value: float, *, reached: bool) -> None:
    goal = at_most(1.1, "syncs/mail")
    row = Row("milter", "4 KiB", "ours", {"syncs/mail": value}, ratio_of("theirs", [9.0]), goal)
    assert (row.reached, row.sure) == (reached, None)


def test_lines() -> None:
    ratio = ratio_of("theirs", [2.0] * 9)
    rows = [
        Row("milter", "4 KiB", "ours", {"mails/s": 2345.6, "calls/mail": 18.25}, ratio, at_least(1.5)),
        Row("milter", "4 KiB", "theirs", {"mails/s": 1172.8}, note="with both syncs"),
        Row("disk", "4 KiB", "one by one", {"mails/s": 99.9}),
    ]
    lines = [" ".join(line.split()) for line in report.lines(rows)]
    assert lines == [
        "",
        "milter mails/s CPU us/mail switches/mail median ms 99 % ms peak MiB",
        "4 KiB",
        "ours 2,346 calls/mail 18.2 2.00 x theirs (>= 2.00 at 96%) goal >= 1.5: reached, sure",
        "theirs 1,173",
        "with both syncs",
        "",
        "disk mails/s CPU us/mail switches/mail median ms 99 % ms peak MiB",
        "4 KiB",
        "one by one 99.9",
    ]


def test_json_holds_all_of_a_row(tmp_path: Path) -> None:
    row = Row(
        "milter", "4 KiB", "ours", {"mails/s": 2.0}, ratio_of("theirs", [2.0, 3.0]), at_least(1.5)
    )
    told = json.loads(json.dumps({"machine": report.machine(tmp_path), "row": report.as_json(row)}))
    assert told["row"]["ratio"]["rounds"] == [2.0, 3.0]
    assert told["row"]["goal"] == {"value": 1.5, "more": True, "figure": None}
    assert (told["row"]["reached"], told["row"]["sure"]) == (True, True)
    assert told["machine"]["file system"]
