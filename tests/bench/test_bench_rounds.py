"""Comparing contenders: whose turn it is, what the ratios are, and what their interval is worth."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from bench.rounds import Comparison, Latency, Sample, compare, interval, ratio_of


def test_each_has_its_turn_in_each_round_in_an_order_of_chance() -> None:
    turns: list[str] = []

    def contender(name: str) -> Callable[[], Sample]:
        def run() -> Sample:
            turns.append(name)
            return Sample(100, 1.0)

        return run

    comparison = compare({name: contender(name) for name in "abc"}, rounds=4)
    rounds = ["".join(turns[begin : begin + 3]) for begin in range(0, 12, 3)]
    assert [sorted(one) for one in rounds] == [["a", "b", "c"]] * 4
    assert len(set(rounds)) > 1
    assert {name: len(samples) for name, samples in comparison.samples.items()} == {
        "a": 4,
        "b": 4,
        "c": 4,
    }


def test_only_runs_of_one_round_are_compared() -> None:
    """The machine is ten times slower in the second round, and both are."""
    comparison = Comparison(
        {
            "fast": [Sample(200, 1.0), Sample(200, 10.0), Sample(300, 1.0)],
            "base": [Sample(100, 1.0), Sample(100, 10.0), Sample(100, 1.0)],
        }
    )
    ratio = comparison.ratio("fast", "base")
    assert ratio.rounds == (2.0, 2.0, 3.0)
    assert (ratio.median, ratio.lower, ratio.upper, ratio.base) == (2.0, 2.0, 3.0, "base")
    assert comparison.rate("fast") == 200.0


@pytest.mark.parametrize(
    ("count", "rank", "level"),
    [
        (1, 1, 0.0),
        (3, 1, 0.75),
        (5, 1, 0.9375),
        (6, 1, 0.96875),
        (8, 1, 0.9921875),
        (9, 2, 0.9609375),
        (12, 3, 0.96142578125),
        (25, 8, 0.9567147),
    ],
)  # as in tables of the sign test
def test_interval(count: int, rank: int, level: float) -> None:
    found, worth = interval(count)
    assert found == rank
    assert math.isclose(worth, level, abs_tol=1e-6)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    chance = random.Random(1)
    held = 0
    for _ in range(2000):
        ratio = ratio_of("base", [chance.lognormvariate(0, 1) for _ in range(9)])
        held += ratio.lower <= 1.0 <= ratio.upper
    assert 0.94 < held / 2000 < 0.98


def test_latency() -> None:
    latency = Latency.of(range(1000, 0, -1))
    assert (latency.median, latency.high, latency.worst) == (500.5, 990, 1000)
    assert Latency.of([3.0]) == Latency(3.0, 3.0, 3.0)
