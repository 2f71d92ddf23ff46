"""How long a daemon takes from its start to the first connection that it accepts, and its idle memory.

benno-smtp is there when it greets, benno-milter when it lets somebody connect; by then each has tried
its directory. The forwarder is no daemon: its row says how long a run takes that finds an empty spool.
Starting is repeated with everything in the page cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from statistics import median

from bench import milters, mta, receivers, spool
from bench.memory import IDLE, MIB, resident
from bench.milters import Milter
from bench.place import clear
from bench.receivers import Receiver
from bench.report import Row, at_most
from bench.setting import Setting

SUBJECT = "startup"
Start = Callable[[Path], AbstractContextManager[Receiver | Milter]]

SECONDS = "s to the first connection"


def measure(setting: Setting) -> Iterator[Row]:
    """Daemons, peers, the forwarder."""
    disk, times = setting.directory / SUBJECT, setting.either(3, 15)
    starts: dict[str, Start] = {
        "benno-milter": partial(milters.benno, setting),
        "benno-smtp": receivers.benno_smtp,
        "aiosmtpd": receivers.aiosmtpd,
    }
    if mta.missing() is None and not setting.quick:
        starts["Postfix"] = receivers.postfix
    for name, start in starts.items():
        starts_of_it = [_started(start, disk / f"start.{name}.{number}") for number in range(times)]
        seconds, cpu, idle = (median(column) for column in zip(*starts_of_it, strict=True))
        figures = {SECONDS: seconds, "CPU s": cpu, IDLE: idle / MIB}
        ours = name.startswith("benno")
        yield Row(SUBJECT, "start", name, figures, goal=at_most(0.4, SECONDS) if ours else None)
        if ours:
            yield Row(SUBJECT, "idle", name, {IDLE: figures[IDLE]}, goal=at_most(40, IDLE))
    clear(disk / "spool")
    words = spool.forwarder(disk / "spool", 1, connections=8)
    with (disk / "forwarder.log").open("wb") as log:
        samples = [spool.timed(words, log.fileno(), 1) for _ in range(times)]
    cpu_of_runs = median(sample.cpu_seconds or 0 for sample in samples)
    runs = {"s of an empty run": median(sample.seconds for sample in samples), "CPU s": cpu_of_runs}
    yield Row(SUBJECT, "start", "benno-milter2smtp", runs)


def _started(start: Start, root: Path) -> tuple[float, float, int]:
    """Seconds, CPU seconds of them, and octets when idle."""
    began = time.monotonic()
    with start(root) as started:
        seconds, cpu = time.monotonic() - began, started.daemon.usage().cpu_seconds
        return seconds, cpu, resident(started.daemon)
