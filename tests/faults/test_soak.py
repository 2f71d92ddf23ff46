"""The whole chain under load, for long, while everything goes wrong: all arrives, and nothing grows.

BENNO_SOAK: how many mails at the least (400); ./test.sh soak [MAILS] [SEED] sets it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import powercut
import soak
from powercut import MIB
from tally import Tally

pytestmark = pytest.mark.system

MAILS = int(os.environ.get("BENNO_SOAK", "400"))
LONGEST = 7.0 if MAILS >= 5_000 else 1.0  # seconds; the forwarder waits five for a reply
GROWTH = 8 * MIB


@pytest.mark.timeout(0)
def test_soak(tmp_path: Path, seed: str, tally: Tally) -> None:
    powercut.need("unshare", "nsenter")
    tally.what = "soak: milter, forwarder, receiver"
    began = time.monotonic()
    result = soak.run(tmp_path, MAILS, seed, LONGEST)
    seconds = time.monotonic() - began
    story = result.story
    tally.round(result.faults, len(story.sent))
    tally.rounds = sum(result.events.values())
    print(f"{len(story.sent)} mails in {seconds:.0f} s, {result.taken} files, {dict(story.replies)}")
    print(f"what went wrong: {dict(result.events)}; the forwarder's exit codes: {dict(result.endings)}")
    for name, values in result.resident.items():
        print(f"{name}: at the most {max(values) / MIB:.1f} MiB, grew by {result.growth(name)} octets")
    assert result.faults == []
    assert len(story.sent) == len(story.accepted) == len(story.archived) >= MAILS
    assert story.replies["accepted"] == len(story.sent)
    assert all(result.growth(name) < GROWTH for name in result.resident)
