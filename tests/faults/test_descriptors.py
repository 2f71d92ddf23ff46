"""A flood of connections, and too few descriptors: no mail on an open connection fails for it."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import powercut
import surroundings
from benno_common import descriptors
from daemon import Daemon
from daemons import EACH, MILTER, Kind
from load import Story
from mta import MTA
from receiver_daemon import Receiver
from smtp import Client
from waiting import wait_for

pytestmark = pytest.mark.system

DESCRIPTORS = 64
PLACES = (DESCRIPTORS - descriptors.OWN) // 2
FLOOD = 300
LARGE = b"x" * 99_998 + b"\r\n"  # more than is kept in memory: it needs a file before it has come


class Mail:
    """A connection with a mail whose content has not come."""

    def __init__(self, running: Daemon, stack: contextlib.ExitStack) -> None:
        self.pour: Callable[[], None]
        self.verdict: Callable[[], str]
        if isinstance(running, Receiver):
            self._by_smtp(stack.enter_context(Client(running.port)))
        else:
            self._by_milter(stack.enter_context(MTA(running.address)))

    def _by_smtp(self, client: Client) -> None:
        assert client.envelope(b"a@b", [b"c@d"]) == []
        chunk = b"BDAT %d LAST\r\n" % len(LARGE) + LARGE
        self.pour = functools.partial(client.socket.sendall, chunk)
        self.verdict = client.read

    def _by_milter(self, mta: MTA) -> None:
        mta.negotiate()
        mta.mail(b"<a@b>")
        mta.rcpt(b"<c@d>")

        def pour() -> None:
            mta.body(LARGE)
            mta.send(b"E", b"")

        self.pour = pour
        self.verdict = mta.verdict


def port(running: Daemon) -> int:
    if isinstance(running, Receiver):
        return running.port
    return int(running.address[1])


@EACH
def test_a_flood_takes_no_mail_its_file(tmp_path: Path, kind: Kind) -> None:
    """Connections and content are there at the same time: the daemon stood still when they came."""
    powercut.need("prlimit")
    with (
        kind.start(tmp_path / "files", surroundings.with_descriptors(DESCRIPTORS)) as running,
        contextlib.ExitStack() as stack,
    ):
        mails = [Mail(running, stack) for _ in range(PLACES)]
        os.kill(running.pid, signal.SIGSTOP)
        try:
            for _ in range(FLOOD):
                stack.enter_context(socket.create_connection(("127.0.0.1", port(running)), 60))
            for mail in mails:
                mail.pour()
        finally:
            os.kill(running.pid, signal.SIGCONT)
        verdicts = {mail.verdict()[:12] for mail in mails}
        assert verdicts <= {"accepted", "250 2.0.0 St"}, running.log
        assert len(running.files()) == PLACES
        running.wait_for_log(f"connect from 127.0.0.1 refused: {PLACES} connections are open")
        assert running.log.count("connect from") == 1, "one line in a minute"
        assert "Too many open files" not in running.log


@EACH
def test_places_are_free_again(tmp_path: Path, kind: Kind) -> None:
    powercut.need("prlimit")
    story = Story()
    with kind.start(tmp_path / "files", surroundings.with_descriptors(DESCRIPTORS)) as running:
        for _ in range(3):
            with contextlib.ExitStack() as stack:
                for _ in range(PLACES + 5):
                    stack.enter_context(socket.create_connection(("127.0.0.1", port(running)), 60))
            wait_for(lambda: comes_in(kind, running, story), "a place")
        assert story.faults(running.files()) == []
        assert "ERROR" not in running.log


def comes_in(kind: Kind, running: Daemon, story: Story) -> bool:
    try:
        return kind.send(running, story) == "accepted"
    except (OSError, EOFError):
        return False


@EACH
def test_no_descriptor_is_left(tmp_path: Path, kind: Kind) -> None:
    """As where others on the system have used them up: one clear line, and later all is well."""
    story = Story()
    with kind.start(tmp_path / "files") as running:
        before = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
        opened = len(os.listdir(f"/proc/{running.pid}/fd"))
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (opened, before[1]))
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(socket.create_connection(("127.0.0.1", port(running)), 60))
            line = running.wait_for_log(r"\w+: new connections wait: .*")
            assert line == f"ERROR: new connections wait: Too many open files: {descriptors.RAISE}"
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, before)
            assert kind.send(running, story) == "accepted", "it waited behind them"
        assert story.faults(running.files()) == []
        assert running.stop() == 0
        assert running.log.count("new connections wait") == 1
        assert "unexpected" not in running.log
        assert "Traceback" not in running.log


def test_the_line_of_the_milter(tmp_path: Path) -> None:
    """It says what to raise; the receiver has a setting for it."""
    powercut.need("prlimit")
    with (
        MILTER.start(tmp_path / "files", surroundings.with_descriptors(26)) as running,
        socket.create_connection(("127.0.0.1", port(running)), 60),
        socket.create_connection(("127.0.0.1", port(running)), 60),
    ):
        line = running.wait_for_log("WARNING: connect from .*")
        assert line == (
            "WARNING: connect from 127.0.0.1 refused: 1 connections are open, and there are "
            f"descriptors for no more; {descriptors.RAISE}"
        )
