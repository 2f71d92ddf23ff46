"""A directory beside the mail directory, for files in progress where unnamed files are not to be had.

It is called `.BASE.HEX.staging`, belongs to one process, and its `lock` file stays locked while that
process lives. What a killed process left, no mail that anybody was promised, is swept at the next
start of any.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time

# A directory without its lock file is being made by another process, unless it is this old.
_GRACE_SECONDS = 60.0


class Staging:
    """The staging directory of this process for the mail directory at `path`. Raises OSError."""

    def __init__(self, path: str) -> None:
        parent, base = os.path.split(path)
        self.path = os.path.join(parent, f".{base}.{secrets.token_hex(8)}.staging")
        os.mkdir(self.path, 0o700)
        lock = os.path.join(self.path, "lock")
        self._lock = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        os.close(self._lock)
        _remove(self.path)


def sweep(path: str) -> list[str]:
    """Remove what killed processes left beside the mail directory at `path`; returns what it was."""
    parent, base = os.path.split(os.path.abspath(path))
    swept = []
    with contextlib.suppress(OSError):
        for name in os.listdir(parent):
            if name.startswith(f".{base}.") and name.endswith(".staging"):
                staging = os.path.join(parent, name)
                if _is_abandoned(staging):
                    _remove(staging)
                    swept.append(staging)
    return swept


def _is_abandoned(staging: str) -> bool:
    try:
        lock = os.open(os.path.join(staging, "lock"), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return time.time() - os.stat(staging).st_mtime > _GRACE_SECONDS
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _remove(staging: str) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(staging):
            os.unlink(os.path.join(staging, name))
        os.rmdir(staging)
