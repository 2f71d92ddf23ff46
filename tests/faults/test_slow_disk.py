"""A disk that takes its time: the MTA is kept waiting, told in time, and only who must wait waits.

The times are shortened: a progress packet is due after 0.2 seconds, not 10, and where an answer is due
after 240 it is after two.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import daemon
import injection
import powercut
from daemon import Daemon
from load import HEADERS, as_kept, send
from mta import MTA
from waiting import wait_for

pytestmark = pytest.mark.system

SMALL = b"hello\r\n"
LARGE = b"x" * 600_000
SENDER, RECIPIENTS = b"<a@b>", [b"<c@d>", b"<e@f>"]


@contextmanager
def impatient(spool: Path, answer: float = 240.0) -> Iterator[Daemon]:
    """A daemon that answers after so many seconds, and has one worker."""
    powercut.need("strace")
    command = injection.command_with(
        "maildrop.WORKERS = 1",
        "serving.TICK_SECONDS = 0.05",
        "connection.PROGRESS_SECONDS = 0.2",
        f"connection.ANSWER_SECONDS = {answer}",
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(daemon, "COMMAND", command)
        with daemon.running(spool) as milter:
            yield milter


@contextmanager
def stuck(thread: int, call: str) -> Iterator[None]:
    """The thread's next such call does not return before the end of the body."""
    with injection.into(thread, f"{call}:delay_exit=600000000:when=1") as trace:
        yield
        status = Path(f"/proc/{thread}/status")
        wait_for(lambda: "State:\tt" in status.read_text(), f"{call} is made, and does not return")
    assert trace.injected == [call]


def begin(mta: MTA, queue_id: str, body: bytes = SMALL) -> None:
    """A mail up to its end, which is sent and not answered yet."""
    mta.negotiate()
    assert mta.mail(SENDER) == (b"c", b"")
    for recipient in RECIPIENTS:
        mta.rcpt(recipient)
    for name, value in HEADERS:
        mta.header(name, value)
    mta.end_of_headers()
    mta.body(body)
    mta.macros(b"E", i=queue_id)
    mta.send(b"E")


def progress(mta: MTA, packets: int) -> None:
    for _ in range(packets):
        assert mta.reply() == (b"p", b"")


def test_progress_then_the_answer(tmp_path: Path) -> None:
    with impatient(tmp_path / "spool") as milter, MTA(milter.address) as mta:
        with stuck(injection.committer(milter.pid), "fdatasync"):
            begin(mta, "SLOW")
            progress(mta, 3)
            assert milter.files() == []
        assert mta.verdict() == "accepted"
        assert milter.mails() == [as_kept(SMALL)]
        assert "answered=yes" in milter.wait_for_log("SLOW: stored.*")


def test_too_slow_is_told_in_time_and_what_is_kept_in_the_end_is_logged(tmp_path: Path) -> None:
    with impatient(tmp_path / "spool", answer=1.0) as milter, MTA(milter.address) as mta:
        with stuck(injection.committer(milter.pid), "fdatasync"):
            begin(mta, "LATE")
            progress(mta, 2)
            assert mta.verdict() == "451 4.3.0 The mail archive is too slow"
            assert milter.files() == []
            line = milter.wait_for_log("LATE: refused.*")
            assert "not durable after 1 s; if it will be, it comes twice" in line
        assert "answered=no" in milter.wait_for_log("LATE: stored.*")
        assert mta.deliver(SENDER, RECIPIENTS, HEADERS, b"again\r\n") == "accepted"
        assert milter.mails() == [as_kept(SMALL), as_kept(b"again\r\n")]


def test_other_connections_are_served_meanwhile(tmp_path: Path) -> None:
    """They come as far as the end of their mail, which waits for the next batch."""
    with impatient(tmp_path / "spool") as milter, ExitStack() as connections:
        mtas = [connections.enter_context(MTA(milter.address)) for _ in range(21)]
        with stuck(injection.committer(milter.pid), "fdatasync"):
            for number, mta in enumerate(mtas):
                begin(mta, f"MAIL{number}")
            progress(mtas[-1], 2)
            assert milter.files() == []
        assert [mta.verdict() for mta in mtas] == ["accepted"] * 21
        assert milter.mails() == [as_kept(SMALL)] * 21


def test_a_large_mails_slow_sync_holds_no_small_mail_up(tmp_path: Path) -> None:
    with impatient(tmp_path / "spool") as milter, MTA(milter.address) as mta:
        first_large_mail(milter)
        with stuck(injection.worker(milter.pid), "fdatasync"):
            begin(mta, "LARGE", LARGE)
            for _ in range(20):
                assert send(milter.address) == "accepted"
            assert milter.mails() == [as_kept()] * 20
            progress(mta, 2)
        assert mta.verdict() == "accepted"
        assert as_kept(LARGE) in milter.mails()


def test_a_slow_write_pauses_one_connection_only(tmp_path: Path) -> None:
    with impatient(tmp_path / "spool") as milter, MTA(milter.address) as mta:
        first_large_mail(milter)
        with stuck(injection.worker(milter.pid), "write"):
            mta.negotiate()
            mta.mail(SENDER)
            mta.body(LARGE[:100_000])
            assert send(milter.address) == "accepted"
            mta.socket.settimeout(0.5)
            with pytest.raises(TimeoutError):  # nobody reads: the socket's buffers fill up
                mta.body(b"x" * 10_000_000)
        assert milter.mails() == [as_kept()]


def first_large_mail(milter: Daemon) -> None:
    """It has a worker started."""
    assert send(milter.address, LARGE) == "accepted"
    milter.files()[0].unlink()


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
def test_the_mta_leaves_while_its_mail_is_synced(tmp_path: Path, body: bytes) -> None:
    with impatient(tmp_path / "spool") as milter:
        first_large_mail(milter)
        find = injection.committer if body == SMALL else injection.worker
        with stuck(find(milter.pid), "fdatasync"), MTA(milter.address) as mta:
            begin(mta, "GONE", body)
            progress(mta, 1)
        assert "answered=no" in milter.wait_for_log("GONE: stored.*")
        assert milter.mails() == [as_kept(body)]


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
def test_stopped_while_a_mail_is_synced(tmp_path: Path, body: bytes) -> None:
    """It is answered first."""
    with impatient(tmp_path / "spool") as milter, MTA(milter.address) as mta:
        first_large_mail(milter)
        find = injection.committer if body == SMALL else injection.worker
        with stuck(find(milter.pid), "fdatasync"):
            begin(mta, "LAST", body)
            progress(mta, 1)
            os.kill(milter.pid, signal.SIGTERM)
            milter.wait_for_log("stopping")
        assert mta.verdict() == "accepted"
        wait_for(lambda: milter.process.poll() is not None, "the daemon ends")
        assert milter.process.returncode == 0
        assert milter.mails() == [as_kept(body)]
