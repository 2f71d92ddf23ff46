"""Several runs of benno-milter2smtp on one spool: one is at work, the others end quietly.

The lock is that of a living process: one that is stopped keeps it, one that was killed has none.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import injection
import powercut
import receiver_daemon
from passage import Forwarder, Passage
from receiver_daemon import Receiver
from waiting import wait_for

pytestmark = pytest.mark.system

MAILS = 12


@pytest.fixture
def journey(tmp_path: Path) -> Passage:
    spool = tmp_path / "spool"
    spool.mkdir()
    journey = Passage(spool)
    journey.fill(MAILS, lambda chance: chance.randrange(10_000))
    return journey


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        yield receiver


def another(journey: Passage, receiver: Receiver) -> tuple[int, str]:
    """Exit code and log of one more run."""
    with journey.run(receiver.port, name="another") as forwarder:
        return forwarder.end(), forwarder.log


@contextlib.contextmanager
def in_the_middle(journey: Passage, receiver: Receiver) -> Iterator[tuple[Forwarder, ExitStack]]:
    """A run that has sent two mails, and waits for a receiver with a slow disk; closed, it is fast."""
    powercut.need("strace")
    stuck = "fdatasync:delay_exit=600000000:when=3"
    with ExitStack() as slow:
        slow.enter_context(injection.into(injection.committer(receiver.pid), stuck))
        with journey.run(receiver.port, options=["--connections", "1"]) as forwarder:
            wait_for(lambda: forwarder.log.count(": sent ") == 2, "two mails are sent")
            yield forwarder, slow


def test_many_at_once(journey: Passage, receiver: Receiver) -> None:
    """Whoever is first does the work, and no mail is sent twice."""
    with ExitStack() as stack:
        names = [f"run{number}" for number in range(4)]
        runs = [stack.enter_context(journey.run(receiver.port, name=name)) for name in names]
        assert [run.end() for run in runs] == [os.EX_OK] * 4
        assert sum(run.log.count(": sent ") for run in runs) == MAILS
    assert journey.finish(receiver) == {1: MAILS}


def test_a_second_run_ends_quietly(journey: Passage, receiver: Receiver) -> None:
    with in_the_middle(journey, receiver) as (first, slow):
        assert another(journey, receiver) == (os.EX_OK, "")
        assert first.process.poll() is None
        slow.close()
        assert first.end() == os.EX_OK
        assert first.log.count(": sent ") == MAILS
    assert journey.finish(receiver) == {1: MAILS}


def test_a_stopped_run_keeps_the_lock(journey: Passage, receiver: Receiver) -> None:
    with in_the_middle(journey, receiver) as (first, slow):
        first.process.send_signal(signal.SIGSTOP)
        slow.close()
        assert another(journey, receiver) == (os.EX_OK, "")
        first.process.send_signal(signal.SIGCONT)
        assert first.end() == os.EX_OK
    assert journey.finish(receiver) == {1: MAILS}


def test_a_killed_run_has_no_lock(journey: Passage, receiver: Receiver) -> None:
    """The next one does the rest; what was under way may come twice."""
    with in_the_middle(journey, receiver) as (first, slow):
        first.kill()
        slow.close()
        code, log = another(journey, receiver)
        assert code == os.EX_OK
        assert log.count(": sent ") >= MAILS - 2
    assert set(journey.finish(receiver)) <= {1, 2}


def test_a_run_that_is_killed_while_it_is_stopped(journey: Passage, receiver: Receiver) -> None:
    with in_the_middle(journey, receiver) as (first, slow):
        first.process.send_signal(signal.SIGSTOP)
        assert another(journey, receiver) == (os.EX_OK, "")
        first.kill()
        slow.close()
        assert another(journey, receiver)[0] == os.EX_OK
    assert set(journey.finish(receiver)) <= {1, 2}
