"""Clocks that jump, stand still, or show nonsense, and random numbers that are none.

Names are made of them, and nothing else: no file is ever overwritten, and each mail has its own.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import receiver_daemon
from benno_common.filename import is_mail_name
from daemons import EACH, Kind
from load import Story
from passage import Passage
from waiting import wait_for

pytestmark = pytest.mark.slow

MAILS = 150

# An hour back, to 1970, thirty years ahead; at every look.
JUMPING = """
import itertools, time
_jumps = itertools.cycle((0, -3600, 7, -10**10, 30 * 365 * 86400))
time.time = lambda real=time.time: max(0.0, real() + next(_jumps))
time.time_ns = lambda real=time.time_ns: max(0, real() + next(_jumps) * 10**9)
"""
# Two processes of the same name, and mails of the same queue id.
STANDING = """
import secrets, time
from benno_common.filename import FileNames
FileNames.new = lambda self, sender, size, *_, real=FileNames.new: real(self, sender, size)
time.time_ns = lambda: 1_800_000_000 * 10**9
secrets.token_hex = lambda count: "00" * count
"""


@EACH
def test_a_clock_that_jumps(tmp_path: Path, kind: Kind, seed: str) -> None:
    """Every mail is kept, and has a name that the forwarder takes for a mail's."""
    story = Story()
    with kind.start(tmp_path / "files", prelude=JUMPING) as running:
        with kind.load(running, story, clients=4, seed=seed):
            wait_for(lambda: len(story.accepted) > MAILS, f"{MAILS} mails are accepted")
        assert story.faults(running.files()) == []
        names = [path.name for path in running.files()]
        assert all(map(is_mail_name, names))
        seconds = {int(name.partition(".")[0]) for name in names}
        assert min(seconds) == 0
        assert max(seconds) > 2_600_000_000
        assert set(story.replies) == {"accepted"}
        assert running.stop() == 0


def equal(_: random.Random) -> int:
    """The size is a part of the name."""
    return 100


@EACH
def test_two_daemons_that_make_the_same_names(tmp_path: Path, kind: Kind, seed: str) -> None:
    """Whoever is second takes another name."""
    story = Story()
    files = tmp_path / "files"
    other = tmp_path / "other" / "files"
    other.parent.mkdir()
    files.mkdir()
    other.symlink_to(files)
    with kind.start(files, prelude=STANDING) as one, kind.start(other, prelude=STANDING) as two:
        with (
            kind.load(one, story, clients=2, seed=f"{seed}.one", sizes=equal),
            kind.load(two, story, clients=2, seed=f"{seed}.two", sizes=equal),
        ):
            wait_for(lambda: len(story.accepted) > MAILS, f"{MAILS} mails are accepted")
        assert story.faults(one.files()) == []
        assert len(one.files()) == len(story.accepted) == sum(story.replies.values())


def test_the_forwarder_sends_all_whatever_its_clock_says(tmp_path: Path, seed: str) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    passage = Passage(spool, seed)
    passage.fill(20)
    with receiver_daemon.running(tmp_path / "inbox", prelude=JUMPING) as receiver:
        with passage.run(receiver.port, prelude=[JUMPING]) as forwarder:
            assert forwarder.end() == os.EX_OK, forwarder.log
        assert passage.finish(receiver) == {1: 20}
