"""What the host took of the processors."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.rounds import Sample, compare
from bench.steal import Watch


def test_what_was_stolen_is_a_share_of_the_time_with_work(tmp_path: Path) -> None:
    """user, nice, system, idle, iowait, irq, softirq, steal, guest (within user), guest_nice."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 10 100 5000 70 1 9 500 20 0\ncpu0 50 5 50 2500 35 0 4 250 10 0\n")
    watch = Watch(stat)
    assert watch.share() == 0.0
    stat.write_text("cpu  130 20 120 9000 90 2 18 530 40 0\ncpu0 65 10 60 4500 45 1 9 265 20 0\n")
    assert watch.share() == pytest.approx(30 / (30 + 10 + 20 + 1 + 9 + 30))


def test_each_run_is_watched() -> None:
    comparison = compare({"one": lambda: Sample(1, 1.0), "other": lambda: Sample(1, 1.0)}, rounds=2)
    for samples in comparison.samples.values():
        assert all(sample.steal is not None and 0 <= sample.steal <= 1 for sample in samples)
