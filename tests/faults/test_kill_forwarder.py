"""SIGKILL before the k-th system call of a run of benno-milter2smtp, for every k; two mails, one large.

One thread at a time is counted: the main one, which opens and locks the spool and talks to the
receiver, and a single worker, which reads mails and takes them out. Afterwards every mail is in the
spool or with the receiver, and the next run, which no lock keeps out, sends what is left. A mail may
have come twice, never more often.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import daemon
import killing
import passage
import powercut
import receiver_daemon
import scripted
from forwarding import ENVELOPE, MESSAGE
from passage import Passage
from receiver_daemon import Receiver
from smtp_load import make_message
from tally import Tally

pytestmark = pytest.mark.system

SMALL = make_message(b"a@b", b"hello\n\0")
LARGE = make_message(b"large@b", os.urandom(150_000))
NOT_IN_MEMORY = "from benno_milter2smtp import parcel; parcel.SMALL = 50_000"  # for LARGE
DIRECTORY = "flock,mkdirat,unlinkat,fsync"
MAILS = "getdents64,openat,read,close,unlinkat,renameat,fsync"
TALK = "socket,connect,sendto,recvfrom,shutdown"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    powercut.need("strace")
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        yield receiver


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


def run_and_kill(
    receiver: Receiver,
    spool: Path,
    find: Callable[[int], int],
    traced: str,
    *faults: str,
    options: Sequence[str] = (),
) -> tuple[int, list[str]]:
    """One run with these faults, one that ends the work; exit code and thread's calls of the first."""
    journey = Passage(spool)
    journey.put(SMALL)
    journey.put(LARGE, b"large@b")
    with journey.injected(
        receiver.port, find, *faults, traced=traced, options=options, prelude=[NOT_IN_MEMORY]
    ) as (forwarder, trace):
        code = forwarder.end()
        assert code in {os.EX_OK, -signal.SIGKILL}, forwarder.log
    counts = journey.finish(receiver, options)
    assert set(counts) <= ({1, 2} if faults else {1})
    for file in receiver.files():
        file.unlink()
    return code, trace.calls


@pytest.mark.parametrize(
    ("find", "traced", "expected"),
    [
        (passage.main_thread, DIRECTORY, ["mkdirat", "unlinkat", "fsync", "flock"]),
        (passage.main_thread, TALK, ["socket", "connect", *["recvfrom", "sendto"] * 5]),
        (
            passage.worker,
            MAILS,
            ["getdents64", "openat", "read", "close", "openat", "read", "unlinkat", "fsync"],
        ),
    ],
    ids=["directory", "talk", "mails"],
)
def test_killed_before_every_call(
    spool: Path,
    receiver: Receiver,
    find: Callable[[int], int],
    traced: str,
    expected: list[str],
    tally: Tally,
) -> None:
    tally.what = "kill -9 before each call of a run, forwarder"
    runs = kill_before_every_call(receiver, spool, find, traced, expected)
    tally.rounds, tally.mails = runs - 1, 2 * runs


def kill_before_every_call(
    receiver: Receiver,
    spool: Path,
    find: Callable[[int], int],
    traced: str,
    expected: list[str],
    options: Sequence[str] = (),
) -> int:
    """How many times each of the two mails was sent for good."""
    code, calls = run_and_kill(receiver, spool, find, traced, options=options)
    assert code == os.EX_OK
    assert killing.is_within(expected, calls), calls
    codes = [
        run_and_kill(receiver, spool, find, traced, kill, options=options)[0]
        for kill in killing.kills(calls)
    ]
    print(f"{calls}: {Counter(codes)}")
    assert codes.count(-signal.SIGKILL) > 0.7 * len(codes)  # a reply may come in one piece, or in two
    return 1 + len(codes)


def test_killed_while_sent_mail_is_moved(tmp_path: Path, spool: Path, receiver: Receiver) -> None:
    """With --keep-sent: in the end all lie there, none twice."""
    sent = tmp_path / "sent"
    sent.mkdir()
    options = ["--keep-sent", str(sent)]
    times = kill_before_every_call(
        receiver, spool, passage.worker, "renameat,fsync", ["renameat", "fsync", "fsync"], options
    )
    senders = Counter(daemon.read(path)[0] for path in sent.iterdir())
    assert senders == {b"a@b": times, b"large@b": times}


@pytest.mark.parametrize("call", ["renameat", "fsync"])
def test_killed_while_a_refused_mail_is_held(spool: Path, call: str) -> None:
    """It is there, under the one name or the other; the next run holds it if it is not yet held."""
    powercut.need("strace")
    journey = Passage(spool)
    journey.put(MESSAGE, ENVELOPE.sender, ENVELOPE.recipients)
    with scripted.serving(script={"RCPT": ["550 5.1.1 no"]}) as server:
        kill = f"{call}:signal=KILL:when=1"
        with journey.injected(server.port, passage.worker, kill) as (forwarder, _):
            assert forwarder.end() == -signal.SIGKILL
        assert journey.story.faults(journey.waiting()) == []
        journey.forward(server.port)
    (held,) = journey.waiting()
    assert held.suffix == ".err"
    assert journey.story.faults([held]) == []
