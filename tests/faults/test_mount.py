"""Spool or import directory go away under load: refused, never written elsewhere, unaided once back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import daemon
import powercut
from daemon import Daemon
from daemons import EACH, Kind
from load import Story, as_kept, send
from powercut import Disk
from waiting import wait_for

pytestmark = pytest.mark.system

NOT_STORED = "451 4.3.0 The mail archive could not store this mail"
NOT_AVAILABLE = "451 4.3.0 The mail archive is not available"
# Root that may not do everything: it can still reach the test's directories, which are root's.
ORDINARY_ROOT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@contextmanager
def under_load(kind: Kind, disk: Disk, seed: str) -> Iterator[tuple[Daemon, Story]]:
    """A daemon on the disk, and clients. In the end all that was accepted is there."""
    story = Story()
    with kind.start(disk.path) as running:
        with kind.load(running, story, clients=4, seed=seed):
            wait_for_more(story, "accepted")
            yield running, story
            wait_for_more(story, "accepted")
        assert story.faults(running.files()) == []
        assert story.torn_off == 0
        assert running.stop() == 0
    assert set(story.replies) <= {"accepted", NOT_STORED, NOT_AVAILABLE}
    print(dict(story.replies))


def wait_for_more(story: Story, reply: str, count: int = 20) -> None:
    before = story.replies[reply]
    wait_for(lambda: story.replies[reply] > before + count, f"more mails get {reply!r}")


@EACH
@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_unmounted_and_mounted_again(tmp_path: Path, kind: Kind, file_system: str, seed: str) -> None:
    with (
        powercut.disk(tmp_path, file_system) as disk,
        under_load(kind, disk, seed) as (running, story),
    ):
        for _ in range(2):
            disk.unmount(lazily=True)
            accepted = story.replies["accepted"]
            wait_for_more(story, NOT_AVAILABLE)
            assert list(disk.path.iterdir()) == []
            assert story.replies["accepted"] <= accepted + 4  # one of each client, on its way already
            disk.mount()
            wait_for_more(story, "accepted")
        reasons = re.findall(r"takes no mail, all is refused until it does: (.*)", running.log)
        assert len(reasons) == running.log.count("takes mail again") == 2
        assert "another directory lies at" in reasons[0]


@EACH
@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_the_disk_fails_and_is_mounted_anew(
    tmp_path: Path, kind: Kind, file_system: str, seed: str
) -> None:
    """The file system shuts down, as after an error of the disk. It can be unmounted meanwhile."""
    with (
        powercut.disk(tmp_path, file_system) as disk,
        under_load(kind, disk, seed) as (running, story),
    ):
        disk.shut_down()
        wait_for_more(story, NOT_AVAILABLE)
        assert "Input/output error" in running.wait_for_log("takes no mail, all is refused.*")
        disk.restart()
        wait_for_more(story, "accepted")
        assert "takes mail again" in running.log


@EACH
def test_another_disk_is_mounted_there(tmp_path: Path, kind: Kind, seed: str) -> None:
    """Not ours: nothing is written there. It goes again, and all is well."""
    (tmp_path / "other").mkdir()
    with (
        powercut.disk(tmp_path) as disk,
        powercut.disk(tmp_path / "other") as other,
        under_load(kind, disk, seed) as (running, story),
    ):
        disk.unmount(lazily=True)
        other.mount_at(disk.path)
        wait_for_more(story, NOT_AVAILABLE)
        assert disk.files() == []
        assert "is on another file system than before: mount it again, or restart" in running.log
        disk.unmount(lazily=True)
        disk.mount()


@EACH
def test_read_only_and_writable_again(tmp_path: Path, kind: Kind, seed: str) -> None:
    with powercut.disk(tmp_path) as disk, under_load(kind, disk, seed) as (running, story):
        for _ in range(3):
            wait_for(lambda: disk.remounted("ro"), "no file is open for writing")
            before = running.files()
            wait_for_more(story, NOT_AVAILABLE)
            assert running.files() == before
            assert disk.remounted("rw")
            wait_for_more(story, "accepted")
        assert "Read-only file system" in running.wait_for_log("takes no mail, all is refused.*")


def test_no_permission_any_more(tmp_path: Path) -> None:
    powercut.need("setpriv")
    spool = tmp_path / "spool"
    with daemon.running(spool, wrapper=ORDINARY_ROOT) as milter:
        assert send(milter.address) == "accepted"
        spool.chmod(0)
        assert send(milter.address) == NOT_STORED
        assert send(milter.address) == NOT_AVAILABLE
        assert "Permission denied" in milter.wait_for_log("takes no mail, all is refused.*")
        spool.chmod(0o755)
        wait_for(lambda: send(milter.address, b"again") == "accepted", "mail is taken again", 5)
        assert milter.mails() == [as_kept(), as_kept(b"again")]


def test_removed_and_made_again(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    powercut.need()
    with daemon.running(spool) as milter:
        for body in (b"small", b"x" * 300_000):
            spool.rmdir()
            assert send(milter.address, body) == NOT_STORED
            wait_for(lambda: send(milter.address) == NOT_AVAILABLE, "it is noticed", 5)
            assert f"{spool}: No such file or directory" in milter.wait_for_log(
                "refused.*not available.*"
            )
            spool.mkdir()
            wait_for(lambda: send(milter.address) == "accepted", "mail is taken again", 5)
            assert milter.mails() == [as_kept()]
            milter.files()[0].unlink()
        assert milter.log.count("takes no mail") == milter.log.count("takes mail again") == 2


def test_not_mounted_at_the_start(tmp_path: Path) -> None:
    """It starts on the mount point, which it cannot know; the disk that comes later is another one."""
    with powercut.disk(tmp_path) as disk:
        disk.unmount()
        with daemon.running(disk.path) as milter:
            assert send(milter.address) == "accepted"
            disk.mount()
            assert send(milter.address) == NOT_STORED
            assert send(milter.address) == NOT_AVAILABLE
            assert milter.files() == []
            disk.unmount()
            wait_for(lambda: send(milter.address) == "accepted", "mail is taken again", 5)
            assert milter.mails() == [as_kept()] * 2
        disk.mount()
