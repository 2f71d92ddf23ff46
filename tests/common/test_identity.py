"""Whether a receiver writes into this very directory: its hidden file, and the word in it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benno_common.identity import Mark, is_marked


@contextmanager
def opened(path: Path) -> Iterator[int]:
    path.mkdir(exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


# Puts its mark and waits, at the words that are written to it. It looks longer at what it finds.
SLOWLY = """
import os, sys, time
from benno_common import identity
is_free = identity._is_free
identity._is_free = lambda mark: (time.sleep(0.05), is_free(mark))[1]
sys.stdin.readline()
identity.Mark("host 2500").put(os.open(sys.argv[1], os.O_RDONLY))
print(flush=True)
sys.stdin.readline()
"""

Processes = Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    """What is done within is done by another process, which has ended afterwards."""

    @contextmanager
    def another() -> Iterator[None]:
        with subprocess.Popen(["sleep", "60"]) as process, monkeypatch.context() as patched:
            patched.setattr(os, "getpid", lambda: process.pid)
            yield
            process.kill()

    return another


def test_seen_in_its_directory_only(tmp_path: Path) -> None:
    with opened(tmp_path / "import") as inside, opened(tmp_path / "spool") as other:
        mark = Mark("host 2500")
        assert not is_marked(inside, mark.identity)
        mark.put(inside)
        assert is_marked(inside, mark.identity)
        assert not is_marked(other, mark.identity)


def test_follows_to_another_directory(tmp_path: Path) -> None:
    """One that lies at the path now."""
    with opened(tmp_path / "old") as old, opened(tmp_path / "new") as new:
        mark = Mark("host 2500")
        mark.put(old)
        mark.put(new)
        assert is_marked(new, mark.identity)


def test_two_receivers_of_one_directory(tmp_path: Path) -> None:
    with opened(tmp_path) as directory:
        marks = [Mark("host 2500"), Mark("host 2525")]
        for mark in marks:
            mark.put(directory)
        assert [is_marked(directory, mark.identity) for mark in marks] == [True, True]


def test_a_new_start_leaves_one_file(tmp_path: Path, processes: Processes) -> None:
    """And a copy of the directory on another machine is no longer taken for this one."""
    with opened(tmp_path) as directory:
        before, after = Mark("host 2500"), Mark("host 2500")
        with processes():
            before.put(directory)
        after.put(directory)
        assert len(list(tmp_path.iterdir())) == 1
        assert is_marked(directory, after.identity)
        assert not is_marked(directory, before.identity)


def test_several_processes_of_one_receiver(tmp_path: Path, processes: Processes) -> None:
    """Each has its file, and one that starts again takes the place that is free."""
    marks = [Mark("host 2500") for _ in range(4)]
    with opened(tmp_path) as directory, processes():
        marks[0].put(directory)
        with processes():
            marks[1].put(directory)
            with processes():
                marks[2].put(directory)
                assert [is_marked(directory, mark.identity) for mark in marks[:3]] == [True] * 3
        with processes():
            marks[3].put(directory)
            seen = [is_marked(directory, mark.identity) for mark in marks]
    assert seen == [True, False, True, True]
    assert len(list(tmp_path.iterdir())) == 3


def test_two_processes_start_at_the_same_time(tmp_path: Path) -> None:
    """One waits until the other has written."""
    words = [sys.executable, "-c", SLOWLY, str(tmp_path)]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(4)
        ]
        for word in ("put", "end"):
            for one in started:
                assert one.stdin is not None
                one.stdin.write(word.encode() + b"\n")
                one.stdin.flush()
            if word == "put":
                assert [one.stdout.read(1) for one in started if one.stdout] == [b"\n"] * 4
                seen = [int(path.read_text().split()[1]) for path in tmp_path.iterdir()]
    assert sorted(seen) == sorted(one.pid for one in started)


@pytest.mark.parametrize(
    "left", [b"", b"0123456789abcdef", b"0123456789abcdef 99999999999999999999", b"x y"]
)
def test_what_was_left_by_others(tmp_path: Path, left: bytes) -> None:
    with opened(tmp_path) as directory:
        mark = Mark("host 2500")
        (tmp_path / f".benno-smtp.{mark.identity[:16]}").write_bytes(left)
        mark.put(directory)
        assert is_marked(directory, mark.identity)
        assert len(list(tmp_path.iterdir())) == 1


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with opened(tmp_path) as directory:
        mark = Mark("host 2500")
        mark.put(directory)
        assert is_marked(directory, mark.identity)


def test_a_thousand_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not look for a free file for ever."""
    monkeypatch.setattr("benno_common.identity._is_free", lambda mark: False)
    with opened(tmp_path) as directory, pytest.raises(OSError, match="1000 processes serve host 2500"):
        Mark("host 2500").put(directory)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try takes the same file, not one more."""

    def fail(fd: int, octets: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(tmp_path) as directory:
        mark = Mark("host 2500")
        with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
            patched.setattr(os, "pwrite", fail)
            mark.put(directory)
        mark.put(directory)
        assert is_marked(directory, mark.identity)
        assert len(list(tmp_path.iterdir())) == 1


def test_nothing_stays_open(tmp_path: Path) -> None:
    """A file system with an open file is not unmounted."""
    with opened(tmp_path) as directory:
        before = os.listdir("/proc/self/fd")
        Mark("host 2500").put(directory)
        assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    "said", ["", ".", "x", "../etc/passwd", f"{'0' * 16}", f"{'0' * 16}./{'0' * 15}"]
)
def test_what_no_receiver_says(tmp_path: Path, said: str) -> None:
    (tmp_path / f".benno-smtp.{'0' * 16}").touch()
    with opened(tmp_path) as directory:
        assert not is_marked(directory, said)
