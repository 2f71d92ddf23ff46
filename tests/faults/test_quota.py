"""A quota of the file system: refused as on a full disk, nothing left, and over when there is room."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import powercut
from daemons import EACH, Kind
from load import Story
from powercut import MIB
from waiting import wait_for

pytestmark = pytest.mark.system


@EACH
def test_it_is_reached_under_load_and_raised_again(tmp_path: Path, kind: Kind, seed: str) -> None:
    """btrfs, whose quotas also bind root."""
    powercut.need("btrfs")
    story = Story()
    with powercut.disk(tmp_path, "btrfs") as disk:
        files = disk.path / "files"
        for arguments in (
            ("subvolume", "create", str(files)),
            ("quota", "enable", str(disk.path)),
            ("qgroup", "limit", str(4 * MIB), str(files)),
        ):
            subprocess.run(["btrfs", *arguments], check=True, capture_output=True)
        with kind.start(files) as running:
            with kind.load(running, story, clients=4, seed=seed):
                wait_for(lambda: refused(story) > 20, "the quota is reached")
                accepted = story.replies["accepted"]
                limit = [
                    "btrfs",
                    "qgroup",
                    "limit",
                    "none",
                    str(files),
                ]  # fails now and then, full as it is
                wait_for(
                    lambda: subprocess.run(limit, check=False, capture_output=True).returncode == 0,
                    "the quota is raised",
                )
                wait_for(lambda: story.replies["accepted"] > accepted + 20, "mail is taken again")
            assert story.faults(running.files()) == []
            assert "Disk quota exceeded" in running.log
            assert "takes no mail" not in running.log
            assert {reply[:3] for reply in story.replies} <= {"acc", "451", "452"}
            assert running.stop() == 0


def refused(story: Story) -> int:
    return sum(story.replies.values()) - story.replies["accepted"]
