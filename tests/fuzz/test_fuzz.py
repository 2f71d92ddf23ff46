"""Any octets for whatever reads octets of others; targets.py says what must hold.

BENNO_FUZZ_SECONDS: for each target, with hypothesis and, where it is installed, with atheris (0: a
moment, hypothesis only).
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS, Target
from tally import Tally

pytestmark = pytest.mark.slow

SECONDS = int(os.environ.get("BENNO_FUZZ_SECONDS", "0"))
EXAMPLES = 300 if SECONDS else 100
EACH = pytest.mark.parametrize("target", TARGETS, ids=str)

bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def altered(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """At each place some octets are taken out, and others put in."""
    for where, removed, inserted in changes:
        place = where % (len(data) + 1)
        data = data[:place] + inserted + data[place + removed :]
    return data


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Fragments in any order, and examples with a few changes."""
    fragments = st.sampled_from(target.fragments) | st.binary(max_size=6)
    changes = st.tuples(st.integers(0, 1 << 12), st.integers(0, 4), fragments)
    return st.lists(fragments, max_size=30).map(b"".join) | st.builds(
        altered, st.sampled_from(target.examples), st.lists(changes, max_size=4)
    )


def checks(target: Target, seed: int, tally: Tally) -> Callable[[], None]:
    """Some inputs, always the same for the same seed."""

    @hypothesis.seed(seed)
    @bounded
    @given(inputs(target))
    def check(data: bytes) -> None:
        tally.rounds += 1
        tally.mails += target.check(data)

    return check


@EACH
def test_any_input(target: Target, seed: str, tally: Tally) -> None:
    tally.what = f"fuzzing, hypothesis: {target}"
    chance = random.Random(seed)
    ended = time.monotonic() + SECONDS
    checks(target, chance.randrange(10**9), tally)()
    while time.monotonic() < ended:
        checks(target, chance.randrange(10**9), tally)()
    assert tally.mails > 0, "nothing was ever understood"


@pytest.mark.skipif(not SECONDS, reason="needs time: ./test.sh faults")
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="needs atheris")
@EACH
def test_inputs_that_reach_new_lines(tmp_path: Path, target: Target, seed: str, tally: Tally) -> None:
    tally.what = f"fuzzing, atheris: {target}"
    number = random.Random(seed).randrange(1, 10**9)
    log = tmp_path / "log"
    with log.open("wb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "fuzz.coverage", target.name, str(number), str(SECONDS), tmp_path],
            stdout=stream,
            stderr=stream,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
    said = log.read_text(errors="replace")
    assert done.returncode == 0, said[-5000:]
    executed = re.search(r"number_of_executed_units: (\d+)", said)
    assert executed, said[-5000:]
    tally.rounds = int(executed[1])
