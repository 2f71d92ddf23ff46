"""One file from its first octet to its name."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import threading

from benno_common.durable.staging import Staging

FILE_MODE = 0o640


class Place:
    """An opened directory. Who made it and each draft in it use it, and the last to leave closes it.

    It is not left to the garbage collector: a file system with an open directory is not unmounted, and
    the frames of an error can hold a draft for long.
    """

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        status = os.fstat(self.fd)
        self.device, self.inode = status.st_dev, status.st_ino
        self.group = status.st_gid if status.st_mode & stat.S_ISGID else None  # that its files get
        self.chmod = False  # the umask, or a default ACL, takes bits off FILE_MODE
        self.staging: Staging | None = None  # where files are made if not with O_TMPFILE
        self._users = 1
        self._counting = threading.Lock()

    def enter(self) -> None:
        """One user more. Raises OSError where all have left: it was closed in another thread."""
        with self._counting:
            if not self._users:
                raise OSError(errno.EBADF, "the directory was closed")
            self._users += 1

    def leave(self) -> None:
        with self._counting:
            self._users -= 1
            if self._users:
                return
        fd, self.fd = self.fd, -1
        os.close(fd)
        if self.staging is not None:
            self.staging.close()


class Draft:
    """A file without a name in the directory. Owned by one thread at a time."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.size = 0
        self._staged: str | None = None
        place.enter()
        try:
            self.fd = self._open()
        except BaseException:
            place.leave()
            raise
        try:
            self._set_group_and_mode()
        except OSError:
            self.close()
            raise

    def _open(self) -> int:
        place = self.place
        if place.staging is None:
            flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
            return os.open(".", flags, FILE_MODE, dir_fd=place.fd)
        self._staged = os.path.join(place.staging.path, secrets.token_hex(8))
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        return os.open(self._staged, flags, FILE_MODE)

    def _set_group_and_mode(self) -> None:
        """What the directory itself would have given the file, and what was taken off its mode."""
        group = self.place.group
        if self._staged is not None and group is not None:
            try:
                os.fchown(self.fd, -1, group)
            except OSError as error:
                raise OSError(error.errno, f"no file gets group {group}: {error.strerror}") from error
        if self.place.chmod:
            os.fchmod(self.fd, FILE_MODE)

    def write(self, data: bytes) -> None:
        """Append all of data, also where the kernel takes less at once. Raises OSError."""
        self.size += len(data)
        written = os.write(self.fd, data)
        while written < len(data):
            written += os.write(self.fd, memoryview(data)[written:])

    def expect_room(self, min_free: int) -> None:
        """Raises OSError (ENOSPC) where the file has come into the reserve, of so many octets."""
        status = os.fstatvfs(self.fd)
        free = status.f_bavail * status.f_frsize
        if free < min_free:
            raise OSError(errno.ENOSPC, f"{free} octets free, {min_free} are kept in reserve")

    def start_writeback(self) -> None:
        """Ask the kernel to begin writing to the disk, without waiting for it."""
        with contextlib.suppress(OSError):
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        os.fdatasync(self.fd)

    def link(self, name: str) -> None:
        """Give the file its name. Raises FileExistsError, and then nothing has changed."""
        if self._staged is None:
            source = f"/proc/self/fd/{self.fd}"
            os.link(source, name, dst_dir_fd=self.place.fd, follow_symlinks=True)
        else:
            # An absolute source path ignores the descriptor, but without one Python calls link(2).
            os.link(self._staged, name, src_dir_fd=self.place.fd, dst_dir_fd=self.place.fd)

    def close(self) -> None:
        """Let go of the file: what was not linked is gone. Nothing that was synced can fail here."""
        if self.fd < 0:
            return
        fd, self.fd = self.fd, -1
        with contextlib.suppress(OSError):
            os.close(fd)
        if self._staged is not None:  # not before: NFS keeps what is open under another name
            with contextlib.suppress(OSError):
                os.unlink(self._staged)
        self.place.leave()
