"""The directory: what is checked when it is opened, whether it is still the same, its reserve."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benno_common.durable import Directory, DirectoryUnusable
from committing import around, descriptors

OTHER_DEVICE = Path("/dev/shm")
STRANGER = 54321  # a user and group that is not ours

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
user_only = pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")


def refusal(directory: Directory) -> str:
    with pytest.raises(DirectoryUnusable) as caught:
        directory.open()
    return str(caught.value)


def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, code: int, where: Callable[..., bool] = lambda *_: True
) -> None:
    """Have a call of `os` fail where its arguments fit."""
    call = getattr(os, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if where(*arguments):
            raise OSError(code, os.strerror(code))
        return call(*arguments, **named)

    monkeypatch.setattr(os, name, wrapped)


def unnamed(*arguments: Any) -> bool:
    return bool(arguments[1] & os.O_TMPFILE == os.O_TMPFILE)


# The start


def test_opening_leaves_nothing_behind(inbox: Path, way: str) -> None:
    open_before = descriptors()
    directory = Directory(str(inbox), allow_unnamed=way == "unnamed")
    for _ in range(3):
        directory.open()
        assert around(directory) == []
    directory.close()
    assert descriptors() <= open_before
    assert [path.name for path in inbox.parent.iterdir()] == ["inbox"]


def test_a_directory_that_was_never_opened_takes_nothing(inbox: Path) -> None:
    with pytest.raises(DirectoryUnusable, match="is not open"):
        Directory(str(inbox)).draft()


def test_missing_or_no_directory(inbox: Path) -> None:
    missing, file = inbox / "missing", inbox / "file"
    file.touch()
    assert f"{missing}: No such file or directory" in refusal(Directory(str(missing)))
    assert f"{file}: Not a directory" in refusal(Directory(str(file)))


@user_only
def test_no_permission(inbox: Path) -> None:
    inbox.chmod(0)
    try:
        assert f"{inbox}: Permission denied" in refusal(Directory(str(inbox)))
    finally:
        inbox.chmod(0o755)


@pytest.mark.parametrize("name", ["open", "write", "fdatasync", "mkdir", "rmdir", "fsync"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO])
def test_each_check_that_fails_is_told(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    open_before = descriptors()
    failing(monkeypatch, name, code)
    reason = refusal(Directory(str(inbox)))
    monkeypatch.undo()
    assert reason == f"[Errno {code}] {inbox}: {os.strerror(code)}"
    assert descriptors() <= open_before


def test_something_in_the_way_of_a_check(inbox: Path) -> None:
    probe = inbox / ".probe"
    probe.write_text("somebody's")
    assert f"there is a {probe.name} that is no empty directory" in refusal(Directory(str(inbox)))
    assert probe.read_text() == "somebody's"


@root_only
def test_files_of_another_group_could_not_be_read(inbox: Path, way: str) -> None:
    os.chown(inbox, -1, STRANGER)
    inbox.chmod(0o770)
    directory = Directory(str(inbox), allow_unnamed=way == "unnamed")
    reason = refusal(directory)
    assert f"files in {inbox} would get group {os.getegid()}, the directory has {STRANGER}" in reason
    assert f"chmod g+s {inbox}" in reason
    inbox.chmod(0o2770)
    directory.open()  # a staging directory gets the group too
    directory.close()


@root_only
def test_files_in_a_directory_of_somebody_else_could_not_be_deleted(inbox: Path) -> None:
    os.chown(inbox, STRANGER, -1)
    directory = Directory(str(inbox))
    assert f"could not delete files in {inbox}" in refusal(directory)
    assert f"chmod 2770 {inbox}" in refusal(directory)
    inbox.chmod(0o2770)
    directory.open()
    directory.close()


def test_our_own_directory_that_nobody_else_may_write_to(inbox: Path) -> None:
    """Milter and archiver are the same user."""
    inbox.chmod(0o700)
    directory = Directory(str(inbox))
    directory.open()
    directory.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("name", ["open", "write", "fdatasync", "mkdir"])
def test_a_full_disk_is_no_fault_of_the_directory(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    failing(monkeypatch, name, code, unnamed if name == "open" else lambda *_: True)
    directory = Directory(str(inbox))
    directory.open()
    directory.close()


def test_mode_after_a_start_on_a_full_disk(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that would have shown what the umask does could not be made."""
    before = os.umask(0o077)
    try:
        directory = Directory(str(inbox))
        with monkeypatch.context() as full:
            failing(full, "open", errno.ENOSPC, unnamed)
            directory.open()
        draft = directory.draft()
        mode = stat.S_IMODE(os.fstat(draft.fd).st_mode)
        draft.close()
    finally:
        os.umask(before)
    directory.close()
    assert mode == 0o640


# Which way is open


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL])
def test_without_o_tmpfile_files_are_staged(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    failing(monkeypatch, "open", code, unnamed)
    directory = Directory(str(inbox))
    directory.open()
    assert directory.place.staging is not None
    directory.close()


def test_without_proc_files_are_staged(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "link", errno.ENOENT, lambda source, *_: str(source).startswith("/proc"))
    directory = Directory(str(inbox))
    directory.open()
    assert directory.place.staging is not None
    directory.close()


def test_staging_beside_a_mount_point_is_refused() -> None:
    if not OTHER_DEVICE.is_mount():
        pytest.skip(f"{OTHER_DEVICE} is no mount point")
    reason = refusal(Directory(str(OTHER_DEVICE), allow_unnamed=False))
    assert "/dev/shm lacks O_TMPFILE (or /proc), and /dev is another file system" in reason
    assert "use a directory below the mount point" in reason


def test_staging_that_cannot_be_made_is_told(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "mkdir", errno.EACCES)
    reason = refusal(Directory(str(inbox), allow_unnamed=False))
    assert f"a staging directory in {inbox.parent}: Permission denied" in reason


# Whether it is still the same


def test_replaced_directory_is_noticed(directory: Directory) -> None:
    directory.verify()
    away = directory.path + ".away"
    os.rename(directory.path, away)
    with pytest.raises(DirectoryUnusable, match="No such file"):
        directory.verify()
    os.mkdir(directory.path)
    with pytest.raises(DirectoryUnusable, match=f"another directory lies at {directory.path} now"):
        directory.verify()
    with pytest.raises(DirectoryUnusable, match="mount or move the right one back, or restart"):
        directory.open()
    os.rmdir(directory.path)
    os.rename(away, directory.path)
    directory.open()
    directory.verify()


def test_removed_directory_is_followed_by_a_new_one(directory: Directory) -> None:
    """What was removed comes back nowhere else, so that the new one is the right one."""
    os.rmdir(directory.path)
    os.mkdir(directory.path)
    directory.open()
    directory.verify()


def test_another_device_is_never_taken(inbox: Path, tmp_path: Path, way: str) -> None:
    """A symbolic link plays the mount point."""
    if OTHER_DEVICE.stat().st_dev == inbox.stat().st_dev:
        pytest.skip(f"{OTHER_DEVICE} is no other file system")
    place = tmp_path / "place"
    place.symlink_to(inbox)
    directory = Directory(str(place), allow_unnamed=way == "unnamed")
    directory.open()
    place.unlink()
    place.symlink_to(OTHER_DEVICE)
    with pytest.raises(DirectoryUnusable, match="another directory"):
        directory.verify()
    for _ in range(2):
        assert "is on another file system than before: mount it again" in refusal(directory)
    place.unlink()
    place.symlink_to(inbox)
    directory.open()
    directory.verify()
    directory.close()


# Its reserve


@pytest.mark.parametrize(
    ("free", "inodes", "free_inodes", "lacking"),
    [
        (100, 9000, 1000, None),
        (99, 9000, 1000, f"{99 * 512} octets free, {100 * 512} are kept in reserve"),
        (100, 90000, 999, "999 inodes free, 1000 are kept in reserve"),
        (100, 100, 4, "4 inodes free, 5 are kept in reserve"),
        (100, 0, 0, None),  # btrfs has no fixed number of inodes
    ],
)
def test_reserve(
    directory: Directory,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    inodes: int,
    free_inodes: int,
    lacking: str | None,
) -> None:
    status = SimpleNamespace(f_bavail=free, f_frsize=512, f_files=inodes, f_favail=free_inodes)
    monkeypatch.setattr(os, "fstatvfs", lambda _: status)
    assert directory.reserve(100 * 512)[0] == lacking
    assert directory.reserve(0)[0] is None


# Removing and holding


def put(directory: Directory, name: str, content: bytes = b"content") -> None:
    Path(directory.path, name).write_bytes(content)


def test_hold_never_overwrites(directory: Directory) -> None:
    held = []
    for number in range(3):
        put(directory, "a.eml", b"%d" % number)
        held.append(directory.hold("a.eml"))
    assert held == ["a.eml.err", "a.eml.1.err", "a.eml.2.err"]
    assert [Path(directory.path, name).read_bytes() for name in held] == [b"0", b"1", b"2"]
    assert around(directory) == sorted(held)


def test_hold_what_is_not_there(directory: Directory) -> None:
    with pytest.raises(FileNotFoundError):
        directory.hold("a.eml")


@pytest.mark.parametrize("end", [".eml", ".S=999999999999999999.eml"])
@pytest.mark.parametrize("letter", ["x", "\u00fc", "\udcff"], ids=["ASCII", "UTF-8", "neither"])
@pytest.mark.parametrize("length", [251, 252, 255])
def test_hold_shortens_a_name_that_gets_too_long(
    directory: Directory, length: int, letter: str, end: str
) -> None:
    """Each has a name of its own, and begins and ends as before."""
    room = length - len("1700000000." + end)
    each = len(os.fsencode(letter))
    name = "1700000000." + "x" * (room % each) + room // each * letter + end
    held = []
    for number in range(12):
        put(directory, name, b"%d" % number)
        held.append(directory.hold(name))
    assert around(directory) == sorted(held)
    assert [Path(directory.path, name).read_bytes() for name in held] == [b"%d" % n for n in range(12)]
    assert len(os.fsencode(name)) == length
    assert {len(os.fsencode(name)) for name in held[1:]} == {255}
    assert (held[0] == name + ".err") == (length == 251)
    assert all(name.startswith("1700000000.") for name in held)
    assert held[0].endswith(end + ".err") and held[11].endswith(end + ".11.err")


def test_move_shortens_a_name_that_gets_too_long(inbox: Path, directory: Directory) -> None:
    other = Directory(str(inbox.parent / "other"))
    os.mkdir(other.path)
    other.open_to_empty()
    name = "x" * 251 + ".eml"
    for content in (b"0", b"1"):
        put(directory, name, content)
        directory.move([name], other)
    other.close()
    assert Path(other.path, name).read_bytes() == b"0"
    assert Path(other.path, "x" * 249 + ".eml.1").read_bytes() == b"1"


def test_hold_gives_up_after_a_thousand_names(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(directory, "a.eml")
    monkeypatch.setattr(os, "stat", lambda *_, **__: None)
    with pytest.raises(FileExistsError, match=r"a\.eml\.err exists a thousand times"):
        directory.hold("a.eml")
    monkeypatch.undo()
    assert around(directory) == ["a.eml"]


def test_remove_syncs_once_after_the_last(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: left.append(os.listdir(fd)))
    for name in ("a", "b"):
        put(directory, name)
    directory.remove(["a", "gone", "b"])
    assert left == [[]]


def test_move_never_overwrites_and_syncs_both(
    inbox: Path, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Directory(str(inbox.parent / "other"))
    os.mkdir(other.path)
    other.open_to_empty()
    directory.check_move(other)
    assert (os.listdir(directory.path), os.listdir(other.path)) == ([], [])
    for content in (b"0", b"1"):
        put(directory, "a", content)
        put(directory, "b", content)
        synced: list[list[str]] = []
        with monkeypatch.context() as watched:
            watched.setattr(os, "fsync", lambda fd, to=synced: to.append(sorted(os.listdir(fd))))
            directory.move(["a", "gone", "b"], other)
        there = ["a", "b"] if content == b"0" else ["a", "a.1", "b", "b.1"]
        assert synced == [there, []], "the new place is durable before the old one is gone"
    assert [Path(other.path, name).read_bytes() for name in ("a", "a.1")] == [b"0", b"1"]
    other.close()


def test_move_to_where_nothing_can_be_moved(directory: Directory) -> None:
    with pytest.raises(DirectoryUnusable, match=r"is .* itself"):
        directory.check_move(directory)
    other = Directory(str(OTHER_DEVICE))
    if OTHER_DEVICE.stat().st_dev == directory.place.device:
        pytest.skip(f"{OTHER_DEVICE} is no other file system")
    other.open_to_empty()
    with pytest.raises(DirectoryUnusable, match=r"/dev/shm, seen from .*: Invalid cross-device link"):
        directory.check_move(other)
    other.close()
    assert around(directory) == []


# Opened to be emptied


def test_opening_to_empty_leaves_nothing_behind(inbox: Path) -> None:
    open_before = descriptors()
    directory = Directory(str(inbox))
    staging = inbox.parent / ".inbox.0123.staging"
    staging.mkdir()
    directory.open_to_empty()
    put(directory, "a")
    assert directory.hold("a") == "a.err"
    directory.remove(["a.err"])
    directory.verify()
    directory.close()
    assert [path.name for path in inbox.parent.iterdir() if path != staging] == ["inbox"]
    assert staging.is_dir(), "the staging directories of others are their own affair"
    assert descriptors() <= open_before


@pytest.mark.parametrize("name", ["mkdir", "rmdir", "fsync"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO])
def test_a_directory_that_cannot_be_emptied_is_told(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    open_before = descriptors()
    failing(monkeypatch, name, code)
    with pytest.raises(DirectoryUnusable, match=os.strerror(code)):
        Directory(str(inbox)).open_to_empty()
    looking = Directory(str(inbox))
    looking.open_to_empty(changing=False)
    looking.close()
    assert descriptors() <= open_before


def test_a_full_disk_can_be_emptied(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "mkdir", errno.ENOSPC)
    directory = Directory(str(inbox))
    directory.open_to_empty()
    put(directory, "a")
    directory.remove(["a"])
    directory.close()
    assert around(directory) == []


def test_remove_tells_of_a_failed_sync(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    put(directory, "a")
    failing(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        directory.remove(["a"])
