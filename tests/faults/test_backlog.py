"""An archive host that was away for a month: a hundred thousand mails wait in the spool.

BENNO_BACKLOG=1000000 says how many; then the run goes on until it has listed the spool for a third time
(benno_common.spool.WINDOW), else it is stopped early. Spool and import directory lie in memory, where
there is room: this is about numbers, not about disks.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import journey
import receiver_daemon
from benno_common.spool import WINDOW
from directories import contents
from forwarding import ENVELOPE, command, encoded
from waiting import wait_for

pytestmark = pytest.mark.system

WANTED = os.environ.get("BENNO_BACKLOG")
COUNT = int(WANTED or 100_000)
STOP_AFTER = 2 * WINDOW + 1_000 if WANTED else 1_500
LINE = 300  # octets of a line in the log, or some more
MEMORY = 96 << 20
_OCTETS = 4096 + 1024  # of memory for a mail and its name


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, if there is room."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 2 * COUNT * _OCTETS:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="benno-backlog-", dir=memory) as path:
        yield Path(path)


def fill(spool: Path) -> list[str]:
    """COUNT mails, no two alike; their names, oldest first."""
    spool.mkdir()
    directory = os.open(spool, os.O_DIRECTORY)
    made = []
    for number in range(COUNT):
        content = encoded(b"Subject: %07d\r\n\r\n" % number, ENVELOPE)
        seconds, micros = divmod(number, 1000)
        name = f"{1_700_000_000 + seconds}.{micros:06d}.backlog.S={len(content)}.eml"
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640, dir_fd=directory)
        os.write(file, content)
        os.close(file)
        made.append(name)
    os.close(directory)
    return made


def peak(pid: int) -> int:
    """Octets of memory that a process had in use at the most (VmHWM)."""
    match = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1]) * 1024


def test_backlog(place: Path) -> None:
    """Oldest first, the first within seconds, in little memory; a stop in the middle loses nothing."""
    waiting = fill(place / "spool")
    log = place / "forwarder.log"
    with receiver_daemon.running(place / "inbox") as archive:
        arguments = command(place / "spool", "--connections", "1", f"127.0.0.1:{archive.port}")
        begin = time.monotonic()
        with log.open("wb") as stream:
            run = subprocess.Popen(arguments, stderr=stream)
        try:
            wait_for(lambda: any(os.scandir(archive.inbox)), "the first mail", 60)
            first = time.monotonic() - begin
            wait_for(lambda: log.stat().st_size > STOP_AFTER * LINE, f"{STOP_AFTER} mails", 3600)
            seconds, memory = time.monotonic() - begin, peak(run.pid)
        finally:
            run.send_signal(signal.SIGTERM)
            code = run.wait(90)
        sent = list(journey.sent(log.read_text()))
        wait_for(lambda: archive.log.count(": stored file=") >= len(sent), "the receiver's log", 60)
        received = re.findall(r"(\S+): stored file=", archive.log)
    print(
        f"{COUNT} mails wait: the first was sent after {first:.2f} s, {len(sent)} in {seconds:.1f} s, "
        f"{memory / (1 << 20):.0f} MiB"
    )
    assert code == 75
    assert f"sent={len(sent)} kept={COUNT - len(sent)} held=0" in log.read_text()
    assert STOP_AFTER // 2 < len(sent) < COUNT
    assert sent == received == waiting[: len(sent)]
    assert sorted(os.listdir(place / "spool")) == waiting[len(sent) :]
    assert len(contents(place / "inbox")) == len(sent)
    assert memory < MEMORY
