"""Power cuts while the committer is under load: what was reported stored is there, nothing is torn.

The last tests take a sync away, to show that its absence would be seen.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import powercut
from benno_common.durable import Committer, Directory, Job
from committing import SystemCalls, bench, job
from powercut import Disk
from tally import ROUNDS, Tally

pytestmark = pytest.mark.system

SUBMITTERS = 3
AHEAD = 12  # jobs that a submitter has under way
LARGEST = 50_000
LONGEST = 0.03  # seconds under load before a cut


class Story:
    """All that was ever submitted, and what was reported stored. One for all cuts of a disk."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.submitted: dict[str, bytes] = {}
        self.stored: set[str] = set()
        self.faults: list[str] = []
        self.kept = 0  # files that were reported and were there, in all cuts
        self.surprised = 0  # cuts in which jobs were under way

    def look(self, cut: int, inbox: Path) -> tuple[list[str], int]:
        """After the cut: what is not as it must be, which is noted, and how many files there are."""
        found = {path.name: path.read_bytes() for path in inbox.iterdir() if path.name != "lost+found"}
        faults = [f"{name} was reported and is gone" for name in self.stored - found.keys()]
        for name, content in found.items():
            wanted = self.submitted.get(name)
            if wanted is None:
                faults.append(f"{name} was removed, or is nobody's")
            elif content != wanted:
                faults.append(f"{name} is torn: {_difference(content, wanted)}")
        self.faults += [f"cut {cut}: {fault}" for fault in faults]
        self.kept += len(self.stored & found.keys())
        self.surprised += len(self.submitted) > len(self.stored)
        return faults, len(found)


def _difference(content: bytes, wanted: bytes) -> str:
    first = next((at for at, (a, b) in enumerate(zip(content, wanted, strict=False)) if a != b), None)
    return f"{len(content)} of {len(wanted)} octets, first difference at {first}"


class Load:
    """Threads that submit jobs to a committer and remember what it reports."""

    def __init__(self, directory: Directory, story: Story, cut: int) -> None:
        self._directory = directory
        self._story = story
        self._cut = cut
        self._power = threading.Event()  # gone
        self._ahead = [threading.Semaphore(AHEAD) for _ in range(SUBMITTERS)]
        self._threads = [
            threading.Thread(target=self._submit, args=(number,)) for number in range(SUBMITTERS)
        ]
        self.deaths: list[BaseException] = []
        self._committer = Committer(
            directory, 0, report=self._report, changed=lambda _: None, died=self.deaths.append
        )

    def start(self) -> None:
        self._committer.start()
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """The power has gone: let everybody notice."""
        self._power.set()
        for thread in self._threads:
            thread.join()
        self._committer.stop()
        self._committer.join()

    def _submit(self, number: int) -> None:
        chance = random.Random(f"{self._story.seed} {self._cut} {number}")
        ahead = self._ahead[number]
        for count in itertools.count():
            ahead.acquire()
            if self._power.is_set():
                return
            content = chance.randbytes(chance.choice([0, 10, 3000, 9000, chance.randrange(LARGEST)]))
            name = f"{self._cut}.{number}.{count}.eml"
            self._story.submitted[name] = content
            submitted = Job(content, None, iter([name]).__next__, partial(_release, ahead))
            if chance.random() < 0.2 and not self._write(submitted):
                ahead.release()
                continue
            self._committer.submit(submitted)

    def _write(self, job: Job) -> bool:
        """As a worker does with a large mail. False: the disk failed."""
        assert job.content is not None
        draft = None
        try:
            draft = self._directory.draft()
            draft.write(job.content)
            draft.start_writeback()
            draft.sync()
        except OSError:
            if draft is not None:
                draft.close()
            return False
        job.content, job.draft = None, draft
        return True

    def _report(self, batch: list[Job]) -> None:
        for one in batch:
            if one.stored is not None:
                self._story.stored.add(one.stored)
            one.done(one)


def _release(ahead: threading.Semaphore, _: Job) -> None:
    ahead.release()


def cut_again_and_again(disk: Disk, way: str, cuts: int, seed: str, tally: Tally) -> Story:
    """So many cuts, or until a fault was seen. What a cut has left is removed, for good."""
    story = Story(seed)
    chance = random.Random(seed)
    inbox = disk.path / "inbox"
    for cut in range(cuts):
        directory = Directory(str(inbox), allow_unnamed=way == "unnamed")
        directory.open()
        assert (directory.place.staging is None) == (way == "unnamed")
        load = Load(directory, story, cut)
        load.start()
        time.sleep(chance.uniform(0, LONGEST))
        disk.shut_down()
        load.end()
        directory.close()
        assert load.deaths == []
        disk.restart()
        tally.round(*story.look(cut, inbox))
        if story.faults:
            break
        directory.open()
        directory.remove(path.name for path in inbox.iterdir())
        directory.close()
        story.stored.clear()
        story.submitted.clear()
    return story


@contextmanager
def disk_with_inbox(directory: Path, kind: str) -> Iterator[Disk]:
    with powercut.disk(directory, kind) as disk:
        (disk.path / "inbox").mkdir()
        disk.restart()
        yield disk


@pytest.mark.parametrize(
    ("kind", "way", "share"),
    [
        ("ext4", "unnamed", 0.4),
        ("xfs", "unnamed", 0.4),
        ("ext4", "staging", 0.1),
        ("xfs", "staging", 0.1),
    ],
)
def test_what_was_reported_survives_and_nothing_is_torn(
    tmp_path: Path, kind: str, way: str, share: float, seed: str, tally: Tally
) -> None:
    cuts = max(1, round(ROUNDS * share))
    tally.what = f"power cuts of {kind}, durability module, {way} files"
    with disk_with_inbox(tmp_path, kind) as disk:
        story = cut_again_and_again(disk, way, cuts, seed, tally)
        disk.check()
        assert disk.cuts == cuts
    print(f"{cuts} cuts of {kind}, {way}, {story.kept} files kept, {story.surprised} under load")
    assert story.faults == []
    assert story.kept > cuts / 10  # on a busy machine most cuts come early
    assert story.surprised > cuts / 2


@pytest.mark.parametrize("way", ["unnamed", "staging"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_cut_before_every_call_of_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, way: str
) -> None:
    """Two small mails and a large one, as often as the batch has calls."""
    with disk_with_inbox(tmp_path, kind) as disk:
        for nth in itertools.count(1):
            stored, cut = commit_and_cut(disk, way, monkeypatch, nth)
            disk.restart()
            inbox = disk.path / "inbox"
            found = {path.name: path.read_bytes() for path in inbox.iterdir()}
            assert stored <= found.keys(), f"cut before call {nth}"
            assert found.items() <= BATCH.items(), f"cut before call {nth}"
            if not cut:
                break
            for name in found:
                (inbox / name).unlink()
    assert found == BATCH
    print(f"{nth - 1} calls")
    assert nth > 12


BATCH = {"small.eml": b"small", "other.eml": b"other", "large.eml": b"large" * 100_000}


def commit_and_cut(
    disk: Disk, way: str, monkeypatch: pytest.MonkeyPatch, nth: int
) -> tuple[set[str], bool]:
    """Cut the power before the nth call; what was reported stored, and whether it came to the cut."""
    directory = Directory(str(disk.path / "inbox"), allow_unnamed=way == "unnamed")
    directory.open()
    draft = directory.draft()
    draft.write(BATCH["large.eml"])
    draft.sync()
    jobs = [job(name, content=BATCH[name]) for name in ("small.eml", "other.eml")]
    jobs.append(job("large.eml", draft=draft))
    with bench(directory) as committer, monkeypatch.context() as patched:
        SystemCalls(patched, committer.events).before(nth, disk.shut_down)
        before = disk.cuts
        committer.batch(*jobs)
    cut = disk.cuts > before
    if not cut:
        disk.shut_down()
    directory.close()
    return {one.stored for one in jobs if one.stored}, cut


@pytest.mark.parametrize(
    ("call", "seen"), [("fdatasync", "is torn"), ("fsync", "was reported and is gone")]
)
def test_a_missing_sync_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, seen: str, seed: str
) -> None:
    """The instrument works: without the file sync, or without the directory's, mail is lost.

    Writeback is not begun early either: most often it would have brought the data to the disk.
    """
    with disk_with_inbox(tmp_path, "ext4") as disk:
        monkeypatch.setattr(os, call, lambda fd: None)
        monkeypatch.setattr(os, "posix_fadvise", lambda *_: None)
        story = cut_again_and_again(disk, "unnamed", 100, seed, Tally())
        print(f"{call}: seen after {disk.cuts} cuts: {story.faults}")
    assert any(seen in fault for fault in story.faults)
