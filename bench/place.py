"""The directories in which is measured, and how one run is kept from paying for the one before.

On ext4 a new file does not get an inode that was freed in the last minute, or in the last six while
the inode table is dirty (`recently_deleted` in fs/ext4/ialloc.c, RECENTCY_MIN and RECENTCY_DIRTY). Each
new file passes over all of those in its directory's group: after 6,000 deletions open(2) took 1.3 ms
instead of 16 µs, for every contender, which hid the differences between them. So:

* files are not removed between two runs but put away, until the end of all, large ones without what is
  in them;
* the directory for all lies in a group of its own, of random choice, where no earlier bench/run removed
  anything, and others probably did not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# linux/fs.h. EXT4_TOPDIR_FL: directories below this one are spread over the groups, by their names.
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS, _TOPDIR = 0x80086601, 0x40086602, 0x00020000
_SMALL = 4 * 4096  # octets; what is in larger files is removed
_MEMORY = Path("/dev/shm")


@contextmanager
def made(below: Path) -> Iterator[Path]:
    """A new directory, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench.", dir=below) as root:
        _spread(Path(root))
        directory = Path(root) / secrets.token_hex(8)
        directory.mkdir()
        yield directory


def clear(directory: Path) -> None:
    """Make it new and empty, and let the disk come to rest: no run pays for the one before."""
    if directory.exists():
        put_away(directory.iterdir())
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    rest(directory)


def put_away(files: Iterable[Path]) -> None:
    """Remove files from their directories, which stay: a daemon knows them."""
    kept = {}
    for file in files:
        status = file.lstat()
        if status.st_dev == _MEMORY.stat().st_dev:
            file.unlink()
            continue
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size > _SMALL:
            os.truncate(file, 0)
        if file.parent not in kept:
            kept[file.parent] = tempfile.mkdtemp(prefix="away.", dir=file.parent.parent)
        file.rename(Path(kept[file.parent]) / file.name)


def rest(directory: Path) -> None:
    """Let the disk come to rest: what was written before is on it."""
    subprocess.run(["sync", "-f", str(directory)], check=True)


def _spread(directory: Path) -> None:
    """Other file systems than ext4 do not know this, or need it."""
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            flags = struct.unpack("i", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, struct.pack("i", 0)))[0]
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("i", flags | _TOPDIR))
        finally:
            os.close(fd)
