"""Power cuts while mail flows from a spool to a receiver, on either disk: nothing is lost.

The other directory lies on a file system that is not cut. Mails that come twice are no fault: between
the receiver's 250 and the sync of the spool there is always a moment.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

import powercut
import receiver_daemon
from passage import Passage
from powercut import Disk
from receiver_daemon import Receiver
from tally import DAEMON_ROUNDS, Tally
from waiting import wait_for

pytestmark = pytest.mark.system

MAILS = 30
LONGEST = 0.05  # seconds from the first mail that arrived to a cut


def wait_for_a_moment(receiver: Receiver, chance: random.Random) -> None:
    """Some of the mails have come, and others not yet."""
    number = chance.randrange(MAILS)
    wait_for(lambda: len(receiver.files()) > number, f"{number} mails have come")
    time.sleep(chance.uniform(0, LONGEST))


def cut_the_spool(disk: Disk, receiver: Receiver, seed: str, tally: Tally) -> Counter[int]:
    """While a run is at work; it dies with the power, or it lives a little longer."""
    chance = random.Random(seed)
    passage = Passage(disk.path, seed)
    passage.fill(MAILS)
    with passage.run(receiver.port) as forwarder:
        wait_for_a_moment(receiver, chance)
        disk.shut_down()
        if chance.random() < 0.5:
            forwarder.kill()
        else:
            assert forwarder.end() in {os.EX_OK, os.EX_TEMPFAIL}, forwarder.log
    disk.restart()
    assert tally.round(passage.faults(receiver), MAILS) == [], f"seed {seed}"
    counts = passage.finish(receiver)
    for path in receiver.files():
        path.unlink()
    return counts


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_the_disk_of_the_spool_is_cut(tmp_path: Path, kind: str, seed: str, tally: Tally) -> None:
    tally.what = f"power cuts of {kind}, of the forwarder's spool"
    counts: Counter[int] = Counter()
    with (
        powercut.disk(tmp_path, kind) as disk,
        receiver_daemon.running(tmp_path / "inbox") as receiver,
    ):
        for cut in range(max(1, DAEMON_ROUNDS // 4)):
            counts += cut_the_spool(disk, receiver, f"{seed}.{cut}", tally)
        disk.check()
    print(f"{disk.cuts} cuts of the spool's {kind}: mails that came once, twice: {dict(counts)}")


def cut_the_inbox(disk: Disk, spool: Path, seed: str, tally: Tally) -> Counter[int]:
    """While a run is at work. The receiver dies with the power, or refuses until it does."""
    chance = random.Random(seed)
    passage = Passage(spool, seed)
    passage.fill(MAILS)
    with receiver_daemon.running(disk.path) as receiver, passage.run(receiver.port) as forwarder:
        wait_for_a_moment(receiver, chance)
        disk.shut_down()
        if chance.random() < 0.5:
            forwarder.end()
        receiver.process.kill()
        receiver.process.wait()
        assert forwarder.end() in {os.EX_OK, os.EX_TEMPFAIL}, forwarder.log
    disk.restart()
    with receiver_daemon.running(disk.path) as receiver:
        assert tally.round(passage.faults(receiver), MAILS) == [], f"seed {seed}"
        counts = passage.finish(receiver)
    disk.empty()
    return counts


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_the_disk_of_the_receiver_is_cut(tmp_path: Path, kind: str, seed: str, tally: Tally) -> None:
    tally.what = f"power cuts of {kind}, of the forwarder's receiver"
    spool = tmp_path / "spool"
    spool.mkdir()
    counts: Counter[int] = Counter()
    with powercut.disk(tmp_path, kind) as disk:
        for cut in range(max(1, DAEMON_ROUNDS // 4)):
            counts += cut_the_inbox(disk, spool, f"{seed}.{cut}", tally)
        disk.check()
    print(f"{disk.cuts} cuts of the receiver's {kind}: mails that came once, twice: {dict(counts)}")
