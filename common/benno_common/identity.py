"""Which directory is it? The forwarder must notice that it would send a spool into itself.

The receiver writes a random word into a hidden file of its import directory and names file and word in
the EHLO reply; the forwarder looks whether its spool has that file with that word. This sees through
containers, bind mounts and network file systems, and two machines are never taken for one, be they
copies of each other; it says nothing about the directory to anybody else.

Each of several processes that serve one socket has a file of its own, with its process id.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets

KEYWORD = "XBENNODIR"  # of the EHLO reply

_PREFIX = ".benno-smtp."
_MAX_PROCESSES = 1000
_IDENTITY = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{16})")


class Mark:
    """That of one receiver. instance: what stays the same from start to start, so that it has one file.

    identity: what the receiver says, FILE.WORD in hexadecimal digits; settled by put().
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._word = secrets.token_hex(8)
        self._marked: tuple[int, int] | None = None  # device and inode of the directory
        self.identity = f"{_file_of(instance, 0)}.{self._word}"

    def put(self, directory: int) -> None:
        """See that it lies in this open directory. Nothing stays open there. Raises OSError."""
        status = os.fstat(directory)
        if self._marked == (status.st_dev, status.st_ino):
            return
        self.identity = f"{self._write(directory)}.{self._word}"
        self._marked = status.st_dev, status.st_ino

    def _write(self, directory: int) -> str:
        """Into the first file that no other process has; returns its digits. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        for number in range(_MAX_PROCESSES):
            file = _file_of(self._instance, number)
            fd = os.open(_PREFIX + file, flags, 0o640, dir_fd=directory)
            try:
                with contextlib.suppress(OSError):  # there are file systems without locks
                    fcntl.flock(fd, fcntl.LOCK_EX)  # another one may start at the same time
                if _is_free(os.read(fd, 100)):
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, f"{self._word} {os.getpid()}".encode(), 0)
                    return file
            finally:
                os.close(fd)
        raise OSError(errno.EUSERS, f"{_MAX_PROCESSES} processes serve {self._instance}")


def _file_of(instance: str, number: int) -> str:
    """number: of a process. 0 is the only one where there is one."""
    name = f"{instance} {number}" if number else instance
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]


def _is_free(mark: bytes) -> bool:
    """Whether whoever wrote it has ended; or was a process of this number before us."""
    pid = mark.partition(b" ")[2]
    if not pid.isdigit() or int(pid) == os.getpid():
        return True
    try:
        os.kill(int(pid), 0)
    except (OSError, OverflowError):  # there is none, or it is another user's
        return True
    return False


def is_marked(directory: int, identity: str) -> bool:
    """Whether the receiver that said this writes into this open directory. Raises OSError."""
    match = _IDENTITY.fullmatch(identity)
    if not match:
        return False
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(_PREFIX + match[1], flags, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        return os.read(fd, 100).partition(b" ")[0] == match[2].encode()
    finally:
        os.close(fd)
