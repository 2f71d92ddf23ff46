"""One file from its first octet to its name: its mode, its content, and that it never overwrites."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benno_common.durable import Directory, DirectoryUnusable
from committing import around, descriptors

STRANGER = 54321  # a group that is not ours


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def keep(directory: Directory, name: str, *pieces: bytes) -> Path:
    """Write a file as the committer does."""
    draft = directory.draft()
    for piece in pieces:
        draft.write(piece)
    draft.start_writeback()
    draft.sync()
    draft.link(name)
    draft.close()
    directory.sync()
    return Path(directory.path, name)


def test_a_file_is_whole_under_its_name_and_nothing_else_is_left(directory: Directory) -> None:
    open_before = descriptors()
    path = keep(directory, "a.eml", b"one", b"", b"two")
    assert path.read_bytes() == b"onetwo"
    assert path.stat().st_nlink == 1
    assert around(directory) == ["a.eml"]
    assert descriptors() <= open_before


def test_no_watcher_sees_a_file_before_it_is_linked(directory: Directory) -> None:
    draft = directory.draft()
    draft.write(b"content")
    draft.sync()
    assert os.listdir(directory.path) == []
    draft.close()


def test_what_was_not_linked_leaves_nothing(directory: Directory) -> None:
    open_before = descriptors()
    draft = directory.draft()
    draft.write(b"content")
    draft.close()
    draft.close()
    assert around(directory) == []
    assert descriptors() <= open_before


def test_never_overwrites(directory: Directory) -> None:
    path = keep(directory, "a.eml", b"first")
    draft = directory.draft()
    draft.write(b"second")
    with pytest.raises(FileExistsError):
        draft.link("a.eml")
    draft.link("b.eml")
    draft.close()
    assert path.read_bytes() == b"first"
    assert path.with_name("b.eml").read_bytes() == b"second"
    assert around(directory) == ["a.eml", "b.eml"]


@pytest.mark.parametrize("obstacle", ["symlink", "dangling symlink", "directory"])
def test_never_goes_through_what_lies_at_the_name(directory: Directory, obstacle: str) -> None:
    place = Path(directory.path, "a.eml")
    target = Path(directory.path, "target")
    if obstacle == "directory":
        place.mkdir()
    else:
        place.symlink_to(target)
    if obstacle == "symlink":
        target.write_bytes(b"other")
    draft = directory.draft()
    with pytest.raises(FileExistsError):
        draft.link("a.eml")
    draft.close()
    assert target.exists() == (obstacle == "symlink")


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077], ids=oct)
def test_mode_is_0640_whatever_the_umask(inbox: Path, way: str, mask: int) -> None:
    directory = Directory(str(inbox), allow_unnamed=way == "unnamed")
    with umask(mask):
        directory.open()
        path = keep(directory, "a.eml", b"content")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    directory.close()


def test_a_mode_that_cannot_be_set_is_told_and_leaves_nothing(
    inbox: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, mode: int) -> None:
        raise OSError(5, "Input/output error")

    with umask(0o077):
        directory = Directory(str(inbox), allow_unnamed=way == "unnamed")
        directory.open()
        before = descriptors()
        monkeypatch.setattr(os, "fchmod", refuse)
        with pytest.raises(OSError, match="Input/output"):
            directory.draft()
        assert around(directory) == []
        assert descriptors() <= before
    directory.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file to another group")
@pytest.mark.parametrize("mask", [0o022, 0o077], ids=oct)
def test_a_file_gets_the_group_of_its_directory(inbox: Path, way: str, mask: int) -> None:
    """Where the directory hands it on; and nothing beside it needs S_ISGID, which a unit may forbid."""
    directory = Directory(str(inbox), allow_unnamed=way == "unnamed")
    os.chown(inbox, -1, STRANGER)
    for mode, group in ((0o2770, STRANGER), (0o2750, STRANGER), (0o700, os.getegid())):
        inbox.chmod(mode)
        with umask(mask):
            directory.open()
            status = keep(directory, f"{mode}.eml", b"content").stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (group, 0o640)
        if directory.place.staging is not None:
            assert not os.stat(directory.place.staging.path).st_mode & stat.S_ISGID
        directory.close()


def test_a_group_that_cannot_be_given_is_told_and_leaves_nothing(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, owner: int, group: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    inbox.chmod(0o2770)
    directory = Directory(str(inbox), allow_unnamed=False)
    directory.open()
    before = descriptors()
    monkeypatch.setattr(os, "fchown", refuse)
    reason = f"no file gets group {inbox.stat().st_gid}: Operation not permitted"
    with pytest.raises(OSError, match=reason):
        directory.draft()
    assert around(directory) == []
    assert descriptors() <= before
    with pytest.raises(DirectoryUnusable, match=reason):
        directory.check()
    directory.close()


@pytest.mark.parametrize("most", [1, 7])
def test_short_writes_are_written_on(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:most])))
    path = keep(directory, "a.eml", bytes(range(256)), b"", b"end")
    assert path.read_bytes() == bytes(range(256)) + b"end"


def test_a_failure_after_a_short_write_is_told(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    taken: list[int] = []

    def full_after_three(fd: int, data: bytes) -> int:
        if taken:
            raise OSError(28, "No space left on device")
        taken.append(write(fd, bytes(data[:3])))
        return taken[0]

    draft = directory.draft()
    monkeypatch.setattr(os, "write", full_after_three)
    with pytest.raises(OSError, match="No space left"):
        draft.write(b"content")
    draft.close()
    assert around(directory) == []


def test_a_draft_outlives_the_directory_that_was_opened_anew(directory: Directory) -> None:
    """Its descriptors, and its staging directory, stay until it is closed."""
    draft = directory.draft()
    directory.open()
    draft.write(b"content")
    draft.sync()
    draft.link("a.eml")
    draft.close()
    assert Path(directory.path, "a.eml").read_bytes() == b"content"
    assert around(directory) == ["a.eml"]
