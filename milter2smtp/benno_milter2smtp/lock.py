"""One run at a time: a lock on the spool directory, held by the living process only.

It is a flock(2) on the directory itself, so that it needs no file and dies with its process. Network
file systems refuse that for a directory; there a hidden file in it is locked, and stays.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

LOCK_FILE = ".benno-milter2smtp.lock"

# NFS makes a flock a range lock, for which the file must be open for writing; others know none at all.
_NO_LOCK = {
    errno.EBADF,
    errno.EINVAL,
    errno.EISDIR,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
}


@contextlib.contextmanager
def locked(directory: int) -> Iterator[bool]:
    """Whether we have the lock of an open directory; let go of it at the end. Raises OSError."""
    try:
        taken = _take(directory)
    except OSError as error:
        if error.errno not in _NO_LOCK:
            raise
    else:
        try:
            yield taken
        finally:
            if taken:
                fcntl.flock(directory, fcntl.LOCK_UN)
        return
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(LOCK_FILE, flags, 0o640, dir_fd=directory)
    try:
        yield _take(file)
    finally:
        os.close(file)


def _take(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
