"""Power cuts, and kill -9, while clients send mail to a daemon: what they saw accepted is there.

Sometimes the daemon lives on for a while after the cut, on a disk where every call fails: it must
accept nothing then. The last tests take a sync away, by having strace skip the call and tell the daemon
that it succeeded.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import powercut
from daemons import EACH, Kind, kill
from load import Sizes, Story, small_and_large
from powercut import Disk
from tally import DAEMON_ROUNDS, Tally
from waiting import wait_for

pytestmark = pytest.mark.system

CLIENTS = 4
LONGEST = 0.15  # seconds under load before it happens


def cut_once(
    disk: Disk, kind: Kind, story: Story, seed: str, sizes: Sizes, wrapper: Sequence[str]
) -> None:
    """Start the daemon and clients, cut the power under them, put it back."""
    chance = random.Random(seed)
    with (
        kind.start(disk.path, wrapper) as running,
        kind.load(running, story, clients=CLIENTS, seed=seed, sizes=sizes),
    ):
        wait_for_a_moment(story, chance)
        disk.shut_down()
        if chance.random() < 0.3:
            refused = refusals(story)
            wait_for(lambda: refusals(story) > refused + CLIENTS, "mails are refused")
        kill(running)
    disk.restart()


def wait_for_a_moment(story: Story, chance: random.Random) -> None:
    """Mail flows."""
    answered = sum(story.replies.values())
    wait_for(lambda: sum(story.replies.values()) > answered, "a mail is answered")
    time.sleep(chance.uniform(0, LONGEST))


def refusals(story: Story) -> int:
    return sum(story.replies.values()) - story.replies["accepted"]


def cut_again_and_again(
    disk: Disk,
    kind: Kind,
    cuts: int,
    seed: str,
    tally: Tally,
    *,
    sizes: Sizes = small_and_large,
    wrapper: Sequence[str] = (),
) -> tuple[list[str], Story]:
    """So many cuts, or until a fault was seen."""
    story = Story()
    for cut in range(cuts):
        cut_once(disk, kind, story, f"{seed}.{cut}", sizes, wrapper)
        files = disk.files()
        if faults := tally.round(story.faults(files), len(files)):
            return [f"cut {cut}: {fault}" for fault in faults], story
        disk.empty()
        story.forget()
    return [], story


@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
@EACH
def test_what_was_accepted_survives_a_power_cut(
    tmp_path: Path, kind: Kind, file_system: str, seed: str, tally: Tally
) -> None:
    cuts = DAEMON_ROUNDS // 2
    tally.what = f"power cuts of {file_system}, {kind} under load"
    with powercut.disk(tmp_path, file_system) as disk:
        faults, story = cut_again_and_again(disk, kind, cuts, seed, tally)
        disk.check()
    assert faults == []
    assert story.replies["accepted"] >= cuts
    assert all(reply[:3] in {"acc", "451", "452"} for reply in story.replies), story.replies


@EACH
def test_what_was_accepted_survives_kill_9(tmp_path: Path, kind: Kind, seed: str, tally: Tally) -> None:
    """At any moment under load, one daemon after the other on one directory."""
    tally.what = f"kill -9 at any moment, {kind} under load"
    story = Story()
    for number in range(DAEMON_ROUNDS):
        with kind.start(tmp_path / "files") as running:
            with kind.load(running, story, clients=CLIENTS, seed=f"{seed}.{number}"):
                wait_for_a_moment(story, random.Random(f"{seed}.{number}"))
                kill(running)
            files = running.files()
        assert tally.round(story.faults(files), len(files)) == [], f"kill {number}"
        for path in files:
            story.take_out(path)
    assert story.replies["accepted"] >= DAEMON_ROUNDS


def medium(chance: random.Random) -> int:
    """Mails that the committer syncs, and whose loss is likely."""
    return chance.randrange(20_000, 60_000)


@pytest.mark.parametrize(("call", "seen"), [("fdatasync", "is torn"), ("fsync", "lost")])
@EACH
def test_a_missing_sync_is_seen(tmp_path: Path, kind: Kind, call: str, seen: str, seed: str) -> None:
    """The instrument works: without the file sync, or without the directory's, mail is lost.

    Writeback is not begun early either: most often it would have brought the data to the disk.
    """
    powercut.need("strace")
    calls = f"{call},fadvise64"
    skipping = f"strace -f -o /dev/null -e trace={calls} -e inject={calls}:retval=0".split()
    with powercut.disk(tmp_path, "ext4") as disk:
        faults, _ = cut_again_and_again(disk, kind, 100, seed, Tally(), sizes=medium, wrapper=skipping)
        print(f"{call}: seen after {disk.cuts} cuts: {faults[:3]}")
    assert any(seen in fault for fault in faults)
