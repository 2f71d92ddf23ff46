"""The limit: how many durable files a second this disk takes, whoever writes them.

One by one, and in batches with writeback first, as `benno_common.durable` does: nothing that stores
mail one by one can be quicker than the first, and the committer not than the others.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial

from bench.place import clear
from bench.report import Row, compared
from bench.rounds import Sample, compare
from bench.setting import Setting

KIB, MIB = 1 << 10, 1 << 20
_ONE_BY_ONE = "one by one"


def measure(setting: Setting) -> Iterator[Row]:
    sizes = {4 * KIB: 2000, 64 * KIB: 1000, MIB: 100, 50 * MIB: 6}
    for octets, files in setting.either({4 * KIB: 500}, sizes).items():
        runs = {
            _ONE_BY_ONE: partial(_run, setting, octets, files, 1),
            "batches of 8": partial(_run, setting, octets, files, 8),
            "batches of 64": partial(_run, setting, octets, files, 64),
        }
        size = f"{octets // MIB} MiB" if octets >= MIB else f"{octets // KIB} KiB"
        yield from compared("disk", size, compare(runs, setting.rounds), base=_ONE_BY_ONE)


def _run(setting: Setting, octets: int, files: int, batch: int) -> Sample:
    directory = setting.directory / "limit"
    clear(directory)
    options = ["-n", str(files), "-s", str(octets), "-b", str(batch)]
    command = [setting.program("disklimit"), *options, str(directory)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return Sample(told["files"], told["seconds"], octets=files * octets)
