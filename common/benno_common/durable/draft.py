"""One file from its first octet to its name."""

from __future__ import annotations

import contextlib
import os
import secrets

from benno_common.durable.staging import Staging

FILE_MODE = 0o640


class Place:
    """An opened directory. It stays open for as long as a draft made in it is in use."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        status = os.fstat(self.fd)
        self.device, self.inode = status.st_dev, status.st_ino
        self.chmod = False  # the umask, or a default ACL, takes bits off FILE_MODE
        self.staging: Staging | None = None  # where files are made if not with O_TMPFILE

    def close(self) -> None:
        """Called when the last draft has gone, or at once where there is none."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
            if self.staging is not None:
                self.staging.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            self.close()


class Draft:
    """A file without a name in the directory. Owned by one thread at a time."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.size = 0
        self._staged: str | None = None
        if place.staging is None:
            self.fd = os.open(
                ".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE, dir_fd=place.fd
            )
        else:
            self._staged = os.path.join(place.staging.path, secrets.token_hex(8))
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            self.fd = os.open(self._staged, flags, FILE_MODE)
        if place.chmod:
            self._set_mode()

    def _set_mode(self) -> None:
        try:
            os.fchmod(self.fd, FILE_MODE)
        except OSError:
            self.close()
            raise

    def write(self, data: bytes) -> None:
        """Append all of data, also where the kernel takes less at once. Raises OSError."""
        self.size += len(data)
        written = os.write(self.fd, data)
        while written < len(data):
            written += os.write(self.fd, memoryview(data)[written:])

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
        del self.place  # the frames of an error may hold this draft, but not the directory
        if self._staged is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._staged)
        with contextlib.suppress(OSError):
            os.close(fd)
