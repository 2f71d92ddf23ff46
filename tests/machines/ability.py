"""What it takes to boot machines here, tried before anything is built.

What the kernel does not have is told from what we may not use: nobody can do anything about the one,
and whoever started us can about the other.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from machines import cgroup

_NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--mount-proc")

# Each in namespaces of its own, in an empty directory.
_TRIALS = {
    "namespaces": "true",
    "network bridges": "ip link add name lan type bridge",
    "veth network devices": "ip link add name one type veth peer name two",
    "ext4 on loop devices": (
        "mount -t tmpfs trial . && cd . && truncate -s 4M disk && mkfs.ext4 -q disk && mkdir on "
        "&& mount -o loop disk on && umount on"
    ),
}

# What is said where the kernel was built without. All else is a failure: forbidden, or no space left.
_LACKING = re.compile(
    r"unknown (device|filesystem) type|not supported|not implemented|invalid argument|no such device",
    re.IGNORECASE,
)


class Impossible(Exception):
    """Machines cannot be booted here. lacking: because the kernel has not what it takes."""

    def __init__(self, reason: str, *, lacking: bool) -> None:
        super().__init__(reason)
        self.lacking = lacking


def check(directory: Path) -> None:
    """directory: an empty one, for mounts. Raises Impossible."""
    for feature, trial in _TRIALS.items():
        done = subprocess.run(
            [*_NAMESPACES, "sh", "-ec", trial],
            cwd=directory,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = " ".join(done.stderr.split())
            raise Impossible(f"{feature} ({said})", lacking=bool(_LACKING.search(said)))
    _check_control_groups()


def _check_control_groups() -> None:
    what = "control groups of version 2"
    known = "cgroup2" in Path("/proc/filesystems").read_text().split()
    try:
        group = cgroup.Group(f"{os.getpid()}.trial")
    except AssertionError as error:
        raise Impossible(f"{what} ({error})", lacking=not known) from error
    except OSError as error:
        raise Impossible(f"{what} ({error})", lacking=False) from error
    can_kill = Path(group.path, "cgroup.kill").exists()
    group.remove()
    if not can_kill:
        raise Impossible(f"{what} that can be killed (Linux 5.14)", lacking=True)
