"""Where the Python peers write: each mail a file, durable when `store()` returns; the simplest way."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable


class Spool:
    """The directory at `path`. Several threads may store at once."""

    def __init__(self, path: str) -> None:
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._numbers = itertools.count()

    def store(self, parts: Iterable[bytes]) -> None:
        """A temporary name, one write, sync, the final name, sync of the directory. Raises OSError."""
        content = memoryview(b"".join(parts))
        name = f"{time.time():.6f}.{os.getpid()}.{next(self._numbers)}.S={len(content)}.eml"
        temporary = f".{name}"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o640, dir_fd=self._directory)
        try:
            while content:
                content = content[os.write(fd, content) :]
            os.fdatasync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        os.fsync(self._directory)
