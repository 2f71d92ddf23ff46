"""Power cuts while SMTP clients send mail to benno-smtp: what they saw accepted is there.

BENNO_CUTS_RECEIVER: how many cuts in all (60). Sometimes the receiver lives on for a while, on a disk
where every call fails: it must accept nothing then. The last tests take a sync away, by having strace
skip the call and tell the receiver that it succeeded.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import powercut
import receiver_daemon
from load import Sizes, Story, small_and_large
from powercut import Disk
from receiver_daemon import Receiver
from smtp_load import load
from waiting import wait_for

pytestmark = pytest.mark.system

CUTS = int(os.environ.get("BENNO_CUTS_RECEIVER", "60"))
CLIENTS = 4
LONGEST = 0.15  # seconds under load before a cut


def cut_once(disk: Disk, story: Story, seed: str, sizes: Sizes, wrapper: Sequence[str]) -> None:
    """Start the receiver and clients, cut the power under them, put it back."""
    chance = random.Random(seed)
    with receiver_daemon.running(disk.path, wrapper=wrapper) as receiver:
        answered = sum(story.replies.values())
        with load(receiver.port, story, clients=CLIENTS, seed=seed, sizes=sizes):
            wait_for(lambda: sum(story.replies.values()) > answered, "the first mail is answered")
            time.sleep(chance.uniform(0, LONGEST))
            disk.shut_down()
            if chance.random() < 0.3:
                refused = refusals(story)
                wait_for(lambda: refusals(story) > refused + CLIENTS, "mails are refused")
            kill(receiver)
    disk.restart()


def refusals(story: Story) -> int:
    return sum(story.replies.values()) - story.replies["accepted"]


def kill(receiver: Receiver) -> None:
    """And the wrapper, if there is one."""
    receiver.process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.kill(receiver.pid, 9)
    receiver.process.wait()


def cut_again_and_again(
    disk: Disk,
    cuts: int,
    until: str = "",
    sizes: Sizes = small_and_large,
    wrapper: Sequence[str] = (),
) -> tuple[list[str], Story]:
    """So many cuts, or until such a fault was seen."""
    seed = random.randrange(10**9)
    story = Story()
    kept = 0
    for cut in range(cuts):
        cut_once(disk, story, f"{seed}.{cut}", sizes, wrapper)
        files = disk.files()
        faults = [f"seed {seed}, cut {cut}: {fault}" for fault in story.faults(files)]
        kept += len(files)
        if any(until in fault for fault in faults):
            return faults, story
        disk.empty()
        story.forget()
    print(f"{cuts} cuts of {disk.kind}: {kept} files kept, {dict(story.replies)}")
    return [], story


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_was_accepted_survives_and_nothing_is_torn(tmp_path: Path, kind: str) -> None:
    cuts = max(1, CUTS // 2)
    with powercut.disk(tmp_path, kind) as disk:
        faults, story = cut_again_and_again(disk, cuts)
        disk.check()
    assert faults == []
    assert story.replies["accepted"] > 3 * cuts
    assert all(reply[:3] in {"acc", "451", "452"} for reply in story.replies), story.replies


def medium(chance: random.Random) -> int:
    """Mails that the committer syncs, and whose loss is likely."""
    return chance.randrange(20_000, 60_000)


@pytest.mark.parametrize(("call", "seen"), [("fdatasync", "is torn"), ("fsync", "lost")])
def test_a_missing_sync_is_seen(tmp_path: Path, call: str, seen: str) -> None:
    """The instrument works: without the file sync, or without the directory's, mail is lost."""
    powercut.need("strace")
    skipping = f"strace -f -o /dev/null -e trace={call} -e inject={call}:retval=0".split()
    with powercut.disk(tmp_path, "ext4") as disk:
        faults, _ = cut_again_and_again(disk, 100, seen, medium, skipping)
        print(f"{call}: seen after {disk.cuts} cuts: {faults[:3]}")
    assert any(seen in fault for fault in faults)
