"""Contenders compared in interleaved rounds.

    comparison = compare({"benno-milter": run, "C peer": run_other}, rounds=9)
    comparison.rate("benno-milter")                  # mails a second, the median of the rounds
    ratio = comparison.ratio("benno-milter", "C peer")
    ratio.median, ratio.lower, ratio.level           # 1.62, 1.41, 0.96

Each callable makes one run and returns its Sample; all else (starting, clearing, stopping) it does
outside the seconds that it reports. Machines are shared: a rate says little by itself, and only runs of
the same round are compared. In each round all contenders have their turn, in an order of chance, so
that none always follows the same other one.

The interval of a median is made of order statistics: of n ratios in order, the k-th from either end
hold the true median between them with the probability 1 - 2 P(B(n, 1/2) < k). k is the largest that
gives at least 95 %; 9 rounds give the second, at 96 %. Below 6 rounds there is none: the ends are
taken, and `level` says what they are worth. Nothing is assumed about how the ratios are distributed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from bench.steal import Watch

LEVEL = 0.95


@dataclass(frozen=True)
class Latency:
    """Seconds from the end of a message to its reply."""

    median: float
    high: float  # 99 % are not above it
    worst: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency:
        """Of at least one measured time."""
        ordered = sorted(seconds)
        return cls(median(ordered), ordered[math.ceil(len(ordered) * 0.99) - 1], ordered[-1])


@dataclass(frozen=True)
class Sample:
    """One run. What was not measured is None. peak: octets of memory; octets: of messages in all.

    steal: the share of the processors that the host took meanwhile, as of `steal`.
    """

    mails: int
    seconds: float
    latency: Latency | None = None
    cpu_seconds: float | None = None
    switches: int | None = None
    peak: int | None = None
    octets: int | None = None
    steal: float | None = None

    @property
    def rate(self) -> float:
        """Mails a second."""
        return self.mails / self.seconds


Run = Callable[[], Sample]


@dataclass(frozen=True)
class Ratio:
    """How one contender compares with `base`: in each round, the median, its interval."""

    base: str
    rounds: tuple[float, ...]
    median: float
    lower: float
    upper: float
    level: float  # the probability that the true median lies in the interval


@dataclass(frozen=True)
class Comparison:
    """The samples of each contender, one a round, in the order of the rounds."""

    samples: Mapping[str, Sequence[Sample]]

    def rate(self, name: str) -> float:
        """The median of its rates, mails a second."""
        return median(sample.rate for sample in self.samples[name])

    def ratio(self, name: str, base: str) -> Ratio:
        """The rates of one as multiples of another's, within each round."""
        pairs = zip(self.samples[name], self.samples[base], strict=True)
        return ratio_of(base, [one.rate / other.rate for one, other in pairs])


def compare(contenders: Mapping[str, Run], rounds: int) -> Comparison:
    """Let each have its turn in each round, in an order of chance, which is the same in each run."""
    names = list(contenders)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(rounds):
        for name in random.Random(number).sample(names, len(names)):
            watch = Watch()
            sample = contenders[name]()
            samples[name].append(replace(sample, steal=watch.share()))
    return Comparison(samples)


def ratio_of(base: str, ratios: Sequence[float]) -> Ratio:
    """The median of at least one ratio, and its interval."""
    ordered = sorted(ratios)
    rank, level = interval(len(ordered))
    return Ratio(base, tuple(ratios), median(ordered), ordered[rank - 1], ordered[-rank], level)


def interval(count: int) -> tuple[int, float]:
    """The rank, from either end, of the ends of the interval, and its level."""
    rank, level = 1, 1 - 2 * 0.5**count
    below = 0.5**count  # the probability that fewer than `rank` ratios are below the true median
    while rank < (count + 1) // 2:
        below += math.comb(count, rank) * 0.5**count
        if 1 - 2 * below < LEVEL:
            break
        rank, level = rank + 1, 1 - 2 * below
    return rank, max(level, 0.0)
