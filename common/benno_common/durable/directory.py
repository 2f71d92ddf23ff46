"""The directory that holds the files: its checks at the start, its sync, its identity, its reserve."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator

from benno_common.durable.draft import FILE_MODE, Draft, Place
from benno_common.durable.staging import Staging, sweep

HELD = ".err"

_PROBE = ".probe"
_FULL = {errno.ENOSPC, errno.EDQUOT}


class DirectoryUnusable(OSError):
    """The directory cannot take mail; the message says why and what to do."""


class Directory:
    """The directory at `path`, an absolute path. `open()` comes first; it raises DirectoryUnusable."""

    def __init__(self, path: str, *, allow_unnamed: bool = True) -> None:
        self.path = os.path.abspath(path)
        self._allow_unnamed = allow_unnamed
        self._place: Place | None = None

    @property
    def place(self) -> Place:
        if self._place is None:
            raise DirectoryUnusable(errno.EBADF, f"{self.path} is not open")
        return self._place

    def open(self) -> None:
        """Open the directory, or open it again, and try everything that a mail will need.

        It must be on the device where it was first opened: a file system that is not mounted leaves
        an empty directory of the same name.
        """
        with _explained(self.path):
            place = Place(self.path)
        try:
            self._check(place)
        except BaseException:
            place.close()
            raise
        self._place = place

    def close(self) -> None:
        self._place = None

    def draft(self) -> Draft:
        return Draft(self.place)

    def sync(self) -> None:
        os.fsync(self.place.fd)

    def verify(self) -> None:
        """Raises DirectoryUnusable if the path no longer leads here, or nothing can be staged."""
        with _explained(self.path):
            status = os.stat(self.path)
        if (status.st_dev, status.st_ino) != (self.place.device, self.place.inode):
            raise DirectoryUnusable(errno.ESTALE, f"another directory lies at {self.path} now")
        if self.place.staging is not None:
            with _explained(self.place.staging.path):
                os.stat(self.place.staging.path)

    def shortage(self, min_free: int) -> str | None:
        """What is lacking where less than min_free octets, or 1,000 inodes, are free; 0: no reserve."""
        if not min_free:
            return None
        status = os.fstatvfs(self.place.fd)
        free = status.f_bavail * status.f_frsize
        if free < min_free:
            return f"{free} octets free, {min_free} are kept in reserve"
        if status.f_files and status.f_favail < 1000:
            return f"{status.f_favail} inodes free, 1000 are kept in reserve"
        return None

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self.place.fd)

    def hold(self, name: str) -> str:
        """Rename a file to NAME.err (NAME.1.err …), never over another; returns the new name.

        The caller syncs the directory.
        """
        fd = self.place.fd
        for number in range(1000):
            held = f"{name}.{number}{HELD}" if number else name + HELD
            with contextlib.suppress(FileExistsError):
                os.link(name, held, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
                os.unlink(name, dir_fd=fd)
                return held
        raise FileExistsError(errno.EEXIST, f"{name}{HELD} exists a thousand times")

    def remove(self, names: Iterable[str]) -> None:
        """Unlink files for good: when this returns they do not come back after a power cut."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self.unlink(name)
        self.sync()

    def _check(self, place: Place) -> None:
        if self._place is not None and self._place.device != place.device:
            reason = f"{self.path} is on another file system than before: mount it again, or restart"
            raise DirectoryUnusable(errno.ESTALE, reason)
        sweep(self.path)
        self._choose_way(place)
        with _explained(self.path), _full_disk_passed(place):
            _check_files(self.path, place)
            _check_sync(place)

    def _choose_way(self, place: Place) -> None:
        with _explained(self.path):
            unnamed = self._allow_unnamed and _has_unnamed_files(place)
        if unnamed:
            return
        parent = os.path.dirname(self.path)
        if os.stat(parent).st_dev != place.device:
            reason = (
                f"{self.path} lacks O_TMPFILE (or /proc), and {parent} is another file system: "
                "use a directory below the mount point"
            )
            raise DirectoryUnusable(errno.EOPNOTSUPP, reason)
        try:
            place.staging = Staging(self.path)
        except OSError as error:
            reason = (
                f"{self.path} lacks O_TMPFILE, and a staging directory in {parent}: {error.strerror}"
            )
            raise DirectoryUnusable(error.errno, reason) from error


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turns an OSError into DirectoryUnusable that names the path."""
    try:
        yield
    except DirectoryUnusable:
        raise
    except OSError as error:
        raise DirectoryUnusable(error.errno, f"{path}: {error.strerror}") from error


@contextlib.contextmanager
def _full_disk_passed(place: Place) -> Iterator[None]:
    """Lets a full disk pass: no fault of the directory, and each mail finds out when it is over."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        place.chmod = True  # perhaps no file could be made to see whether that is needed


def _check_files(path: str, place: Place) -> None:
    """Write a file as mails are written, and see that the archiver could read and delete it."""
    draft = Draft(place)
    try:
        status = os.fstat(draft.fd)
        place.chmod = stat.S_IMODE(status.st_mode) != FILE_MODE
        draft.write(b"X")
        draft.sync()
    finally:
        draft.close()
    directory = os.fstat(place.fd)
    if directory.st_mode & 0o070 == 0o070:
        if status.st_gid != directory.st_gid:
            reason = (
                f"files in {path} would get group {status.st_gid}, the directory has "
                f"{directory.st_gid}: the archiver could not read them; chmod g+s {path}"
            )
            raise DirectoryUnusable(errno.EPERM, reason)
    elif status.st_uid != directory.st_uid:
        reason = (
            f"the archiver could not delete files in {path}: it is not ours, "
            f"and its group may not write there; chmod 2770 {path}"
        )
        raise DirectoryUnusable(errno.EPERM, reason)


def _has_unnamed_files(place: Place) -> bool:
    """Whether O_TMPFILE works here and /proc can give such a file a name."""
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE, dir_fd=place.fd)
    except OSError as error:
        if error.errno in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
            return False
        if error.errno in _FULL:
            return True
        raise
    try:
        # "." exists, so nothing is made; but a missing /proc is noticed before that.
        os.link(f"/proc/self/fd/{fd}", ".", dst_dir_fd=place.fd, follow_symlinks=True)
    except FileExistsError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def _check_sync(place: Place) -> None:
    """Change the directory and sync the change. No watcher can take an empty subdirectory for mail."""
    with contextlib.suppress(FileExistsError):  # of a killed process, or of one that starts just now
        os.mkdir(_PROBE, 0o700, dir_fd=place.fd)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(_PROBE, dir_fd=place.fd)
    os.fsync(place.fd)
