"""What `./test.sh machines` starts: make what the machines are made of, then run the stories.

The trees and the packages need the internet. The stories run in two parts at the same time, those of
machines with one Debian and those with the other, as most of their time is waiting. Each part has
mount, network and process namespaces of its own, so that with its last process everything is gone:
machines, mounts, bridge, loop devices. Arguments go to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from machines import ability, cgroup, tree

_ROOT = Path(__file__).resolve().parents[2]
_CACHE = _ROOT / ".venv" / "machines"
_NEEDED = ("mmdebstrap", "systemd-nspawn", "mkfs.ext4", "losetup", "ip", "nsenter", "unshare")

_NO_TESTS = 5  # pytest's exit code


def main(arguments: list[str]) -> None:
    if os.geteuid() != 0:
        sys.exit("machines: needs root")
    if lacking := [tool for tool in _NEEDED if shutil.which(tool) is None]:
        sys.exit(f"machines: not installed: {', '.join(lacking)}")
    _CACHE.mkdir(exist_ok=True)
    _sweep()
    _try()
    print("machines: making Debian trees, unless they are there, and the packages", flush=True)
    building = [tree.Building(suite, _CACHE) for suite in tree.SUITES]
    _build_packages(_CACHE / "packages")
    for one in building:
        os.environ[f"BENNO_MACHINE_{one.suite.upper()}"] = str(one.finish())
    os.environ["BENNO_MACHINE_PACKAGES"] = str(_CACHE / "packages")
    room = _CACHE / f"room.{os.getpid()}"
    room.mkdir()
    codes = _tell_stories(room, arguments)
    shutil.rmtree(room)
    # A part of which the arguments leave nothing is none.
    sys.exit(max([code for code in codes if code != _NO_TESTS], default=_NO_TESTS))


def _tell_stories(room: Path, arguments: list[str]) -> list[int]:
    """Both parts, the second one's words after those of the first; their exit codes."""
    first, second = tree.SUITES
    with (room / "second.log").open("wb") as log:
        waiting = _start(second, room, arguments, log)
        codes = [_start(first, room, arguments, None).wait(), waiting.wait()]
    print((room / "second.log").read_text(errors="replace"), flush=True)
    return codes


def _start(
    part: str, room: Path, arguments: list[str], out: IO[bytes] | None
) -> subprocess.Popen[bytes]:
    """They end when we do, and all machines with them."""
    own_room = room / f"{room.name}.{part}"
    own_room.mkdir()
    environment = {"BENNO_MACHINE_PART": part, "BENNO_MACHINE_ROOM": str(own_room)}
    namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    stories = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(Path(__file__).parent)]
    return subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL", "unshare", *namespaces, *stories, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out,
    )


def _try() -> None:
    """Go on if machines can be booted here. What the kernel has not is no failure, and no success."""
    with tempfile.TemporaryDirectory(dir=_CACHE, prefix="trial.") as directory:
        try:
            ability.check(Path(directory))
        except ability.Impossible as impossible:
            if impossible.lacking:
                print(f"machines: SKIPPED, nothing was tested; this kernel lacks {impossible}")
                sys.exit(0)
            sys.exit(
                f"machines: none can be booted here: {impossible}. Root can, on a machine or a virtual "
                "one; of containers a privileged one is needed."
            )


def _sweep() -> None:
    """Remove what runs have left that were killed: the disks of machines, and empty control groups."""
    cgroup.sweep()
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
