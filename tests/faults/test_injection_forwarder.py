"""Each call of benno-milter2smtp fails, on the disk and on the network: all is kept or sent, none lost.

A run with one fault in it ends with the right exit code and without a traceback. Afterwards every mail
is in the spool or with the receiver, whole; the next run sends what is left. Mails that come twice are
no fault.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

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
OK, HELD, KEPT, CONFIG = os.EX_OK, os.EX_DATAERR, os.EX_TEMPFAIL, os.EX_CONFIG

# Where a call is made and fails, how, and with which exit code the run ends.
CASES = [
    # The spool is listed, each mail is read, the large one twice.
    (passage.worker, "getdents64", "EIO", [1], KEPT),
    (passage.worker, "openat", "EIO", [1, 3], KEPT),
    (passage.worker, "openat", "EACCES", [2], KEPT),
    (passage.worker, "openat", "EMFILE", [1, 3], KEPT),
    (passage.worker, "openat", "ENOENT", [2], OK),  # taken away by somebody else, as it seems
    (passage.worker, "read", "EIO", [1, 2, 3, 6, 7, 10], KEPT),
    # A mail that was sent is taken out.
    (passage.worker, "unlinkat", "EIO", [1], KEPT),
    (passage.worker, "unlinkat", "EROFS", [2], KEPT),
    (passage.worker, "unlinkat", "ENOENT", [1], OK),
    (passage.worker, "fsync", "EIO", [1, 2], KEPT),
    (passage.worker, "fsync", "ENOSPC", [1], KEPT),
    # The spool is opened, tried, locked.
    (passage.main_thread, "mkdirat", "EROFS", [1], CONFIG),
    (passage.main_thread, "mkdirat", "ENOSPC", [1], OK),  # a full spool is emptied all the same
    (passage.main_thread, "fsync", "EIO", [1], CONFIG),
    (passage.main_thread, "flock", "EAGAIN", [1], OK),
    (passage.main_thread, "flock", "EIO", [1], CONFIG),
    # The receiver is talked to.
    (passage.main_thread, "socket", "EMFILE", [1], KEPT),
    (passage.main_thread, "connect", "ECONNREFUSED", [1], KEPT),
    (passage.main_thread, "connect", "ENETUNREACH", [1], KEPT),
    (passage.main_thread, "sendto", "ECONNRESET", [1, 3, 5, 6], None),
    (passage.main_thread, "recvfrom", "ECONNRESET", [9, 15, 21], None),
]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    powercut.need("strace")
    with receiver_daemon.running(tmp_path_factory.mktemp("injection") / "inbox") as receiver:
        yield receiver


@pytest.fixture
def journey(tmp_path: Path, receiver: Receiver) -> Iterator[Passage]:
    """Two mails in a spool."""
    spool = tmp_path / "spool"
    spool.mkdir()
    journey = Passage(spool)
    journey.put(SMALL)
    journey.put(LARGE, b"large@b")
    yield journey
    for path in receiver.files():
        path.unlink()


def run(
    journey: Passage,
    port: int,
    find: Callable[[int], int],
    *faults: str,
    options: Sequence[str] = (),
) -> int:
    """One run with faults; its exit code. What happens is known to the program."""
    with journey.injected(port, find, *faults, options=options, prelude=[NOT_IN_MEMORY]) as (
        forwarder,
        trace,
    ):
        code = forwarder.end()
    assert trace.injected != [], forwarder.log
    assert "unexpected" not in forwarder.log
    return code


@pytest.mark.parametrize(
    ("find", "call", "error", "number", "code"),
    [
        pytest.param(find, call, error, number, code, id=f"{call}{number}-{error}-{find.__name__}")
        for find, call, error, numbers, code in CASES
        for number in numbers
    ],
)
def test_a_call_that_fails(
    journey: Passage,
    receiver: Receiver,
    find: Callable[[int], int],
    call: str,
    error: str,
    number: int,
    code: int | None,
    tally: Tally,
) -> None:
    tally.what = "a call fails, forwarder"
    ended = run(journey, receiver.port, find, f"{call}:error={error}:when={number}")
    assert ended in ({code} if code is not None else {OK, KEPT})
    assert set(journey.finish(receiver)) <= {1, 2}
    tally.round([], 2)


@pytest.mark.parametrize("number", [1, 4, 7, 8])
def test_a_file_that_ends_early_is_held_and_not_sent(
    journey: Passage, receiver: Receiver, number: int
) -> None:
    """So it looks when it is read; large ones also while they are sent."""
    assert run(journey, receiver.port, passage.worker, f"read:retval=0:when={number}") == HELD
    (held,) = journey.waiting()
    assert held.suffix == ".err"
    assert len(receiver.files()) == 1
    assert journey.faults(receiver) == []


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["renameat", "fsync"])
def test_sent_mail_that_cannot_be_moved_stays(
    journey: Passage, receiver: Receiver, tmp_path: Path, call: str, error: str
) -> None:
    sent = tmp_path / "sent"
    sent.mkdir()
    options = ["--keep-sent", str(sent)]
    fault = f"{call}:error={error}:when=1"
    assert run(journey, receiver.port, passage.worker, fault, options=options) == KEPT
    journey.finish(receiver, options)
    assert journey.story.faults(sent.iterdir()) == []


@pytest.mark.parametrize("call", ["renameat", "fsync"])
def test_refused_mail_that_cannot_be_held_stays(journey: Passage, call: str) -> None:
    with scripted.serving(script={"RCPT": ["550 5.1.1 no"]}) as server:
        assert run(journey, server.port, passage.worker, f"{call}:error=EIO") == KEPT
    assert journey.story.faults(journey.waiting()) == []


def test_without_locks_on_directories_a_hidden_file_is_locked(tmp_path: Path) -> None:
    """As on NFS."""
    journey = Passage(tmp_path)
    journey.put(MESSAGE, ENVELOPE.sender, ENVELOPE.recipients)
    with scripted.serving() as server:
        assert run(journey, server.port, passage.main_thread, "flock:error=ENOLCK:when=1") == OK
        assert len(server.mails) == 1
    assert os.listdir(tmp_path) == [".benno-milter2smtp.lock"]
