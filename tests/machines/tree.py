"""Trees of Debian, and the disks that machines boot from.

A tree is what mmdebstrap makes; beside the few packages that a machine needs to boot lie, downloaded
but not installed, those that the stories install with apt: a machine has no internet. A
disk is an ext4 image of it. Both are kept, under a name that says what went into them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

SUITES = ("bookworm", "trixie")

_INSTALLED = "systemd systemd-sysv dbus cron iproute2 python3"
_DOWNLOADED = (
    "postfix swaks openssl rsyslog adduser ucf cron-daemon-common bash-completion "
    "python3-aiosmtpd python3-aiosmtplib python3-attr python3-bcrypt python3-cryptography"
)
_SIZE = "2500M"  # sparse; benno-milter keeps 100 MB free

# Nothing of this is looked at, and each machine has a copy of its own.
_LEFT_OUT = ("/usr/share/locale/*", "/usr/share/doc/*/*", "/usr/share/man/*/*")

_DOWNLOAD = f"""\
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
apt-get install --yes --download-only {_DOWNLOADED}
: >"$1/etc/machine-id"
"""


class Building:
    """A disk that is being made. Several may be made at the same time."""

    def __init__(self, suite: str, cache: Path) -> None:
        self.suite = suite
        command = _command(suite)
        key = hashlib.sha256(" ".join([*command, _SIZE]).encode()).hexdigest()[:12]
        self.disk = cache / f"{suite}-{key}.ext4"
        self._tree = cache / f"{suite}-{key}.{os.getpid()}"
        self._log = cache / f"{suite}.log"
        self._process: subprocess.Popen[bytes] | None = None
        if not self.disk.exists():
            for old in cache.glob(f"{suite}-*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            with self._log.open("wb") as log:
                self._process = subprocess.Popen([*command, str(self._tree)], stdout=log, stderr=log)

    def finish(self) -> Path:
        """Wait for it; the disk's image, not to be written to. Raises RuntimeError."""
        if self._process:
            try:
                if self._process.wait() != 0:
                    raise RuntimeError(f"mmdebstrap {self.suite} failed:\n{_end(self._log)}")
                self._make_disk()
            finally:
                shutil.rmtree(self._tree, ignore_errors=True)
        return self.disk

    def _make_disk(self) -> None:
        unfinished = self.disk.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        subprocess.run(
            ["mkfs.ext4", "-q", "-F", "-L", self.suite, "-d", self._tree, unfinished, _SIZE], check=True
        )
        unfinished.rename(self.disk)


def _command(suite: str) -> list[str]:
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=apt",
        "--skip=cleanup/apt",
        '--aptopt=APT::Install-Recommends "false"',
        *[f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT],
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-include=/usr/share/doc/benno*/*",
        "--dpkgopt=path-include=/usr/share/man/man*/benno*",
        f"--include={_INSTALLED.replace(' ', ',')}",
        f"--customize-hook={_DOWNLOAD}",
        suite,
    ]


def _end(log: Path) -> str:
    return "".join(log.read_text(errors="replace").splitlines(keepends=True)[-20:])


def copy_disk(image: Path, to: Path) -> None:
    """Only the parts that are in use."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", image, to], check=True)
