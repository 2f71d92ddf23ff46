"""A Debian machine: a disk, a cable, and a booted system, whose power can be cut.

    machine = Machine("mail", "bookworm", image, directory, "10.77.0.11")
    machine.boot()
    machine.run("postqueue", "-p")
    machine.power_off()  # what was not synced is lost
    machine.boot()

systemd-nspawn boots it, with a mount, process and network namespace and a control group of its own. The
power is cut in this order: the cable, so that no answer gets out any more; all processes, frozen; the
file system, so that what was not synced is lost; then the processes are killed. Only the processor is
shared with other machines, and the kernel.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import powercut
from machines import cgroup, network, tree
from waiting import wait_for

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Failed(AssertionError):
    """A command in a machine failed."""


class Machine:
    """name: its host name. root: its root directory, as seen from here, while it has power."""

    def __init__(self, name: str, suite: str, image: Path, directory: Path, address: str) -> None:
        self.name = name
        self.suite = suite
        self.address = address
        self.root = directory / name
        self.root.mkdir()
        self.console = directory / f"{name}.console"
        own_image = directory / f"{name}.ext4"
        tree.copy_disk(image, own_image)
        device, self._device = _attach(own_image)
        self.disk = powercut.Disk(self.root, "ext4", device)
        self._image = own_image
        self._cable = network.Cable(name, address)
        self._group: cgroup.Group | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __repr__(self) -> str:
        return f"{self.name} ({self.suite}, {self.address})"

    @property
    def has_power(self) -> bool:
        return self._supervisor is not None

    # Power

    def boot(self) -> None:
        """Power on; returns when the system is up."""
        assert self._supervisor is None, f"{self} has power already"
        self.disk.mount()
        (self.root / "etc" / "hostname").write_text(f"{self.name}\n")
        self._cable.plug_in()
        self._group = cgroup.Group(f"{self.root.parent.name}.{self.name}")
        join = f"echo 0 >{shlex.quote(self._group.procs())} && exec "
        with self.console.open("ab") as console:
            self._supervisor = subprocess.Popen(
                ["sh", "-c", join + shlex.join(self._nspawn())],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        wait_for(self._is_up, f"{self} is up, see {self.console}", 120)

    def _nspawn(self) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self.root}",
            "--boot",
            "--register=no",
            "--keep-unit",
            f"--machine={self.name}",
            f"--network-namespace-path={self._cable.path}",
            "--console=pipe",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
        ]

    def _is_up(self) -> bool:
        assert self._supervisor
        assert self._supervisor.poll() is None, f"{self} did not boot: {self.console.read_text()}"
        self._leader = _system_of(self._supervisor.pid)
        if not self._leader:
            return False
        state = self._enter(["systemctl", "is-system-running"]).stdout.strip()
        return state in {b"running", b"degraded"}

    def power_off(self) -> None:
        """Cut the power. Also what a system is left in at the end."""
        if self._supervisor is None:
            return
        assert self._group
        self._cable.cut()
        self._group.freeze()
        self.disk.shut_down()
        self._group.kill()
        self._supervisor.wait()
        self._group.remove()
        self._cable.unplug()
        self.disk.unmount()
        self._supervisor = None

    def scrap(self) -> None:
        """Power off, and the disk is gone too."""
        self.power_off()
        os.close(self._device)
        self.root.rmdir()
        self._image.unlink()

    def ask_silent_peers(self) -> None:
        self._cable.ask_silent_peers()

    # Commands

    def run(self, *command: str, stdin: bytes = b"", seconds: float = 120) -> str:
        """What it says on standard output. Raises Failed."""
        done = self.attempt(*command, stdin=stdin, seconds=seconds)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise Failed(f"{self}: {shlex.join(command)}: exit code {done.returncode}\n{said}")
        return done.stdout.decode(errors="replace")

    def attempt(
        self, *command: str, stdin: bytes = b"", seconds: float = 120
    ) -> subprocess.CompletedProcess[bytes]:
        """The same for a command that may fail."""
        return self._enter(command, stdin=stdin, seconds=seconds)

    def shell(self, script: str, *, stdin: bytes = b"", seconds: float = 120) -> str:
        """The same for lines as an administrator types them."""
        return self.run("sh", "-euc", script, stdin=stdin, seconds=seconds)

    def _enter(
        self, command: Sequence[str], stdin: bytes = b"", seconds: float = 120
    ) -> subprocess.CompletedProcess[bytes]:
        enter = ["nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        return subprocess.run(
            [*enter, "--wdns=/", "--", *command],
            input=stdin,
            capture_output=True,
            env=ENVIRONMENT,
            timeout=seconds,
            check=False,
        )

    # Files and units, the administrator's view

    def path(self, inside: str) -> Path:
        """A file of the machine, as seen from here."""
        return self.root / inside.lstrip("/")

    def restart(self, *units: str) -> None:
        self.run("systemctl", "restart", *units)

    def is_active(self, unit: str) -> bool:
        return self.attempt("systemctl", "is-active", "--quiet", unit).returncode == 0

    def log(self, identifier: str) -> str:
        """What a program has logged since the boot, one line for each entry."""
        return self.run(
            "journalctl", "--quiet", "--boot", "--output=cat", f"SYSLOG_IDENTIFIER={identifier}"
        )


def _system_of(supervisor: int) -> int:
    """The process id of the machine's init; 0 as long as it has none."""
    try:
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text().strip() in {"systemd", "init"}:
                return int(child)
    except OSError:
        pass
    return 0


def _attach(image: Path) -> tuple[str, int]:
    """A loop device and its descriptor: it is there until this is closed and nothing is mounted."""
    device = subprocess.run(
        ["losetup", "-f", "--show", image], capture_output=True, text=True, check=True
    ).stdout.strip()
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    subprocess.run(["losetup", "-d", device], check=True)  # takes effect at the last close
    return device, fd
