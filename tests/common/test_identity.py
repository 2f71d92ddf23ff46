"""Whether a receiver writes into this very directory: its hidden file, and the word in it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
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


def end(mark: Mark) -> None:
    """As the end of its process does."""
    assert mark._fd is not None
    os.close(mark._fd)


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


def test_a_new_start_leaves_one_file(tmp_path: Path) -> None:
    """And a copy of the directory on another machine is no longer taken for this one."""
    with opened(tmp_path) as directory:
        before, after = Mark("host 2500"), Mark("host 2500")
        before.put(directory)
        end(before)
        after.put(directory)
        assert len(list(tmp_path.iterdir())) == 1
        assert is_marked(directory, after.identity)
        assert not is_marked(directory, before.identity)


def test_several_processes_of_one_receiver(tmp_path: Path) -> None:
    """Each has its file, and one that starts again takes the place that is free."""
    with opened(tmp_path) as directory:
        marks = [Mark("host 2500") for _ in range(3)]
        for mark in marks:
            mark.put(directory)
        assert all(is_marked(directory, mark.identity) for mark in marks)
        end(marks[1])
        marks.append(Mark("host 2500"))
        marks[3].put(directory)
        seen = [is_marked(directory, mark.identity) for mark in marks]
        assert seen == [True, False, True, True]
        assert len(list(tmp_path.iterdir())) == 3


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with opened(tmp_path) as directory:
        mark = Mark("host 2500")
        mark.put(directory)
        assert is_marked(directory, mark.identity)


def test_in_another_directory_it_leaves_nothing_open(tmp_path: Path) -> None:
    with opened(tmp_path / "old") as old, opened(tmp_path / "new") as new:
        mark = Mark("host 2500")
        mark.put(old)
        before = os.listdir("/proc/self/fd")
        mark.put(new)
        mark.put(new)
        assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    "said", ["", ".", "x", "../etc/passwd", f"{'0' * 16}", f"{'0' * 16}./{'0' * 15}"]
)
def test_what_no_receiver_says(tmp_path: Path, said: str) -> None:
    (tmp_path / f".benno-smtp.{'0' * 16}").touch()
    with opened(tmp_path) as directory:
        assert not is_marked(directory, said)
