"""demo.sh makes its environment once, and starts the demonstration in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PYTHON = """\
#!/bin/sh
echo "$@" >>{log}
case "$*" in
    "-c "*) exit $(cat {log}.venv) ;;
    --version) echo Python 3.11 ;;
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp {log}.pip "$3/bin/pip" ;;
esac
"""
TOOLS = {"id": "echo $(cat {log}.id)", "apt-get": "echo apt-get $* >>{log}; echo 0 >{log}.venv"}


class Machine:
    """A copy of demo.sh where python, pip, apt-get and id only note that they were called."""

    def __init__(self, root: Path, *, user: int = 0, venv: int = 0, pip: int = 0) -> None:
        self.tree = root / "tree with blank"
        self.tree.mkdir()
        shutil.copy(ROOT / "demo.sh", self.tree)
        (self.tree / "pyproject.toml").touch()
        self.log = root / "log"
        tools = root / "tools"
        tools.mkdir()
        for name, text in {**TOOLS, "python3": PYTHON}.items():
            (tools / name).write_text("#!/bin/sh\n" + text.format(log=self.log))
            (tools / name).chmod(0o755)
        for name, number in {"id": user, "venv": venv}.items():
            Path(f"{self.log}.{name}").write_text(str(number))
        pip_script = Path(f"{self.log}.pip")
        pip_script.write_text(f"#!/bin/sh\necho pip $* >>{self.log}\nexit {pip}\n")
        pip_script.chmod(0o755)
        self._path = f"{tools}:/usr/bin:/bin"

    def run(self, *arguments: str) -> tuple[int, list[str]]:
        """The exit code, and what was called."""
        self.log.write_text("")
        done = subprocess.run(
            [self.tree / "demo.sh", *arguments],
            env={"PATH": self._path},
            capture_output=True,
            check=False,
            cwd="/",
        )
        calls = self.log.read_text().replace(f"{self.tree}/", "").splitlines()
        return done.returncode, calls


MAKE = ["--version", "-m venv .venv-demo", "pip install --disable-pip-version-check --use-pep517 -e"]
START = "demo/demonstration.py --keep"


def test_the_environment_is_made_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    code, calls = machine.run("--keep")
    assert code == 0
    assert [*calls[1:3], calls[3].partition(" /")[0], *calls[4:]] == [*MAKE, START]
    assert machine.run("--keep") == (0, [START])
    os.utime(machine.tree / "pyproject.toml", (4e9, 4e9))
    assert len(machine.run("--keep")[1]) == 5


def test_the_environment_of_the_tests_is_used(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run()
    (machine.tree / ".venv-demo").rename(machine.tree / ".venv")
    assert machine.run("--keep") == (0, [START])


def test_an_environment_that_failed_is_made_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, pip=1)
    assert machine.run()[0] == 1
    code, calls = machine.run()
    assert code == 1
    assert MAKE[1] in calls


def test_root_gets_venv_installed(tmp_path: Path) -> None:
    code, calls = Machine(tmp_path, venv=1).run("--keep")
    assert code == 0
    assert calls[1].startswith("apt-get update")
    assert calls[2].startswith("apt-get install")
    assert calls[2].endswith("python3-venv")
    assert calls[-1] == START


def test_others_are_told_to(tmp_path: Path) -> None:
    code, calls = Machine(tmp_path, venv=1, user=1000).run()
    assert (code, len(calls)) == (1, 1)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck (apt install shellcheck)")
def test_shellcheck() -> None:
    subprocess.run(["shellcheck", str(ROOT / "demo.sh")], check=True)
