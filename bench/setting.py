"""Where and how thoroughly is measured.

def measure(setting: Setting) -> Iterator[Row]:
    spool = setting.directory / "spool"      # on a disk
    mails = setting.either(500, 5000)        # quick, complete
    ...
    place.clear(spool)                       # between two runs, before the clock starts
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_Value = TypeVar("_Value")

# What the units of both daemons and benno-export2archive set.
MEMORY = {"MALLOC_TRIM_THRESHOLD_": "8388608", "MALLOC_MMAP_THRESHOLD_": "4194304"}

ROOT = Path(__file__).parent.parent
SOURCES = Path(__file__).parent / "src"
PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Setting:
    """quick: a first impression. rounds: of each comparison. directory: empty, on a disk; ram: empty,
    on a tmpfs; both are removed at the end. programs: where the compiled programs lie.
    """

    quick: bool
    rounds: int
    directory: Path
    ram: Path
    programs: Path

    def either(self, quick: _Value, complete: _Value) -> _Value:
        return quick if self.quick else complete

    def program(self, name: str) -> str:
        """The path of a compiled program."""
        return str(self.programs / name)


def command(package: str) -> list[str]:
    """How a daemon of this project is started from the source tree: `benno_milter`, `benno_smtp` …"""
    call = f"import sys; from {package}.program import main; sys.exit(main())"
    return [sys.executable, "-c", call]


def environment() -> dict[str, str]:
    """For the processes that are measured: as the units have it, and the packages of the source tree,
    compiled once.
    """
    parts = [str(ROOT / part) for part in ("common", "milter", "milter2smtp", "smtp_receiver")]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **MEMORY, "PYTHONPATH": os.pathsep.join(parts)}
