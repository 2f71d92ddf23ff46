"""Which directory is it? The forwarder must notice that it would send a spool into itself.

The receiver writes a random word into a hidden file of its import directory and names file and word in
the EHLO reply; the forwarder looks whether its spool has that file with that word. This sees through
containers, bind mounts and network file systems, and two machines are never taken for one, be they
copies of each other; it says nothing about the directory to anybody else.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets

KEYWORD = "XBENNODIR"  # of the EHLO reply

_PREFIX = ".benno-smtp."
_IDENTITY = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{16})")


class Mark:
    """That of one receiver. instance: what stays the same from start to start, so that it has one file.

    identity: what the receiver says, FILE.WORD in hexadecimal digits.
    """

    def __init__(self, instance: str) -> None:
        self._file = hashlib.sha256(instance.encode(errors="surrogateescape")).hexdigest()[:16]
        self._word = secrets.token_hex(8)
        self._marked: tuple[int, int] | None = None  # device and inode of the directory
        self.identity = f"{self._file}.{self._word}"

    def put(self, directory: int) -> None:
        """See that it lies in this open directory. Raises OSError."""
        status = os.fstat(directory)
        if self._marked == (status.st_dev, status.st_ino):
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(_PREFIX + self._file, flags, 0o640, dir_fd=directory)
        try:
            os.write(fd, self._word.encode())
        finally:
            os.close(fd)
        self._marked = status.st_dev, status.st_ino


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
