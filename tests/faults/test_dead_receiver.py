"""benno-smtp stops to live while benno-milter2smtp sends to it: what was not answered is kept.

It is killed, or it only stops (SIGSTOP), so that its connections stay open and nothing comes any more;
at each phase of a mail. The times are shortened: a second for each reply, also for the last, which is
waited for ten minutes in life.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import injection
import powercut
import receiver_daemon
from benno_milter2smtp import delivery
from passage import Passage
from receiver_daemon import Receiver
from smtp_load import Connection, make_message

pytestmark = pytest.mark.system

ONE_WORKER = "from benno_common import maildrop; maildrop.WORKERS = 1"
SMALL = make_message(b"a@b", b"hello\n\0")
LARGE = make_message(b"large@b", os.urandom(700_000))


def main_thread(pid: int) -> int:
    return pid


# The receiver's thread, and the call before which it happens: how far the two mails have come.
COMMANDS = [(main_thread, "recvfrom", 1), (main_thread, "sendto", 3), (main_thread, "sendto", 5)]
SMALL_IS_STORED = [(injection.committer, call, 1) for call in ("write", "fdatasync", "linkat", "fsync")]
LARGE_IS_STORED = [
    (injection.worker, "write", 2),
    (injection.worker, "fdatasync", 1),
    (injection.committer, "linkat", 2),
    (injection.committer, "newfstatat", 2),
]


def cases(*moments: tuple[Callable[[int], int], str, int]) -> list[object]:
    return [
        pytest.param(find, f"{call}:signal={{}}:when={number}", id=f"{find.__name__}-{call}{number}")
        for find, call, number in moments
    ]


@pytest.fixture
def journey(tmp_path: Path) -> Passage:
    """Two mails in a spool."""
    powercut.need("strace")
    spool = tmp_path / "spool"
    spool.mkdir()
    journey = Passage(spool)
    journey.put(SMALL)
    journey.put(LARGE, b"large@b")
    return journey


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """It has one worker, and no mail."""
    with receiver_daemon.running(tmp_path / "inbox", prelude=ONE_WORKER) as receiver:
        with Connection(receiver.port) as client:  # the worker is started with the first large mail
            assert client.send(b"a@b", [b"c@d"], LARGE).startswith("250")
        receiver.files()[0].unlink()
        yield receiver
        if receiver.process.poll() is None:
            receiver.process.send_signal(signal.SIGCONT)  # where a test failed that stopped it


@pytest.mark.parametrize(("find", "fault"), cases(*COMMANDS, *SMALL_IS_STORED, *LARGE_IS_STORED))
def test_killed(journey: Passage, receiver: Receiver, find: Callable[[int], int], fault: str) -> None:
    with injection.into(find(receiver.pid), fault.format("KILL")):
        run = journey.forward(receiver.port, options=["--connections", "1"])
    assert receiver.process.wait(10) == -signal.SIGKILL
    assert run.code == os.EX_TEMPFAIL, run.log
    assert "held=0" in run.summary
    with receiver_daemon.running(receiver.inbox) as another:
        assert set(journey.finish(another)) <= {1, 2}


@pytest.mark.parametrize(
    ("find", "fault"), cases(*COMMANDS, *SMALL_IS_STORED[1::2], LARGE_IS_STORED[1])
)
def test_stopped(
    journey: Passage,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    find: Callable[[int], int],
    fault: str,
) -> None:
    monkeypatch.setattr(delivery, "FINAL_SECONDS", 1.0)
    with injection.into(find(receiver.pid), fault.format("STOP")):
        run = journey.forward(receiver.port, options=["--connections", "1", "--timeout", "1"])
    assert run.code == os.EX_TEMPFAIL, run.log
    assert "held=0" in run.summary
    assert journey.waiting() != []
    assert journey.faults(receiver) == []
    os.kill(receiver.pid, signal.SIGCONT)
    assert set(journey.finish(receiver)) <= {1, 2}


def test_stopped_before_it_greets(
    journey: Passage, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system accepts connections for it."""
    monkeypatch.setattr(delivery, "FINAL_SECONDS", 1.0)
    os.kill(receiver.pid, signal.SIGSTOP)
    run = journey.forward(receiver.port, options=["--timeout", "1"])
    assert (run.code, run.summary) == (os.EX_TEMPFAIL, "sent=0 kept=2 held=0")
    os.kill(receiver.pid, signal.SIGCONT)
    assert set(journey.finish(receiver)) == {1}
