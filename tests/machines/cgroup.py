"""The processes of a machine, in a control group: frozen and killed all at once, and none is missed."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from waiting import wait_for

_PREFIX = "benno-machine."


class Group:
    """path: below the group that we are in ourselves, in the unified hierarchy."""

    def __init__(self, name: str) -> None:
        self.path = _own() / f"{_PREFIX}{name}"
        self.path.mkdir()

    def procs(self) -> str:
        """The file that a process writes 0 to, to join."""
        return str(self.path / "cgroup.procs")

    def freeze(self) -> None:
        """From now on none of them does anything."""
        (self.path / "cgroup.freeze").write_text("1")
        wait_for(lambda: "frozen 1" in self._events(), f"{self.path} is frozen")

    def kill(self) -> None:
        (self.path / "cgroup.kill").write_text("1")
        (self.path / "cgroup.freeze").write_text("0")
        wait_for(lambda: "populated 0" in self._events(), f"{self.path} is empty")

    def remove(self) -> None:
        """Nobody may be in it."""
        _remove(self.path)

    def _events(self) -> str:
        return (self.path / "cgroup.events").read_text()


def sweep() -> None:
    """Remove what an earlier run left that was killed; its processes died with it."""
    for left in _own().glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # of another run, at work
            _remove(left)


def _own() -> Path:
    (own,) = re.findall(r"^0::(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    mounts = re.findall(r"^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 ", _mounts(), re.MULTILINE)
    assert mounts, "needs a mounted cgroup2 hierarchy"
    return Path(mounts[0] + own)


def _mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def _remove(path: Path) -> None:
    for directory, _, _ in os.walk(path, topdown=False):
        os.rmdir(directory)
