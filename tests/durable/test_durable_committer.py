"""The committer: the order of its calls, and whom a failure of each of them touches."""

from __future__ import annotations

import errno
import gc
import os
import queue
import threading
from pathlib import Path

import pytest

from benno_common.durable import Committer, Directory, Job
from committing import SECONDS, SystemCalls, around, bench, descriptors, job, outcome
from waiting import wait_for

REPLACED = "[Errno 116] another directory lies at {} now"
EIO = os.strerror(errno.EIO)


def big(directory: Directory, name: str, content: bytes = b"big") -> Job:
    """A job as a worker hands it over: written and synced."""
    draft = directory.draft()
    draft.write(content)
    draft.sync()
    return job(name, draft=draft)


def content(directory: Directory, name: str) -> bytes:
    return Path(directory.path, name).read_bytes()


class Clock:
    """time.monotonic() under the test's control."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("benno_common.durable.committer.time", self)

    def monotonic(self) -> float:
        return self.now


# The order


def test_a_batch_makes_its_calls_in_this_order(
    directory: Directory, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All writebacks before the first sync, all links after the last, one directory sync, report."""
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        committer.batch(job("a"), job("b"), job("c"))
        made = list(calls.made)
    expected = ["open", "write", "posix_fadvise"] * 3 + ["fdatasync"] * 3 + ["link"] * 3
    expected += ["fsync", "stat"] + ["stat", *["unlink"] * 3] * (way == "staging") + ["report"]
    assert made == expected
    assert around(directory) == ["a", "b", "c"]


def test_a_big_mail_joins_without_being_synced_here(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(directory) as committer:
        first, second = big(directory, "a"), big(directory, "c", b"bigger")
        calls = SystemCalls(monkeypatch, committer.events)
        assert committer.batch(first, job("b"), second) == ["stored a", "stored b", "stored c"]
        counts = [calls.count(name) for name in ("open", "write", "fdatasync", "link", "fsync")]
    assert counts == [1, 1, 1, 3, 1]
    assert content(directory, "a") == b"big"
    assert content(directory, "c") == b"bigger"


def test_nothing_to_link_nothing_to_sync(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        calls.fail("write", errno.ENOSPC)
        committer.batch(job("a"), job("b"))
        assert (calls.count("link"), calls.count("fsync")) == (0, 0)


def test_the_next_batch_collects_while_one_is_synced(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncing, go_on = threading.Event(), threading.Event()
    batches: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()
    fdatasync = os.fdatasync

    def slow(fd: int) -> None:
        syncing.set()
        assert go_on.wait(SECONDS)
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    committer = Committer(directory, 0, report=batches.put, changed=lambda _: None, died=lambda _: None)
    committer.submit(job("first"))
    committer.start()
    assert syncing.wait(SECONDS)
    for number in range(100):
        committer.submit(job(f"{number:03}"))
    go_on.set()
    committer.stop()
    committer.join(SECONDS)
    assert [len(batches.get(timeout=SECONDS)) for _ in range(3)] == [1, 64, 36]
    assert len(os.listdir(directory.path)) == 101


def test_stop_finishes_what_was_submitted(directory: Directory) -> None:
    batches: list[list[Job]] = []
    deaths: list[BaseException] = []
    committer = Committer(
        directory, 0, report=batches.append, changed=lambda _: None, died=deaths.append
    )
    jobs = [job(f"{number:03}") for number in range(200)]
    for one in jobs:
        committer.submit(one)
    committer.stop()
    committer.start()
    committer.join(SECONDS)
    assert not committer.is_alive()
    assert deaths == []
    assert [one for batch in batches for one in batch] == jobs
    assert [outcome(one) for one in jobs] == [f"stored {number:03}" for number in range(200)]


# One file fails, the others do not


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "code"),
    [
        (name, code)
        for name, codes in {
            "open": [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EACCES],
            "write": [errno.ENOSPC, errno.EDQUOT, errno.EIO],
            "fdatasync": [errno.EIO, errno.ENOSPC],
            "link": [errno.ENOSPC, errno.EACCES, errno.EIO, errno.ENOENT],
        }.items()
        for code in codes
    ],
)
def test_what_fails_for_one_mail_fails_for_it_alone(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, name: str, code: int, nth: int
) -> None:
    open_before = descriptors()
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        calls.fail(name, code, nth=nth)
        told = committer.batch(job("1"), job("2"), job("3"))
        failed = f"[Errno {code}] {os.strerror(code)}"
        # Syncs are side by side, so that any of them may be the nth.
        hit = told.index(failed) + 1 if name == "fdatasync" else nth
        assert told == [failed if number == hit else f"stored {number}" for number in (1, 2, 3)]
        assert around(directory) == [name for name in "123" if name != str(hit)]
        assert committer.batch(job(str(hit))) == [f"stored {hit}"]
    assert committer.changes == []
    assert around(directory) == ["1", "2", "3"]
    monkeypatch.undo()
    assert descriptors() <= open_before


def test_a_failed_sync_is_never_tried_again(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second would succeed, and mean nothing."""
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        calls.fail("fdatasync", errno.EIO, nth=1)
        assert committer.batch(job("a"), job("b")) == ["[Errno 5] " + EIO, "stored b"]
        assert (calls.count("fdatasync"), calls.count("link")) == (2, 1)
        assert committer.batch(job("c")) == ["stored c"]
        assert (calls.count("fdatasync"), calls.count("link")) == (3, 2)
    assert around(directory) == ["b", "c"]


def test_a_writeback_that_cannot_be_started_does_no_harm(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(directory) as committer:
        SystemCalls(monkeypatch, committer.events).fail("posix_fadvise", errno.EINVAL)
        assert committer.batch(job("a")) == ["stored a"]
    assert content(directory, "a") == b"content"


def test_a_fault_of_our_own_fails_for_one_mail_alone(directory: Directory) -> None:
    """A name that cannot be made, any exception at all: the thread survives it."""
    with bench(directory) as committer:
        broken = job("never")
        broken.name = lambda: str(1 // 0)
        told = committer.batch(job("a"), broken, job("c"))
        assert told == ["stored a", "integer division or modulo by zero", "stored c"]
    assert around(directory) == ["a", "c"]


def test_a_name_that_exists_is_followed_by_another(directory: Directory) -> None:
    Path(directory.path, "taken").write_bytes(b"before")
    with bench(directory) as committer:
        assert committer.batch(job("taken", "taken", "free")) == ["stored free"]
    assert content(directory, "taken") == b"before"
    assert content(directory, "free") == b"content"


def test_equal_names_in_a_batch(directory: Directory) -> None:
    with bench(directory) as committer:
        told = committer.batch(job("a", content=b"1"), job("a", "b", content=b"2"))
    assert told == ["stored a", "stored b"]
    assert content(directory, "a") == b"1"
    assert content(directory, "b") == b"2"


def test_a_hundred_names_that_exist(directory: Directory) -> None:
    Path(directory.path, "taken").touch()
    with bench(directory) as committer:
        told = committer.batch(job("a"), job(*["taken"] * 101), job("c"))
    reason = "a hundred names exist already, the last was taken"
    assert told == ["stored a", reason, "stored c"]
    assert around(directory) == ["a", "c", "taken"]


# The directory fails, and with it the batch


def test_a_failed_directory_sync_refuses_the_whole_batch(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed before keeps its own reason; the next batch opens the directory anew."""
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        calls.fail("write", errno.ENOSPC, nth=2)
        calls.fail("fsync", errno.EIO, nth=1)
        told = committer.batch(job("a"), job("b"), big(directory, "c"))
        assert told == ["[Errno 5] " + EIO, "[Errno 28] No space left on device", "[Errno 5] " + EIO]
        assert around(directory) == []
        assert committer.committer.trouble == "[Errno 5] " + EIO
        calls.heal()
        assert committer.batch(job("d")) == ["stored d"]
        assert committer.committer.trouble is None
    assert committer.changes == ["[Errno 5] " + EIO, None]
    assert around(directory) == ["d"]


def test_a_mail_that_cannot_be_unlinked_again_is_refused_all_the_same(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes a second time, and stays whole."""
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        calls.fail("fsync", errno.EIO, nth=1)
        calls.fail("unlink", errno.EIO)
        assert committer.batch(job("a"), job("b")) == ["[Errno 5] " + EIO] * 2
    assert content(directory, "a") == content(directory, "b") == b"content"


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", ["open", "write", "fdatasync"])
def test_where_every_file_fails_it_is_the_directory(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """So that mail is refused before it was sent, and somebody hears of it."""
    clock = Clock(monkeypatch)
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        calls.fail(name, code)
        failed = f"[Errno {code}] {os.strerror(code)}"
        assert committer.batch(job("a"), job("b")) == [failed] * 2
        assert committer.changes == [f"[Errno {code}] {directory.path}: {os.strerror(code)}"]
        calls.heal()
        clock.now += 1
        assert committer.batch(job("c")) == ["stored c"]
        assert committer.changes[1:] == [None]
    assert around(directory) == ["c"]


@pytest.mark.parametrize("name", ["open", "write", "fdatasync"])
def test_where_one_file_fails_it_is_not_the_directory(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with bench(directory) as committer:
        SystemCalls(monkeypatch, committer.events).fail(name, errno.EIO, nth=1)
        assert committer.batch(job("a")) == ["[Errno 5] " + EIO]
        assert committer.changes == []


def test_a_full_disk_is_not_the_directory(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mail finds out when it is over, so none is refused for longer than that."""
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        calls.fail("write", errno.ENOSPC)
        assert "No space left" in committer.batch(job("a"))[0]
        calls.heal()
        assert committer.batch(job("b")) == ["stored b"]
        assert committer.changes == []


def test_until_it_can_be_opened_all_is_refused_and_it_is_tried_once_a_second(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    broken = "[Errno 5] " + EIO
    probed = f"[Errno 5] {directory.path}: {EIO}"
    open_before = descriptors()
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        calls.fail("fsync", errno.EIO)
        committer.batch(job("a"))
        seen = []
        for tenth in range(25):  # 2.5 seconds: tried at 0, 1 and 2
            clock.now = 1000.0 + tenth / 10
            seen += committer.batch(job(f"b{tenth}"))
        assert calls.count("fsync") == 1 + 3
        assert set(seen) == {probed}
        calls.heal()
        clock.now = 1002.99
        assert committer.batch(job("c")) == [probed]
        clock.now = 1003.0
        assert committer.batch(job("d")) == ["stored d"]
    assert committer.changes == [broken, None]
    assert around(directory) == ["d"]
    monkeypatch.undo()
    assert descriptors() <= open_before


def test_it_recovers_without_a_mail_if_asked_to_look(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(directory) as committer:
        SystemCalls(monkeypatch, committer.events).fail("fsync", errno.EIO, nth=1)
        committer.batch(job("a"))
        committer.look()
        wait_for(lambda: committer.changes[1:], "the directory is usable again")
    assert committer.changes == ["[Errno 5] " + EIO, None]
    assert around(directory) == []


def test_opening_in_vain_does_not_use_up_descriptors(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with bench(directory) as committer:
        SystemCalls(monkeypatch, committer.events).fail("fsync", errno.EIO)
        committer.batch(job("a"))
        open_before = descriptors()
        for _ in range(60):
            clock.now += 1
            committer.batch(job("b"))
        assert descriptors() < open_before + 20


def test_a_directory_that_failed_is_let_go_at_once(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when the garbage collector comes by: its file system may have to be unmounted."""
    clock = Clock(monkeypatch)
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        calls.fail("fsync", errno.EIO)
        gc.disable()
        try:
            assert opened_around(directory)
            committer.batch(big(directory, "a"), job("b"))
            committer.look()
            wait_for(lambda: opened_around(directory) == [], "nothing of it is open")
        finally:
            gc.enable()
        calls.heal()
        clock.now += 1
        committer.look()
        wait_for(lambda: committer.changes[1:] == [None], "it is usable again")
    assert around(directory) == []


def opened_around(directory: Directory) -> list[str]:
    """What this process has open there, its staging directory included."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    leads = [os.readlink(link) for link in links if os.path.lexists(link)]
    return [lead for lead in leads if lead.startswith(os.path.dirname(directory.path))]


def test_a_big_mail_begun_before_the_directory_was_opened_anew_is_refused(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file may lie under a mount point, or on the disk that failed."""
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        calls.fail("fsync", errno.EIO, nth=1)
        early = big(directory, "early")
        committer.batch(job("a"))
        told = committer.batch(early, job("b"))
        assert told == [
            f"{directory.path} was opened anew while the file was written",
            "stored b",
        ]
        assert committer.batch(big(directory, "late")) == ["stored late"]
    assert around(directory) == ["b", "late"]


def test_a_big_mail_that_is_refused_leaves_no_descriptor(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(directory) as committer:
        before = descriptors()
        mails = [big(directory, f"b{number}") for number in range(3)]
        SystemCalls(monkeypatch, committer.events).fail("fsync", errno.EIO)
        for mail in mails:  # it is synced, opened anew in vain, and not even tried
            assert "Input/output error" in committer.batch(mail)[0]
        assert descriptors() <= before
    assert around(directory) == []


def test_a_directory_that_was_replaced_is_found_before_the_answer(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is not taken, even on the same device: a bind mount may have gone."""
    clock = Clock(monkeypatch)
    away = directory.path + ".away"
    with bench(directory) as committer:
        assert committer.batch(job("a")) == ["stored a"]
        os.rename(directory.path, away)
        os.mkdir(directory.path)
        replaced = REPLACED.format(directory.path)
        assert committer.batch(job("b"), job("c")) == [replaced] * 2
        for _ in range(3):
            clock.now += 1
            (told,) = committer.batch(job("d"))
            assert f"another directory lies at {directory.path}: mount or move the right one" in told
        assert os.listdir(away) == ["a"]
        assert os.listdir(directory.path) == []
        os.rmdir(directory.path)
        os.rename(away, directory.path)
        clock.now += 1
        assert committer.batch(job("e")) == ["stored e"]
        assert committer.changes == [replaced, None]
    assert around(directory) == ["a", "e"]


def test_a_directory_that_failed_and_was_replaced(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was let go, and yet no other is taken for it."""
    clock = Clock(monkeypatch)
    with bench(directory) as committer:
        calls = SystemCalls(monkeypatch, committer.events)
        calls.fail("fsync", errno.EIO, nth=1)
        committer.batch(job("a"))
        os.rename(directory.path, directory.path + ".away")
        os.mkdir(directory.path)
        assert "another directory lies at" in committer.batch(job("b"))[0]
        os.rmdir(directory.path)
        os.rename(directory.path + ".away", directory.path)
        clock.now += 1
        assert committer.batch(job("c")) == ["stored c"]
    assert around(directory) == ["c"]


def test_a_directory_that_is_gone(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    missing = f"[Errno 2] {directory.path}: No such file or directory"
    with bench(directory) as committer:
        os.rmdir(directory.path)
        assert "stored" not in committer.batch(job("a"))[0]
        assert committer.changes == [missing]
        os.mkdir(directory.path)
        assert committer.batch(job("b")) == ["stored b"]
        os.rename(directory.path, directory.path + ".away")
        for name in ("c", "d"):
            assert committer.batch(job(name)) == [missing]
        os.rename(directory.path + ".away", directory.path)
        clock.now += 1
        assert committer.batch(job("e")) == ["stored e"]
    assert around(directory) == ["b", "e"]


def test_a_directory_on_another_device_is_never_taken(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a file system is not mounted any more. A symbolic link plays the mount point."""
    other = Path("/dev/shm")
    if other.stat().st_dev == inbox.stat().st_dev:
        pytest.skip(f"{other} is no other file system")
    clock = Clock(monkeypatch)
    place = tmp_path / "place"
    place.symlink_to(inbox)
    directory = Directory(str(place))
    directory.open()
    before = set(os.listdir(other))
    with bench(directory) as committer:
        place.unlink()
        place.symlink_to(other)
        assert committer.batch(job("a")) == [REPLACED.format(place)]
        for number in range(3):
            clock.now += 1
            (told,) = committer.batch(job(f"b{number}"))
            assert "is on another file system than before" in told
        place.unlink()
        place.symlink_to(inbox)
        clock.now += 1
        assert committer.batch(job("c")) == ["stored c"]
    directory.close()
    assert not {"a", "b0", "b1", "b2"} & (set(os.listdir(other)) - before)
    assert os.listdir(inbox) == ["c"]


def test_a_staging_directory_that_somebody_removed_is_made_anew(inbox: Path) -> None:
    directory = Directory(str(inbox), allow_unnamed=False)
    directory.open()
    with bench(directory) as committer:
        for path in inbox.parent.glob(".inbox.*.staging"):
            (path / "lock").unlink()
            path.rmdir()
        assert "No such file or directory" in committer.batch(job("a"))[0]
        assert committer.batch(job("b")) == ["stored b"]
    directory.close()
    assert os.listdir(inbox) == ["b"]


# The reserve


def test_a_shortage_is_seen_and_passes(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    free = os.fstatvfs(directory.place.fd)
    reserve = free.f_bavail * free.f_frsize * 2
    with bench(directory, reserve) as committer:
        assert "are kept in reserve" in str(committer.committer.shortage)
        assert committer.batch(job("a")) == ["stored a"]
        monkeypatch.setattr(Directory, "reserve", lambda *_: (None, free.f_bavail))
        committer.look()
        wait_for(lambda: committer.committer.shortage is None, "the shortage is over")


# Its death


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError])
def test_a_report_that_fails_kills_it_and_the_owner_hears_of_it(
    directory: Directory, error: type[BaseException]
) -> None:
    deaths: list[BaseException] = []

    def report(_: list[Job]) -> None:
        raise error

    committer = Committer(directory, 0, report=report, changed=lambda _: None, died=deaths.append)
    committer.submit(job("a"))
    committer.start()
    committer.join(SECONDS)
    assert [type(death) for death in deaths] == [error]


def test_only_what_is_no_exception_of_a_mail_kills_it(directory: Directory) -> None:
    deaths: list[BaseException] = []
    reported: list[list[Job]] = []
    broken = job()
    broken.name = _exit
    committer = Committer(
        directory, 0, report=reported.append, changed=lambda _: None, died=deaths.append
    )
    for one in (job("a"), broken):
        committer.submit(one)
    committer.start()
    committer.join(SECONDS)
    assert [type(death) for death in deaths] == [SystemExit]
    assert reported == []


def _exit() -> str:
    raise SystemExit(1)
