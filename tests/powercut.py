"""A file system of its own on a loop device, and power cuts on it. For root only.

    with powercut.disk(tmp_path, "xfs") as disk:
        ... write below disk.path ...
        disk.cut()  # what was not synced is gone, and disk.path is mounted again

A cut is the shutdown that ext4 and XFS offer for this purpose, log not flushed: from that moment on
nothing reaches the device, and every call fails. It shows a missing sync; it does not show a device
that lies about its cache or writes sectors in another order.

The process that makes a disk moves into a mount namespace of its own first, and the loop device goes
with its last user. So nothing is left behind, even where the tests are killed, and no other test sees
the mounts, or can keep them busy.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from directories import contents
from waiting import wait_for

MIB = 1 << 20

_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
_NO_LOG_FLUSH = 2
_CLONE_NEWNS = 0x00020000
# mkfs.xfs makes none below 300 MB, mkfs.btrfs none below 109.
_SIZES = {"ext4": 64 * MIB, "xfs": 320 * MIB, "btrfs": 160 * MIB}
_OPTIONS = {"xfs": "nouuid"}


class Disk:
    """A mounted file system. path: where. kind: ext4, xfs or btrfs. cuts: how many it has seen.

    btrfs has no power cuts.
    """

    def __init__(self, path: Path, kind: str, device: str) -> None:
        self.path = path
        self.kind = kind
        self.cuts = 0
        self._device = device

    def mount(self) -> None:
        self.mount_at(self.path)

    def mount_at(self, path: Path) -> None:
        options = _OPTIONS.get(self.kind, "defaults")
        _run("mount", "-t", self.kind, "-o", options, self._device, str(path))

    def remounted(self, mode: str) -> bool:
        """Mount it `ro` or `rw`; False while files are open for writing."""
        return _succeeds("mount", "-o", f"remount,{mode}", str(self.path))

    def unmount(self, *, lazily: bool = False) -> None:
        """As soon as nobody uses it; lazily: at once, and who uses it keeps it."""
        if lazily:
            _run("umount", "-l", str(self.path))
            return
        wait_for(lambda: _succeeds("umount", str(self.path)), f"nobody uses {self.path} any more")

    def shut_down(self) -> None:
        """The power goes: all that was not synced is lost, all that is tried fails."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)
        self.cuts += 1

    def restart(self) -> None:
        """The power is back. Nobody may have a file open."""
        self.unmount()
        self.mount()

    def cut(self) -> None:
        self.shut_down()
        self.restart()

    def files(self) -> list[Path]:
        """What lies at its top."""
        return contents(self.path)

    def empty(self) -> None:
        """Remove the files at its top for good."""
        for path in self.files():
            path.unlink()
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)

    def check(self) -> None:
        """Let the file system's own program look for damage; it is unmounted meanwhile."""
        self.unmount()
        program = ["e2fsck", "-fn"] if self.kind == "ext4" else ["xfs_repair", "-n"]
        _run(*program, self._device)
        self.mount()


def need(*tools: str) -> None:
    """Skip the test unless we are root and these programs are there."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    lacking = [tool for tool in tools if shutil.which(tool) is None]
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}")


def isolate() -> None:
    """What we mount from now on is ours alone; skips the test where that cannot be done."""
    if not _isolated():
        pytest.skip("needs a mount namespace of its own")


@contextlib.contextmanager
def disk(
    directory: Path, kind: str = "ext4", size: int | None = None, *make_options: str
) -> Iterator[Disk]:
    """Make a file system in `directory` and mount it there; skips where that cannot be done."""
    need("mount", "umount", "losetup", f"mkfs.{kind}")
    isolate()
    image, path = directory / f"{kind}.image", directory / f"{kind}.disk"
    path.mkdir()
    path.chmod(0o755)
    with image.open("wb") as file:
        file.truncate(size or _SIZES[kind])
    force = "-F" if kind == "ext4" else "-f"
    _run(f"mkfs.{kind}", "-q", force, *make_options, str(image))
    with _loop_device(image) as device:
        made = Disk(path, kind, device)
        made.mount()
        try:
            yield made
        finally:
            while _is_mounted(path):
                if not _succeeds("umount", str(path)):
                    made.unmount(lazily=True)
    image.unlink()


@contextlib.contextmanager
def _loop_device(image: Path) -> Iterator[str]:
    """A loop device that detaches itself when neither we nor a mount use it any more."""
    attached = subprocess.run(
        ["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=False
    )
    device = attached.stdout.strip()
    if attached.returncode != 0:
        pytest.skip(f"needs loop devices: {attached.stderr.strip()}")
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _run("losetup", "-d", device)  # takes effect at the last close, ours or the mount's
        yield device
    finally:
        os.close(fd)


@functools.cache
def _isolated() -> bool:
    """Move this thread, and all that it will start, into a mount namespace of its own."""
    if ctypes.CDLL(None).unshare(_CLONE_NEWNS) != 0:
        return False
    return _succeeds("mount", "--make-rslave", "/")


def _is_mounted(path: Path) -> bool:
    return any(line.split()[4] == str(path) for line in Path("/proc/thread-self/mountinfo").open())


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
