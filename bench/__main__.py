"""`bench/run`: measures one subject after the other, and says what came out."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import image, place, report
from bench.report import Row
from bench.setting import Setting
from bench.steal import Watch

SUBJECTS = ("disk", "milter", "postfix", "receiver", "forwarder", "journey", "memory", "startup")
ROUNDS, QUICK_ROUNDS = 9, 3


def main() -> int:
    """The command. Returns the exit code."""
    given = _parser().parse_args()
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
    ):  # what was made is ended and removed
        signal.signal(number, lambda *_: sys.exit(1))
    rows: list[Row] = []
    with ExitStack() as stack:
        disk = given.directory or Path("/var/tmp")
        if given.image:
            disk = stack.enter_context(image.mounted(disk))
        directory, ram = (stack.enter_context(place.made(below)) for below in (disk, Path("/dev/shm")))
        setting = Setting(
            quick=given.quick == "quick",
            rounds=given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS),
            directory=directory,
            ram=ram,
            programs=Path(os.environ["BENCH_PROGRAMS"]),
        )
        machine = report.machine(directory)
        print(*(f"{name}: {value}" for name, value in machine.items()), sep="\n")
        began, watch = time.monotonic(), Watch()
        try:
            for line in report.lines(_kept(rows, _measured(given.only, setting))):
                print(line, flush=True)
        finally:  # of what was measured so far, too
            end: dict[str, object] = {
                "seconds": round(time.monotonic() - began),
                "load average at the end": round(os.getloadavg()[0], 2),
                report.STEAL: round(watch.share() * 100),
            }
            print("", *(f"{name}: {value}" for name, value in end.items()), sep="\n")
            if given.json:
                given.json.write_text(_result(machine, setting, end, rows))
    return 0


def _result(
    machine: dict[str, object], setting: Setting, end: dict[str, object], rows: list[Row]
) -> str:
    """In JSON."""
    result = {
        "machine": machine,
        "quick": setting.quick,
        "rounds": setting.rounds,
        **end,
        "rows": [report.as_json(row) for row in rows],
    }
    return json.dumps(result, indent=1) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bench/run", description=__doc__)
    add = parser.add_argument
    add("quick", nargs="?", choices=["quick"], help="a first impression, within two minutes")
    add(
        "--only",
        nargs="+",
        choices=SUBJECTS,
        default=SUBJECTS,
        metavar="NAME",
        help=", ".join(SUBJECTS),
    )
    add("--json", type=Path, metavar="FILE", help="write all that was measured there, too")
    add("--directory", type=Path, metavar="DIR", help="on the disk to be used, instead of /var/tmp")
    add(
        "--image",
        action="store_true",
        help="on ext4 in an image on that disk, where a flush costs; root",
    )
    add("--rounds", type=int, metavar="N", help=f"of each comparison ({ROUNDS}; quick: {QUICK_ROUNDS})")
    return parser


def _measured(subjects: list[str], setting: Setting) -> Iterator[Row]:
    for name in subjects:
        yield from importlib.import_module(f"bench.{name}").measure(setting)


def _kept(rows: list[Row], measured: Iterator[Row]) -> Iterator[Row]:
    for row in measured:
        rows.append(row)
        yield row


if __name__ == "__main__":
    sys.exit(main())
