"""Which directory is it? The forwarder must notice that it would send a spool into itself.

The receiver writes a random word into a hidden file of its import directory and names file and word in
the EHLO reply; the forwarder looks whether its spool has that file with that word. This sees through
containers, bind mounts and network file systems, and two machines are never taken for one, be they
copies of each other; it says nothing about the directory to anybody else.

Each of several processes that serve one socket has a file of its own, which it keeps locked.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import re
import secrets

KEYWORD = "XBENNODIR"  # of the EHLO reply

_PREFIX = ".benno-smtp."
_IDENTITY = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{16})")


class Mark:
    """That of one receiver. instance: what stays the same from start to start, so that it has one file.

    identity: what the receiver says, FILE.WORD in hexadecimal digits; settled by put().
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._word = secrets.token_hex(8)
        self._marked: tuple[int, int] | None = None  # device and inode of the directory
        self._fd: int | None = None  # its lock holds as long as we live
        self.identity = f"{_file_of(instance, 0)}.{self._word}"

    def put(self, directory: int) -> None:
        """See that it lies in this open directory. Raises OSError."""
        status = os.fstat(directory)
        if self._marked == (status.st_dev, status.st_ino):
            return
        file, fd = self._own_file(directory)
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
        os.ftruncate(fd, 0)
        os.write(fd, self._word.encode())
        self.identity = f"{file}.{self._word}"
        self._marked = status.st_dev, status.st_ino

    def _own_file(self, directory: int) -> tuple[str, int]:
        """The first that no other process has: its digits, and its descriptor. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        for number in itertools.count():
            file = _file_of(self._instance, number)
            fd = os.open(_PREFIX + file, flags, 0o640, dir_fd=directory)
            if _is_free(fd):
                return file, fd
            os.close(fd)
        raise AssertionError("the numbers ended")


def _file_of(instance: str, number: int) -> str:
    """number: of a process. 0 is the only one where there is one."""
    name = f"{instance} {number}" if number else instance
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]


def _is_free(fd: int) -> bool:
    """Whether we have its lock now; also where the file system has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in {errno.EWOULDBLOCK, errno.EACCES}
    return True


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
        return os.read(fd, 100) == match[2].encode()
    finally:
        os.close(fd)
