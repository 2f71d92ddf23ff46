"""A disk that fills up while mail flows: refused, nothing left, and over as soon as there is room."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import daemon
import powercut
from daemon import Daemon
from load import Story, as_kept, load, send
from powercut import MIB, Disk
from waiting import wait_for

pytestmark = pytest.mark.system

NOT_STORED = "451 4.3.0 The mail archive could not store this mail"
NOT_AVAILABLE = "451 4.3.0 The mail archive is not available"
SHORT = "452 4.3.1 The mail archive is short of space"


@contextmanager
def on_a_small_disk(tmp_path: Path, *make_options: str) -> Iterator[tuple[Disk, Daemon]]:
    """Two megabytes."""
    with (
        powercut.disk(tmp_path, "ext4", 2 * MIB, *make_options) as disk,
        daemon.running(disk.path) as milter,
    ):
        yield disk, milter


def used(disk: Disk) -> tuple[int, int]:
    """Blocks and inodes in use. Deleted files are gone at once, and nothing waits to be written."""
    subprocess.run(["sync", "-f", disk.path], check=True)
    status = os.statvfs(disk.path)
    return status.f_blocks - status.f_bfree, status.f_files - status.f_ffree


def fill(milter: Daemon, body: bytes) -> list[Path]:
    """Send until a mail is refused; it, and more of its kind, leave nothing."""
    wait_for(lambda: send(milter.address, body) == NOT_STORED, "the disk is full")
    files = milter.files()
    assert len(files) > 1
    for _ in range(5):
        assert send(milter.address, body, "FULL") == NOT_STORED
    assert "No space left on device" in milter.wait_for_log("FULL: refused.*")
    assert milter.mails() == [as_kept(body)] * len(files)
    return files


@pytest.mark.parametrize("size", [5_000, 60_000, 300_000])
def test_no_space(tmp_path: Path, size: int) -> None:
    body = random.randbytes(size)
    with on_a_small_disk(tmp_path) as (disk, milter):
        empty = used(disk)
        files = fill(milter, body)
        full = used(disk)
        assert send(milter.address, random.randbytes(1_500_000)) == NOT_STORED
        assert used(disk) == full
        for path in files[:2]:
            path.unlink()
        assert send(milter.address, body) == "accepted"
        assert "takes no mail" not in milter.log
        disk.empty()
        wait_for(lambda: used(disk)[1] == empty[1], "no inode is in use")
        directory = disk.path.stat().st_blocks * 512 // os.statvfs(disk.path).f_frsize
        assert used(disk)[0] <= empty[0] + directory  # by what it has grown


def test_no_inodes(tmp_path: Path) -> None:
    with on_a_small_disk(tmp_path, "-N", "16") as (disk, milter):
        empty = used(disk)
        files = fill(milter, b"hello\r\n")
        assert used(disk)[1] == empty[1] + len(files) == os.statvfs(disk.path).f_files
        assert send(milter.address, b"x" * 100_000) == NOT_STORED
        files[0].unlink()
        assert send(milter.address, b"x" * 100_000) == "accepted"
        assert send(milter.address) == NOT_STORED
        assert len(milter.files()) == len(files)


@pytest.mark.parametrize("options", [(), ("-N", "16")], ids=["space", "inodes"])
def test_started_while_the_disk_is_full(tmp_path: Path, options: tuple[str, ...]) -> None:
    """It starts, and takes mail when there is room, with the right mode."""
    umask = os.umask(0o077)
    try:
        with powercut.disk(tmp_path, "ext4", 2 * MIB, *options) as disk:
            for number in range(10**6):
                try:
                    (disk.path / f"ballast{number}").write_bytes(b"x" * (0 if options else 100_000))
                except OSError:
                    break
            with daemon.running(disk.path) as milter:
                assert send(milter.address, b"x" * 50_000) == NOT_STORED
                disk.empty()
                assert send(milter.address, b"x" * 50_000) == "accepted"
                (path,) = milter.files()
                assert path.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(umask)


def test_it_fills_up_under_load_and_is_emptied_again(tmp_path: Path) -> None:
    """As by an archiver that takes the mail out, but stops now and then."""
    seed = random.randrange(10**9)
    story = Story()
    with on_a_small_disk(tmp_path) as (_, milter):
        with load(milter.address, story, clients=4, seed=seed):
            for _ in range(5):
                wait_for_more(story, NOT_STORED, 20)
                files = milter.files()
                assert Story(dict(story.sent)).faults(files) == [], f"seed {seed}"
                for path in files:
                    story.take_out(path)
                wait_for_more(story, "accepted", 5)
        assert story.faults(milter.files()) == [], f"seed {seed}"
        print(dict(story.replies))
        assert set(story.replies) <= {"accepted", NOT_STORED, NOT_AVAILABLE}
        assert story.torn_off == 0


def wait_for_more(story: Story, reply: str, count: int) -> None:
    before = story.replies[reply]
    wait_for(lambda: story.replies[reply] > before + count, f"more mails get {reply!r}")


def test_the_reserve_is_kept_and_refused_at_mail(tmp_path: Path) -> None:
    with powercut.disk(tmp_path) as disk, daemon.running(disk.path, "--min-free", "20M") as milter:
        assert send(milter.address) == "accepted"
        ballast = disk.path / "lost+found" / "ballast"
        status = os.statvfs(disk.path)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - 19 * MIB)
        wait_for(lambda: send(milter.address, queue_id="SHORT") == SHORT, "the reserve is touched")
        before = milter.files()
        for _ in range(10):
            assert send(milter.address) == SHORT
        assert milter.files() == before
        assert "octets free, 20971520 are kept in reserve" in milter.wait_for_log("refused .*452.*")
        ballast.unlink()
        wait_for(lambda: send(milter.address) == "accepted", "mail is taken again", 5)
        assert len(milter.files()) == len(before) + 1
