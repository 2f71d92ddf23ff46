"""One run at a time, and how it ends: locks, SIGTERM, SIGKILL, in processes of their own."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benno_milter2smtp.lock import LOCK_FILE, locked
from forwarding import MESSAGE, command, forward, names, put
from scripted import EVERYTHING, STALL, WaitFor, serving
from waiting import wait_for

pytestmark = pytest.mark.slow

ONE = ("--connections", "1")


@contextmanager
def started(spool: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own, which is killed at the end if it still runs."""
    arguments = command(spool, *options, f"127.0.0.1:{port}")
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_second_run_ends_quietly(spool: Path) -> None:
    name = put(spool)
    with serving(script={"MAIL": [STALL]}) as server, started(spool, server.port) as process:
        wait_for(lambda: server.count("MAIL"), "the first run to be in the middle of a mail")
        for stopped in (False, True):
            if stopped:
                process.send_signal(signal.SIGSTOP)
            run = forward(spool, server.port)
            assert (run.code, run.log, run.output) == (0, "", "")
        assert forward(spool, server.port, options=["--dry-run"]).output.startswith(name)
        assert len(server.dialogues) == 1
    assert names(spool) == [name]


def test_a_killed_run_leaves_no_lock(spool: Path) -> None:
    name = put(spool)
    with serving(script={"LAST": [STALL, "250 ok"]}) as server:
        with started(spool, server.port) as process:
            wait_for(lambda: server.count("LAST"), "the end of the mail")
            process.kill()
            process.wait()
        assert names(spool) == [name]
        assert forward(spool, server.port).code == 0
    assert names(spool) == []


@pytest.mark.parametrize("code", [errno.EBADF, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_is_locked_where_directories_cannot_be(
    spool: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    flock = fcntl.flock

    def on_nfs(fd: int, operation: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(code, os.strerror(code))
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", on_nfs)
    fd = os.open(spool, os.O_RDONLY)
    with locked(fd) as first, locked(fd) as second:
        assert (first, second) == (True, False)
    with locked(fd) as third:
        assert third
    assert names(spool) == [LOCK_FILE]
    with serving() as server:
        put(spool)
        assert forward(spool, server.port).code == 0
    assert names(spool) == [LOCK_FILE]
    os.close(fd)


def test_a_link_in_the_place_of_the_lock_file_is_not_followed(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_nfs(fd: int, operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", on_nfs)
    (spool / LOCK_FILE).symlink_to(tmp_path / "elsewhere")
    run = forward(spool, "archive")
    assert run.code == 78
    assert "cannot be locked" in run.log
    assert not (tmp_path / "elsewhere").exists()


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("phase", "offers"), [("RCPT", EVERYTHING), ("CHUNK", EVERYTHING), ("DATA", ())]
)
def test_a_mail_whose_end_was_not_sent_is_broken_off(
    spool: Path, phase: str, offers: tuple[str, ...], number: int
) -> None:
    first, second = put(spool), put(spool)
    script = {phase: ["354 go on" if phase == "DATA" else "250 ok", STALL]}
    if phase == "RCPT":
        script[phase].insert(0, "250 ok")
    with serving(offers=offers, script=script) as server:
        with started(spool, server.port, *ONE) as process:
            wait_for(lambda: server.count(phase) == len(script[phase]), "the second mail")
            process.send_signal(number)
            _, log = process.communicate(timeout=30)
        assert process.returncode == 75
    assert len(server.mails) == 1
    assert first not in names(spool), "what was delivered is taken out"
    assert names(spool) == [second]
    assert "ended: sent=1 kept=1 held=0" in log


@pytest.mark.parametrize(("phase", "offers"), [("LAST", EVERYTHING), ("END", ())])
def test_a_mail_whose_end_was_sent_is_waited_for(
    spool: Path, phase: str, offers: tuple[str, ...]
) -> None:
    put(spool)
    second = put(spool)
    waiting = WaitFor("250 ok")
    with (
        serving(offers=offers, script={phase: [waiting]}) as server,
        started(spool, server.port, *ONE) as process,
    ):
        wait_for(lambda: server.count(phase), "the end of the first mail")
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        for line in process.stderr:
            if "stopping" in line:
                break
        waiting.go.set()
        log = process.stderr.read()
        assert process.wait(30) == 75
    assert names(spool) == [second]
    assert len(server.mails) == 1
    assert "sent host=" in log
    assert "ended: sent=1 kept=1 held=0" in log


def test_a_second_signal_ends_at_once(spool: Path) -> None:
    name = put(spool)
    with serving(script={"LAST": [STALL]}) as server, started(spool, server.port) as process:
        wait_for(lambda: server.count("LAST"), "the end of the mail")
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        for line in process.stderr:
            if "stopping" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 75
    assert names(spool) == [name]


def test_all_that_was_delivered_is_out_however_the_run_ends(spool: Path) -> None:
    """Trouble of the session in the middle: what came before is not sent a second time."""
    for number in range(30):
        put(spool, MESSAGE + b"%d\r\n" % number)
    with serving(script={"MAIL": ["250 ok"] * 20 + ["530 5.7.0 who are you?"]}) as server:
        run = forward(spool, server.port)
    assert run.code == 75
    assert len(server.mails) + len(names(spool)) == 30
