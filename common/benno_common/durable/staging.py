"""A directory beside the mail directory, for files in progress where unnamed files are not to be had.

It is called `.BASE.HEX.staging`, belongs to one process, and its `lock` file stays locked while that
process lives. What a killed process left, no mail that anybody was promised, is swept at the next
start of any. Only what has exactly such a name and owner is swept, and no link is followed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator

# A directory without its lock file is being made by another process, unless it is this old.
_GRACE_SECONDS = 60.0
_FILE = re.compile(r"[0-9a-f]{16}\Z")


class Staging:
    """The staging directory of this process for the mail directory at `path`. Raises OSError.

    It does not hand on a group: a hardened service may not set S_ISGID (systemd's RestrictSUIDSGID).
    """

    def __init__(self, path: str) -> None:
        parent, base = os.path.split(path)
        self.path = os.path.join(parent, f".{base}.{secrets.token_hex(8)}.staging")
        os.mkdir(self.path, 0o700)
        lock = os.path.join(self.path, "lock")
        self._lock = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise

    def close(self) -> None:
        os.close(self._lock)
        with contextlib.suppress(OSError), _opened(self.path) as fd:
            _remove(self.path, fd)


def sweep(path: str) -> list[str]:
    """Remove what killed processes left beside the mail directory at `path`; returns what it was."""
    parent, base = os.path.split(os.path.abspath(path))
    ours = re.compile(re.escape(f".{base}.") + r"[0-9a-f]{16}\.staging\Z")
    swept = []
    with contextlib.suppress(OSError):
        for name in filter(ours.match, os.listdir(parent)):
            staging = os.path.join(parent, name)
            with contextlib.suppress(OSError), _opened(staging) as fd:
                if _is_abandoned(fd):
                    _remove(staging, fd)
                    swept.append(staging)
    return swept


@contextlib.contextmanager
def _opened(staging: str) -> Iterator[int]:
    fd = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_abandoned(fd: int) -> bool:
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        return False
    try:
        lock = os.open("lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except FileNotFoundError:
        return time.time() - status.st_mtime > _GRACE_SECONDS
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _remove(staging: str, fd: int) -> None:
    """Remove the files that are ours, and the directory if nothing else lies there. Raises OSError."""
    for name in os.listdir(fd):
        if name == "lock" or _FILE.match(name):
            os.unlink(name, dir_fd=fd)
    os.rmdir(staging)
