"""The directory that holds the files: its checks at the start, its sync, its identity, its reserve."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator

from benno_common.durable.draft import Draft, Place
from benno_common.durable.staging import Staging, sweep
from benno_common.durable.trial import (
    FULL,
    DirectoryUnusable,
    check_files,
    check_move,
    check_sync,
    has_unnamed_files,
)
from benno_common.filename import shortened

HELD = ".err"


class Directory:
    """The directory at `path`, an absolute path. `open()` comes first; it raises DirectoryUnusable."""

    def __init__(self, path: str, *, allow_unnamed: bool = True) -> None:
        self.path = os.path.abspath(path)
        self._allow_unnamed = allow_unnamed
        self._place: Place | None = None
        self._identity: tuple[int, int] | None = None  # device and inode, as it was last opened

    @property
    def place(self) -> Place:
        if self._place is None:
            raise DirectoryUnusable(errno.EBADF, f"{self.path} is not open")
        return self._place

    def open(self) -> None:
        """Open the directory, or open it again, and try everything that a mail will need.

        It must be on the device where it was first opened, and the same directory, unless that one was
        removed: a file system that is not mounted leaves another directory of the same name.
        """
        with _explained(self.path):
            place = Place(self.path)
        try:
            self._check(place)
        except BaseException:
            place.leave()
            raise
        self.close()
        self._place, self._identity = place, (place.device, place.inode)

    def open_to_empty(self, *, changing: bool = True) -> None:
        """Open the directory for one who only takes files out, or moves them in from another.

        What a mail needs to be written is not tried: where no more can be, mail can still leave.
        changing: see whether entries can be removed and synced; else nothing is changed.
        """
        with _explained(self.path):
            place = Place(self.path)
        try:
            if changing:
                with _explained(self.path), _full_disk_passed(place):
                    check_sync(self.path, place)
        except BaseException:
            place.leave()
            raise
        self.close()
        self._place, self._identity = place, (place.device, place.inode)

    def close(self) -> None:
        """Let go of the directory; the last draft in it closes it."""
        if self._place is not None:
            place, self._place = self._place, None
            place.leave()

    def let_go(self) -> None:
        """Close it after a failure, until it is opened anew: its file system may have to be unmounted.

        Where another directory lies at its path, or none, it stays open: else it could not be seen
        whether this one was removed.
        """
        try:
            self.verify()
        except DirectoryUnusable as error:
            if error.errno in {errno.ENOENT, errno.ESTALE}:
                return
        self.close()

    def draft(self) -> Draft:
        return Draft(self.place)

    def sync(self) -> None:
        os.fsync(self.place.fd)

    def check(self) -> None:
        """Try everything that a mail needs; a full disk passes. Raises DirectoryUnusable."""
        self._try(self.place)

    def verify(self) -> None:
        """Raises DirectoryUnusable if the path no longer leads here, or nothing can be staged."""
        with _explained(self.path):
            status = os.stat(self.path)
        if (status.st_dev, status.st_ino) != (self.place.device, self.place.inode):
            raise DirectoryUnusable(errno.ESTALE, f"another directory lies at {self.path} now")
        if self.place.staging is not None:
            with _explained(self.place.staging.path):
                os.stat(self.place.staging.path)

    def reserve(self, min_free: int) -> tuple[str | None, int]:
        """What is lacking where less than min_free octets, or 1,000 inodes, are free (0: no reserve);
        and the octets that are free above it.
        """
        status = os.fstatvfs(self.place.fd)
        free = status.f_bavail * status.f_frsize
        inodes = min(1000, status.f_files // 20)
        lacking = None
        if min_free and free < min_free:
            lacking = f"{free} octets free, {min_free} are kept in reserve"
        elif min_free and status.f_favail < inodes:
            lacking = f"{status.f_favail} inodes free, {inodes} are kept in reserve"
        return lacking, max(0, free - min_free)

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self.place.fd)

    def hold(self, name: str) -> str:
        """Rename a file to NAME.err (NAME.1.err …), never over another; returns the new name.

        The caller syncs the directory, and is the only one who holds files in it.
        """
        fd = self.place.fd
        held = _free_name(name, HELD, fd)
        # Not link(2): it may be refused for links, FIFOs and files of others.
        os.rename(name, held, src_dir_fd=fd, dst_dir_fd=fd)
        return held

    def remove(self, names: Iterable[str]) -> None:
        """Unlink files for good: when this returns they do not come back after a power cut."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self.unlink(name)
        self.sync()

    def check_move(self, other: Directory) -> None:
        """See whether move() will work. Raises DirectoryUnusable."""
        source, target = self.place, other.place
        if (source.device, source.inode) == (target.device, target.inode):
            raise DirectoryUnusable(errno.EINVAL, f"{other.path} is {self.path} itself")
        with _explained(f"{other.path}, seen from {self.path}"), _full_disk_passed(source):
            check_move(source, target)

    def move(self, names: Iterable[str], other: Directory) -> None:
        """Move files into another directory of the same file system, for good, never over another.

        A name that is taken there gets a number. The caller is the only one who moves files there.
        """
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                target = _free_name(name, "", other.place.fd)
                os.rename(name, target, src_dir_fd=self.place.fd, dst_dir_fd=other.place.fd)
        other.sync()
        self.sync()

    def _check(self, place: Place) -> None:
        self._expect_same(place)
        sweep(self.path)
        self._choose_way(place)
        self._try(place)

    def _expect_same(self, place: Place) -> None:
        if self._identity in {None, (place.device, place.inode)}:
            return
        removed = self._place is not None and os.fstat(self._place.fd).st_nlink == 0
        if self._identity and self._identity[0] != place.device:
            reason = f"{self.path} is on another file system than before: mount it again, or restart"
            raise DirectoryUnusable(errno.ESTALE, reason)
        if not removed:
            reason = (
                f"another directory lies at {self.path}: mount or move the right one back, or restart"
            )
            raise DirectoryUnusable(errno.ESTALE, reason)

    def _try(self, place: Place) -> None:
        with _explained(self.path), _full_disk_passed(place):
            check_files(self.path, place)
            check_sync(self.path, place)

    def _choose_way(self, place: Place) -> None:
        with _explained(self.path):
            unnamed = self._allow_unnamed and has_unnamed_files(place)
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


def _free_name(name: str, suffix: str, fd: int) -> str:
    """NAME, shortened to fit, and suffix, or with a number between them; not yet in the directory."""
    longest = os.fpathconf(fd, "PC_NAME_MAX")
    for number in range(1000):
        end = f".{number}{suffix}" if number else suffix
        free = shortened(name, longest - len(end)) + end
        try:
            os.stat(free, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return free
    raise FileExistsError(errno.EEXIST, f"{name}{suffix} exists a thousand times")


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
        if error.errno not in FULL:
            raise
        place.chmod = True  # perhaps no file could be made to see whether that is needed
