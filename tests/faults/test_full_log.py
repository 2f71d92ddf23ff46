"""Nobody takes the daemons' log lines any more, as a stopped journald does: mail goes on."""

from __future__ import annotations

import fcntl
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import daemon
import load
import receiver_daemon
import smtp_load
from daemon import Daemon
from load import Story
from receiver_daemon import Receiver
from waiting import wait_for

pytestmark = pytest.mark.slow

MAILS = 300  # whose lines take several times the memory of the pipe
# Standard error is a pipe, which a process of its own brings to the log file.
PIPED = ("sh", "-c", 'cat "$0" & echo $! > "$0.pid"; exec "$@" 2> "$0"')

Start = Callable[[Path, tuple[str, ...]], AbstractContextManager[Daemon]]


def milter(spool: Path, wrapper: tuple[str, ...]) -> AbstractContextManager[Daemon]:
    return daemon.running(spool, wrapper=wrapper)


def receiver(inbox: Path, wrapper: tuple[str, ...]) -> AbstractContextManager[Daemon]:
    return receiver_daemon.running(inbox, wrapper=wrapper)


@contextmanager
def with_silent_log(start: Start, tmp_path: Path) -> Iterator[tuple[Daemon, int]]:
    """The daemon, and the process that is to read its log and is stopped."""
    pipe = tmp_path / "log.pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)
    with start(tmp_path / "files", (*PIPED, str(pipe))) as running:
        os.close(end)
        reader = int(Path(f"{pipe}.pid").read_text())
        os.kill(reader, signal.SIGSTOP)
        try:
            yield running, reader
        finally:
            os.kill(reader, signal.SIGCONT)


def send_mails(running: Daemon) -> Story:
    """Until so many are accepted."""
    story = Story()
    clients: AbstractContextManager[object] = (
        smtp_load.load(running.port, story, clients=4, seed=1)
        if isinstance(running, Receiver)
        else load.load(running.address, story, clients=4, seed=1)
    )
    with clients:
        wait_for(lambda: len(story.accepted) >= MAILS, f"{MAILS} mails are accepted")
    return story


@pytest.mark.parametrize("start", [milter, receiver])
def test_mail_goes_on_and_the_lines_come_later(start: Start, tmp_path: Path) -> None:
    with with_silent_log(start, tmp_path) as (running, reader):
        story = send_mails(running)
        assert story.faults(running.files()) == []
        assert running.log.count(": stored ") < MAILS / 2
        os.kill(reader, signal.SIGCONT)
        names = sorted(path.name for path in running.files())
        wait_for(lambda: running.log.count(": stored ") == len(names), "a line for each mail")
        assert sorted(re.findall(r": stored file=(\S+)", running.log)) == names


@pytest.mark.parametrize("start", [milter, receiver])
def test_the_end_does_not_wait_for_ever(start: Start, tmp_path: Path) -> None:
    with with_silent_log(start, tmp_path) as (running, _):
        story = send_mails(running)
        assert running.stop() == 0
        assert story.faults(running.files()) == []
