"""Unusual surroundings for a program: each is a command that starts another one in them.

Those that need a mount namespace have one of their own, which ends with the program.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import powercut

Wrapper = tuple[str, ...]

ALONE = ("unshare", "--mount", "--propagation", "private")


def _mounting(script: str, *arguments: str) -> Wrapper:
    """The program in a mount namespace where the script was run before, with the arguments."""
    shift = f"shift {len(arguments)}; " if arguments else ""
    return (*ALONE, "sh", "-ec", f'{script}; {shift}exec "$@"', "sh", *arguments)


def read_only_root(writable: Path) -> Wrapper:
    """Nothing can be written but below this directory, which exists."""
    script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro /; ! touch /.probe 2>/dev/null'
    return _mounting(script, str(writable))


def without_proc() -> Wrapper:
    return _mounting("mount -t tmpfs none /proc")


def with_umask(mask: int) -> Wrapper:
    return "sh", "-c", f'umask {mask:o}; exec "$@"', "sh"


def with_descriptors(count: int) -> Wrapper:
    """So many at the most, and no more can be had."""
    return "prlimit", f"--nofile={count}:{count}"


def with_locale(name: str) -> Wrapper:
    """As the C library takes it: Python is kept from choosing UTF-8 where it could."""
    return "env", f"LC_ALL={name}", "PYTHONCOERCECLOCALE=0", "PYTHONUTF8=0"


def without_environment() -> Wrapper:
    """But for where Python finds its packages, if it is told."""
    kept = [f"{name}={os.environ[name]}" for name in ("PYTHONPATH",) if name in os.environ]
    return ("env", "-i", *kept)


@contextlib.contextmanager
def without_unnamed_files(directory: Path) -> Iterator[Path]:
    """A file system that has no O_TMPFILE, as NFS has none, mounted there: its root.

    It is bindfs, which shows another directory, and knows of files that have a name only.
    """
    powercut.need("bindfs", "umount")
    powercut.isolate()
    hidden, shown = directory / "hidden", directory / "shown"
    hidden.mkdir()
    shown.mkdir()
    done = subprocess.run(["bindfs", hidden, shown], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    try:
        yield shown
    finally:
        subprocess.run(["umount", "-l", shown], check=True)
