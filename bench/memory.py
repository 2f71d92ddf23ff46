"""Memory: the most that a program ever had in use (VmHWM), and what it has when it is idle (VmRSS).

* One mail of 30 MB: what it takes above idle, beside stock aiosmtpd. Idle is after one small mail.
* Two hundred large mails at once into each daemon, over as many connections, without TLS.
* The forwarder with large mails over eight connections.
* A spool of a million mails, which is `backlog`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench import backlog, milters, receivers, spool
from bench.process import Daemon, family, measured
from bench.receivers import Receiver
from bench.report import PEAK, Goal, Row, at_most, figures
from bench.rounds import Sample
from bench.sending import KIB, MB, Load, send
from bench.setting import Setting

SUBJECT = "memory"
IDLE, ABOVE = "idle MiB", "above idle MiB"
MOST = 96  # MiB
MIB = 1 << 20


def measure(setting: Setting) -> Iterator[Row]:
    """Daemons first, then the forwarder, then the spool of a million."""
    yield from _one_large_mail(setting)
    yield from _large_mails_at_once(setting)
    yield _forwarder(setting)
    yield from backlog.measure(setting)


def resident(daemon: Daemon) -> int:
    """Octets that it and its children have in use now (VmRSS)."""
    told = [Path(f"/proc/{pid}/status").read_text() for pid in family(daemon.pid)]
    return sum(int(kilobytes) * KIB for one in told for kilobytes in re.findall(r"VmRSS:\s*(\d+)", one))


def _one_large_mail(setting: Setting) -> Iterator[Row]:
    disk, load = setting.directory / SUBJECT, Load(1, 30 * MB, 1)
    theirs = _above_idle(setting, receivers.aiosmtpd(disk / "aiosmtpd"), load)
    yield Row(SUBJECT, str(load), "aiosmtpd", theirs)
    ours = _above_idle(setting, receivers.benno_smtp(disk / "benno-smtp"), load)
    yield Row(SUBJECT, str(load), "benno-smtp", ours, goal=at_most(theirs[ABOVE] / 10, ABOVE))


def _above_idle(
    setting: Setting, starting: AbstractContextManager[Receiver], load: Load
) -> dict[str, float]:
    with starting as receiver:
        send(setting, receiver.port, Load(1, 4 * KIB, 1))
        idle = resident(receiver.daemon)
        sample = measured(receiver.daemon, lambda: send(setting, receiver.port, load))
        receiver.empty()
    peak = sample.peak or 0
    return {IDLE: idle / MIB, PEAK: peak / MIB, ABOVE: (peak - idle) / MIB}


def _large_mails_at_once(setting: Setting) -> Iterator[Row]:
    disk, size = setting.directory / SUBJECT, setting.either(MB // 2, 50 * MB)
    for name, bdat in (("benno-smtp", False), ("benno-smtp, BDAT", True)):
        load = Load(200, size, 200, bdat=bdat)
        with receivers.benno_smtp(disk / "benno-smtp") as receiver:
            sample = measured(receiver.daemon, partial(send, setting, receiver.port, load))
            receiver.empty()
        yield _at_once(setting, size, name, sample)
    work = milters.Work(mails=200, octets=size, connections=200)
    with milters.benno(setting, disk / "milter") as milter:
        sample = measured(milter.daemon, partial(milters.load, setting, milter, work))
        milter.empty()
    yield _at_once(setting, size, "benno-milter", sample)


def _at_once(setting: Setting, size: int, name: str, sample: Sample) -> Row:
    work = f"200 mails of {size} octets at once"
    return Row(SUBJECT, work, name, figures([sample]), goal=_most(setting))


def _forwarder(setting: Setting) -> Row:
    """The spool's files are few, with many names: what is read is the same."""
    mails, size = setting.either((8, 5 * MB), (200, 50 * MB))
    spooled = setting.directory / SUBJECT / "spool"
    spool.refill_with_links(spooled, mails, size)
    with receivers.benno_smtp(setting.directory / SUBJECT / "archive") as receiver:
        log = setting.ram / "forwarder.log"
        sample = spool.forward(spooled, receiver.port, mails, connections=8, log=log)
        receiver.empty()
    work = f"{mails} mails of {size} octets, 8 connections"
    return Row(SUBJECT, work, "benno-milter2smtp", figures([sample]), goal=_most(setting))


def _most(setting: Setting) -> Goal | None:
    """Of the complete work only."""
    return None if setting.quick else at_most(MOST, PEAK)
