"""What a process has used, and what a trace says of it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench import several
from bench.process import Calls, add_calls, family, measured, running
from bench.rounds import Sample
from bench.setting import command, environment

TRACE = """\
101 recvfrom(7, ""..., 65536, 0, NULL, NULL) = 4000
101 futex(0x55, FUTEX_WAIT_PRIVATE, 0, NULL <unfinished ...>
102 openat(4, ".", O_WRONLY|O_CLOEXEC|O_TMPFILE, 0640) = 9
102 write(9, ""..., 4096)             = 4096
102 fdatasync(9 <unfinished ...>
101 <... futex resumed>)              = 0
101 read(7, 0x7f, 65536)              = -1 EAGAIN (Resource temporarily unavailable)
101 recvfrom(7,  <unfinished ...>
102 <... fdatasync resumed>)          = 0
101 <... recvfrom resumed>""..., 65536, 0, NULL, NULL) = 96
102 fsync(4)                          = 0
102 --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER, si_pid=1, si_uid=0} ---
102 pwrite64(9, ""..., 10, 0)         = 10
102 readlink("/proc/self/fd/9", ""..., 4095) = 17
102 +++ exited with 0 +++
"""


def test_calls_are_counted_once_and_octets_added_up() -> None:
    calls = Calls()
    add_calls(calls, iter(TRACE.splitlines()))
    assert dict(calls.names) == {
        "recvfrom": 2,
        "futex": 1,
        "openat": 1,
        "write": 1,
        "fdatasync": 1,
        "read": 1,
        "fsync": 1,
        "pwrite64": 1,
        "readlink": 1,
    }
    assert calls.count == 10
    assert calls.syncs == 2
    assert calls.octets == 4000 + 4096 + 96 + 10


BUSY = """\
import signal, sys, threading, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
open(sys.argv[1], "w").close()
while True:
    sum(range(10000))
    time.sleep(0.0001)
"""


@pytest.mark.slow
def test_what_a_daemon_uses(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    busy = [sys.executable, "-c", BUSY, str(ready)]
    with running(busy, ready=ready.exists, log=tmp_path / "log") as daemon:

        def work() -> Sample:
            before = daemon.usage()
            while daemon.usage().cpu_seconds < before.cpu_seconds + 0.1:
                time.sleep(0.01)
            return Sample(1, 1.0)

        sample = measured(daemon, work)
        assert sample.cpu_seconds is not None
        assert sample.cpu_seconds >= 0.1
        assert sample.switches
        assert sample.peak
        assert sample.peak > 2**20
    assert daemon.used is not None
    assert daemon.used.cpu_seconds >= 0.1
    assert daemon.used.switches >= sample.switches


@pytest.mark.slow
def test_a_daemon_that_does_not_start_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such spool')"]
    with (
        pytest.raises(RuntimeError, match="no such spool"),
        running(command, ready=lambda: False, log=tmp_path / "log"),
    ):
        pass


@pytest.mark.slow
def test_what_two_processes_use(tmp_path: Path) -> None:
    """Both are counted; and each has got the socket."""
    (tmp_path / "spool").mkdir()
    address = str(tmp_path / "socket")
    words = [*command("benno_milter"), "-p", f"unix:{address}", "-o", f"{tmp_path}/spool"]
    sock = several.unix(address)
    log = tmp_path / "log"
    with several.running([*words, "--log", "stderr"], sock, 2, log=log, env=environment()) as daemon:
        both = (daemon.pid, *daemon.others)
        logs = (log, tmp_path / "log.2")
        for pid, one in zip(both, logs, strict=True):
            assert re.search(rf"\[{pid}\]: INFO: started .* passed=1\n", one.read_text())
        alone = [replace(daemon, pid=pid, others=()).usage() for pid in both]
        assert daemon.usage().cpu_seconds >= sum(usage.cpu_seconds for usage in alone)
        assert daemon.usage().peak >= sum(usage.peak for usage in alone)


def test_a_process_that_has_ended_has_no_family_but_itself() -> None:
    """Postfix's processes come and go while they are looked at."""
    process = subprocess.Popen(["true"])
    process.wait()
    assert family(process.pid) == [process.pid]
