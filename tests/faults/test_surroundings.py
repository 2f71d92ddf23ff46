"""Each program in surroundings that nobody thought of: it works, or refuses, and loses nothing."""

from __future__ import annotations

import contextlib
import os
import random
import stat
from pathlib import Path

import pytest

import daemons
import powercut
import receiver_daemon
import surroundings
from benno_common.durable import Directory
from daemon import Daemon
from daemons import EACH, Kind
from load import Story
from mta import MTA
from passage import Passage
from receiver_daemon import Receiver
from smtp_load import Connection
from surroundings import Wrapper
from waiting import wait_for

pytestmark = pytest.mark.system

MAILS = 40

EVERYWHERE: dict[str, Wrapper] = {
    "umask 777": surroundings.with_umask(0o777),
    "umask 0": surroundings.with_umask(0),
    "locale C": surroundings.with_locale("C"),
    "locale POSIX": surroundings.with_locale("POSIX"),
    "locale that is not there": surroundings.with_locale("xx_YY.UTF-7"),
    "no environment": surroundings.without_environment(),
}
SURROUNDINGS = pytest.mark.parametrize("wrapper", EVERYWHERE.values(), ids=EVERYWHERE)


def archive(kind: Kind, directory: Path, wrapper: Wrapper, seed: str) -> None:
    """It takes mail under load, is killed, is started again, and ends as it should."""
    story = Story()
    for ending in ("killed", "stopped"):
        with kind.start(directory, wrapper) as running:
            with kind.load(running, story, clients=3, seed=f"{seed}.{ending}"):
                wait_for_more(story)
                if ending == "killed":
                    daemons.kill(running)
            assert ending == "killed" or running.stop() == 0
            assert story.faults(running.files()) == []
    assert set(story.replies) == {"accepted"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in running.files()} == {0o640}
    staging = directory.parent.glob(f".{directory.name}.*.staging")
    # FUSE renames a file that is removed while it closes, and its directory then stays.
    left = [path for place in staging for path in place.iterdir() if ".fuse_hidden" not in path.name]
    assert left == []


def wait_for_more(story: Story) -> None:
    before = story.replies["accepted"]
    wait_for(lambda: story.replies["accepted"] >= before + MAILS, "mails are accepted")


@SURROUNDINGS
@EACH
def test_a_daemon(tmp_path: Path, kind: Kind, wrapper: Wrapper, seed: str) -> None:
    archive(kind, tmp_path / "files", wrapper, seed)


@EACH
def test_a_daemon_on_a_read_only_root(tmp_path: Path, kind: Kind, seed: str) -> None:
    powercut.need("unshare")
    files = tmp_path / "files"
    files.mkdir()
    archive(kind, files, surroundings.read_only_root(files), seed)


@EACH
def test_a_daemon_without_proc(tmp_path: Path, kind: Kind, seed: str) -> None:
    powercut.need("unshare")
    archive(kind, tmp_path / "files", surroundings.without_proc(), seed)


@pytest.mark.parametrize("mask", [0o777, 0])
@EACH
def test_a_daemon_without_unnamed_files(tmp_path: Path, kind: Kind, mask: int, seed: str) -> None:
    """As on NFS: no file becomes visible before it is whole, and what was killed leaves nothing."""
    with surroundings.without_unnamed_files(tmp_path) as mounted:
        (mounted / "files").mkdir(mode=0o755)
        directory = Directory(str(mounted / "files"))
        directory.open()
        assert directory.place.staging is not None
        directory.close()
        archive(kind, mounted / "files", surroundings.with_umask(mask), seed)


@EACH
def test_a_daemon_with_few_descriptors(tmp_path: Path, kind: Kind, seed: str) -> None:
    """Idle connections take all places: no mail on an open one fails, and it recovers unaided."""
    powercut.need("prlimit")
    story = Story()
    with kind.start(tmp_path / "files", surroundings.with_descriptors(48)) as running:
        with kind.load(running, story, clients=4, seed=seed):
            wait_for_more(story)
            with contextlib.ExitStack() as idle:
                for _ in range(60):
                    idle.enter_context(connected(running))
                running.wait_for_log("refused: 12 connections are open")
            wait_for_more(story)
        assert story.faults(running.files()) == []
        assert {reply[:3] for reply in story.replies} <= {"acc", "421"}
        assert running.stop() == 0
        assert "Too many open files" not in running.log
        assert running.log.count("refused: 12") == 1, "the log is flooded"


class Unheard(Connection):
    """Waits for no greeting, and says nothing."""

    def read(self) -> str:
        return "220"

    def command(self, line: bytes) -> str:
        return "250"


def connected(running: Daemon) -> MTA | Connection:
    return Unheard(running.port) if isinstance(running, Receiver) else MTA(running.address)


@SURROUNDINGS
def test_the_forwarder(tmp_path: Path, wrapper: Wrapper, seed: str) -> None:
    forward(tmp_path, tmp_path / "spool", wrapper, seed)


def test_the_forwarder_on_a_read_only_root(tmp_path: Path, seed: str) -> None:
    powercut.need("unshare")
    spool = tmp_path / "spool"
    spool.mkdir()
    forward(tmp_path, spool, surroundings.read_only_root(spool), seed)


def test_the_forwarder_without_proc(tmp_path: Path, seed: str) -> None:
    powercut.need("unshare")
    forward(tmp_path, tmp_path / "spool", surroundings.without_proc(), seed)


def test_the_forwarder_without_unnamed_files(tmp_path: Path, seed: str) -> None:
    with surroundings.without_unnamed_files(tmp_path) as mounted:
        forward(tmp_path, mounted / "spool", (), seed)


def test_the_forwarder_with_few_descriptors(tmp_path: Path, seed: str) -> None:
    """Few connections, then none: what is not sent stays."""
    powercut.need("prlimit")
    for count in (8, 12, 16, 24):
        directory = tmp_path / str(count)
        directory.mkdir()
        forward(
            directory, directory / "spool", surroundings.with_descriptors(count), seed, may_fail=True
        )


def forward(root: Path, spool: Path, wrapper: Wrapper, seed: str, *, may_fail: bool = False) -> None:
    """Large and small mails, with 8-bit addresses; all are there, or wait. may_fail: no exit code 0."""
    spool.mkdir(exist_ok=True)
    passage = Passage(spool, seed)
    passage.fill(MAILS // 2)
    odd = random.Random(seed).randbytes(200).translate(None, b'\r\n\0<>" \t@\\') + b"@x.example"
    passage.put(b"Subject: \xfc\r\n\r\n\xff\n", odd, (b"\xc3\xbc@x.example", odd))
    with receiver_daemon.running(root / "inbox") as receiver:
        with passage.run(receiver.port, wrapper=wrapper) as forwarder:
            code = forwarder.end()
            assert may_fail or code == os.EX_OK, forwarder.log
            assert passage.faults(receiver) == [], forwarder.log
            assert "held " not in forwarder.log
        counts = passage.finish(receiver)
    assert set(counts) <= {1, 2}
