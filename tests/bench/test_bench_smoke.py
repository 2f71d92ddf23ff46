"""The milters that are compared keep the same mail, and `bench/run` measures them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.milters import ALL, BENNO, Work, load
from bench.setting import ROOT, Setting
from daemon import read

pytestmark = [pytest.mark.system, pytest.mark.slow]

PYMILTER = ROOT / ".venv" / "bench" / "pymilter"  # where `bench/run` installs it
PEERS = [name for name in ALL if name != BENNO]


@pytest.fixture
def setting(compiled: Callable[[str], str], tmp_path: Path) -> Setting:
    if not Path("/usr/include/libmilter").exists():
        pytest.skip("libmilter-dev is not installed")
    programs = {Path(compiled(name)).parent for name in ("milterload", "spoolmilter")}
    directory = programs.pop()
    if PYMILTER.exists() and not (directory / "pymilter").exists():
        (directory / "pymilter").symlink_to(PYMILTER)
    return Setting(quick=True, rounds=1, directory=tmp_path, ram=tmp_path, programs=directory)


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("octets", [4096, 1_000_000])
def test_each_keeps_the_same_mails(setting: Setting, tmp_path: Path, name: str, octets: int) -> None:
    if name == "pymilter" and not PYMILTER.exists():
        pytest.skip("pymilter is not installed: bench/run does it")
    if name == "purepythonmilter":
        pytest.importorskip(name)
    work = Work(mails=6, octets=octets, connections=3, recipients=2)
    kept = {}
    for one in (name, BENNO):
        with ALL[one](setting, tmp_path / one.replace(" ", "")) as milter:
            sample = load(setting, milter, work)
            kept[one] = {path.read_bytes() for path in milter.spool.glob("*.eml")}
            first = next(milter.spool.glob("*.eml"))
    assert sample.mails == 6
    assert len(kept[BENNO]) == 1
    sender, recipients, message = read(first)
    assert (sender, recipients) == (
        b"sender@example.com",
        (b"recipient.0@example.org", b"recipient.1@example.org"),
    )
    assert len(message) == octets
    assert kept[name] == kept[BENNO]


def test_bench_run(compiled: Callable[[str], str], tmp_path: Path) -> None:
    """The limit of the disk alone: the shortest way through all of it."""
    programs = Path(compiled("disklimit")).parent
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "bench", "quick", "--only", "disk", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--directory", str(tmp_path), "--json", str(results)],
        cwd=ROOT,
        env={**os.environ, "BENCH_PROGRAMS": str(programs)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert re.search(r"batches of 64 +\d", done.stdout)
    told = json.loads(results.read_text())
    assert [row["contender"] for row in told["rows"]] == ["one by one", "batches of 8", "batches of 64"]
    assert not list(tmp_path.glob("bench.*"))
