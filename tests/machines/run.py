"""What `./test.sh machines` starts: make what the machines are made of, then run the stories.

The trees and the packages need the internet. The stories run in mount, network and process namespaces
of their own, so that with the last process everything is gone: machines, mounts, bridge, loop devices.
Arguments go to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from machines import tree

_ROOT = Path(__file__).resolve().parents[2]
_CACHE = _ROOT / ".venv" / "machines"
_NEEDED = ("mmdebstrap", "systemd-nspawn", "mkfs.ext4", "losetup", "ip", "nsenter", "unshare")


def main(arguments: list[str]) -> None:
    if os.geteuid() != 0:
        sys.exit("machines: needs root")
    if lacking := [tool for tool in _NEEDED if shutil.which(tool) is None]:
        sys.exit(f"machines: not installed: {', '.join(lacking)}")
    _CACHE.mkdir(exist_ok=True)
    _sweep()
    print("machines: making Debian trees, unless they are there, and the packages", flush=True)
    building = [tree.Building(suite, _CACHE) for suite in tree.SUITES]
    _build_packages(_CACHE / "packages")
    for one in building:
        os.environ[f"BENNO_MACHINE_{one.suite.upper()}"] = str(one.finish())
    os.environ["BENNO_MACHINE_PACKAGES"] = str(_CACHE / "packages")
    room = _CACHE / f"room.{os.getpid()}"
    room.mkdir()
    os.environ["BENNO_MACHINE_ROOM"] = str(room)
    namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    stories = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(Path(__file__).parent)]
    os.execvp("unshare", ["unshare", *namespaces, *stories, *arguments])


def _sweep() -> None:
    """Remove the machines' disks of runs that have ended."""
    for room in _CACHE.glob("room.*"):
        if not Path("/proc", room.suffix[1:]).exists():
            shutil.rmtree(room)


def _build_packages(to: Path) -> None:
    """With BENNO_PACKAGES=DIRECTORY those that lie there are taken."""
    shutil.rmtree(to, ignore_errors=True)
    if given := os.environ.get("BENNO_PACKAGES"):
        shutil.copytree(given, to)
        return
    to.mkdir()
    done = subprocess.run(
        [_ROOT / "debian" / "build", to],
        env={**os.environ, "BENNO_BUILD_TREE": str(_CACHE / "build.tar")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"machines: debian/build failed:\n{(done.stdout + done.stderr)[-4000:]}")


if __name__ == "__main__":
    main(sys.argv[1:])
