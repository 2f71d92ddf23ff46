"""MailDrop on a real event loop: mails of all sizes, and mails given up at every moment."""

from __future__ import annotations

import asyncio
import errno
import gc
import hashlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import daemon
import injection
from benno_common.durable import Draft
from benno_common.envelope import Envelope
from benno_common.filename import size_of
from benno_common.log import Stored
from benno_common.mail import Mail
from benno_common.maildrop import LARGEST_PIECE, MAX_WAITING, SMALLEST_PIECE, MailDrop
from committing import SECONDS, descriptors
from load import send
from waiting import wait_for

pytestmark = pytest.mark.slow

ENVELOPE = Envelope(b"a@example.org", (b"b@example.net", b"bcc@example.net"))
HEADER = b"Subject: hi\r\nX-REAL-RCPTTO: <forged@x>\r\n\r\n"
LARGE = HEADER + b"x" * (5 * LARGEST_PIECE)
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")

Story = Callable[[MailDrop], Awaitable[None]]


def on_a_loop(inbox: Path, story: Story, min_free: int = 0) -> None:
    """Open a drop, run the story, close it; the committer must live, and no descriptor be left."""
    deaths: list[BaseException] = []

    async def whole() -> None:
        drop = MailDrop(str(inbox), min_free=min_free, died=deaths.append)
        drop.open()
        before = descriptors()
        await asyncio.wait_for(story(drop), SECONDS)
        await until(lambda: descriptors() <= before, "no descriptor is left")
        await asyncio.wait_for(drop.close(), SECONDS)

    asyncio.run(whole())
    assert deaths == []


async def until(condition: Callable[[], object], what: str) -> None:
    """As wait_for(), without stopping the loop."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {SECONDS} s in vain: {what}"
        await asyncio.sleep(0.001)


async def fill(mail: Mail, message: bytes, piece: int = 30_000) -> None:
    """Give the message as a connection does: no further piece before one was flushed."""
    for start in range(0, len(message), piece):
        if mail.write(message[start : start + piece]):
            flushed = asyncio.Event()
            mail.flush(flushed.set)
            await flushed.wait()


async def keep(drop: MailDrop, message: bytes, piece: int = 30_000) -> Stored:
    mail = drop.begin(ENVELOPE)
    await fill(mail, message, piece)
    return await committed(mail)


def committed(mail: Mail) -> asyncio.Future[Stored]:
    answer: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()

    def tell(outcome: Stored | Exception) -> None:
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        elif not answer.cancelled():
            answer.set_result(outcome)

    mail.commit(tell)
    return answer


def kept(inbox: Path) -> list[bytes]:
    """The messages in the inbox; their envelopes are ours, and there is nothing else."""
    found = []
    for path in sorted(inbox.iterdir()):
        sender, recipients, message = daemon.read(path)
        assert (sender, recipients) == (ENVELOPE.sender, ENVELOPE.recipients)
        assert size_of(path.name) == path.stat().st_size
        found.append(message)
    return found


class Barrier:
    """Has a method wait in its thread: `reached` tells that it does, `open()` lets it go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.reached = threading.Event()
        self._go_on = threading.Event()
        method = getattr(owner, name)

        def waiting(*arguments: Any) -> Any:
            if threading.current_thread().name.startswith("worker"):
                self.reached.set()
                assert self._go_on.wait(SECONDS)
            return method(*arguments)

        monkeypatch.setattr(owner, name, waiting)

    async def wait(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.reached.wait, SECONDS)

    def open(self) -> None:
        self._go_on.set()


@pytest.fixture
def slow_write(monkeypatch: pytest.MonkeyPatch) -> Iterator[Barrier]:
    barrier = Barrier(monkeypatch, Draft, "write")
    yield barrier
    barrier.open()


@pytest.fixture
def slow_sync(monkeypatch: pytest.MonkeyPatch) -> Iterator[Barrier]:
    """Of large mails only: workers sync them, and the committer the small ones."""
    barrier = Barrier(monkeypatch, Draft, "sync")
    yield barrier
    barrier.open()


# Sizes


@pytest.mark.parametrize("piece", [1000, LARGEST_PIECE - 1, LARGEST_PIECE, 3 * LARGEST_PIECE])
@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        len(HEADER),
        LARGEST_PIECE - 1,
        LARGEST_PIECE,
        LARGEST_PIECE + 1,
        5 * LARGEST_PIECE,
        5 * LARGEST_PIECE + 1,
    ],
)
def test_mail_of_any_size(inbox: Path, size: int, piece: int) -> None:
    message = LARGE[:size] + b"y" * (size - len(LARGE))

    async def story(drop: MailDrop) -> None:
        stored = await keep(drop, message, piece)
        assert stored.name == os.listdir(inbox)[0]
        assert stored.size == size
        assert stored.sha256 == hashlib.sha256(message).hexdigest()
        assert stored.escaped == (size >= len(HEADER))

    on_a_loop(inbox, story)
    assert kept(inbox) == [message]


def test_says_when_enough_is_held(inbox: Path) -> None:
    async def story(drop: MailDrop) -> None:
        mail = drop.begin(ENVELOPE)
        assert [mail.write(b"x" * size) for size in (LARGEST_PIECE - 129, 0, 1, 0)] == [
            False,
            False,
            True,
            True,
        ]
        mail.abort()

    on_a_loop(inbox, story)
    assert kept(inbox) == []


def test_the_more_mails_are_under_way_the_less_each_may_hold(inbox: Path) -> None:
    async def story(drop: MailDrop) -> None:
        mails, pieces = [], []
        for _ in range(200):
            mails.append(drop.begin(ENVELOPE))
            pieces.append(drop.piece)
        assert [pieces[number - 1] for number in (1, 32, 64, 128, 200)] == [
            LARGEST_PIECE,
            LARGEST_PIECE,
            LARGEST_PIECE // 2,
            SMALLEST_PIECE,
            SMALLEST_PIECE,
        ]
        assert sorted(pieces, reverse=True) == pieces
        assert not mails[0].write(b"x" * (SMALLEST_PIECE - 65))
        assert mails[0].write(b"x")
        flushed = asyncio.Event()
        mails[0].flush(flushed.set)
        mails[0].abort()
        assert drop.mails == 200, "it is still being written"
        for mail in mails[2::2]:
            mail.abort()
        await asyncio.gather(*[committed(mail) for mail in mails[1::2]])
        await until(lambda: not drop.mails, "all have ended")
        assert drop.piece == LARGEST_PIECE

    on_a_loop(inbox, story)
    assert len(kept(inbox)) == 100


def test_a_disk_that_hangs_is_given_no_more(inbox: Path, slow_write: Barrier) -> None:
    """Senders give up and come again; each time a piece is left with the workers."""

    async def story(drop: MailDrop) -> None:
        rounds = 0
        while drop.refusal() is None:
            mail = drop.begin(ENVELOPE)
            assert mail.write(b"x" * LARGEST_PIECE)
            mail.flush(lambda: None)
            mail.abort()
            rounds += 1
            assert rounds <= MAX_WAITING // LARGEST_PIECE + 1
        assert drop.refusal() == (
            "451 4.3.0 The mail archive is not available",
            f"{rounds * LARGEST_PIECE} octets wait for the disk",
        )
        slow_write.open()
        await until(lambda: not drop.mails, "all were let go of")
        assert drop.refusal() is None

    on_a_loop(inbox, story)
    assert kept(inbox) == []


def test_the_reserve_is_kept_within_a_mail_too(inbox: Path) -> None:
    """And what it took of the disk is given back at once, not when its sender comes to its end."""

    async def story(drop: MailDrop) -> None:
        before = descriptors()
        mail = drop.begin(ENVELOPE)
        await fill(mail, b"x" * LARGEST_PIECE)
        await until(lambda: descriptors() == before + 1, "a file of the mail")
        drop.min_free = 1 << 60
        await fill(mail, b"x" * LARGEST_PIECE)
        assert descriptors() == before
        with pytest.raises(OSError, match="octets free, 1152921504606846976 are kept in reserve"):
            await committed(mail)

    on_a_loop(inbox, story)
    assert kept(inbox) == []


def test_two_hundred_mails_at_once(inbox: Path) -> None:
    messages = [
        HEADER + b"%06d" % number * (40_000 if number % 10 == 0 else 1) for number in range(200)
    ]

    async def story(drop: MailDrop) -> None:
        await asyncio.gather(*[keep(drop, message) for message in messages])

    on_a_loop(inbox, story)
    assert sorted(kept(inbox)) == sorted(messages)


def test_the_loop_never_touches_the_disk(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a mail is kept, or given up before, while or after a piece of it was flushed."""
    threads: dict[str, set[str]] = {}
    names = ("open", "write", "posix_fadvise", "fdatasync", "link", "fsync", "unlink", "stat", "close")

    def watch(name: str) -> None:
        call = getattr(os, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            threads.setdefault(name, set()).add(threading.current_thread().name.partition("_")[0])
            return call(*arguments, **named)

        monkeypatch.setattr(os, name, watched)

    async def story(drop: MailDrop) -> None:
        gc.collect()  # what earlier tests have left open is closed here, not below
        before = descriptors()
        for name in names:
            watch(name)
        await asyncio.gather(keep(drop, LARGE), keep(drop, HEADER))
        given_up = [drop.begin(ENVELOPE) for _ in range(3)]
        given_up[0].write(HEADER)
        given_up[1].write(LARGE)
        given_up[1].flush(lambda: None)
        await fill(given_up[2], LARGE)
        for mail in given_up:
            mail.abort()
        await until(lambda: descriptors() <= before, "no descriptor is left")
        monkeypatch.undo()

    on_a_loop(inbox, story)
    assert {"worker", "committer"} >= set().union(*threads.values()), threads
    assert threads["write"] == {"worker", "committer"}
    assert threads["link"] == {"committer"}


# Given up


def test_abort_before_anything_was_flushed(inbox: Path) -> None:
    async def story(drop: MailDrop) -> None:
        drop.begin(ENVELOPE).abort()
        mail = drop.begin(ENVELOPE)
        mail.write(HEADER)
        mail.abort()

    on_a_loop(inbox, story)
    assert kept(inbox) == []


def test_abort_while_a_piece_is_flushed(inbox: Path, slow_write: Barrier) -> None:
    """The worker finishes, then the file is given up; nobody is told to send more."""
    told: list[str] = []

    async def story(drop: MailDrop) -> None:
        mail = drop.begin(ENVELOPE)
        assert mail.write(LARGE)
        mail.flush(lambda: told.append("go on"))
        await slow_write.wait()
        mail.abort()
        slow_write.open()

    on_a_loop(inbox, story)
    assert kept(inbox) == []
    assert told == []


def test_abort_between_two_flushes(inbox: Path) -> None:
    async def story(drop: MailDrop) -> None:
        mail = drop.begin(ENVELOPE)
        await fill(mail, LARGE)
        mail.abort()
        assert (await keep(drop, HEADER)).size == len(HEADER)

    on_a_loop(inbox, story)
    assert kept(inbox) == [HEADER]


@pytest.mark.parametrize("message", [HEADER, LARGE], ids=["small", "large"])
def test_who_fails_when_told_does_not_stop_the_others(inbox: Path, message: bytes) -> None:
    """Those that wait for other mails of the same batch."""

    def fail(outcome: Stored | Exception) -> None:
        raise RuntimeError(outcome)

    async def story(drop: MailDrop) -> None:
        mails = [drop.begin(ENVELOPE) for _ in range(3)]
        for mail in mails:
            await fill(mail, message)
        mails[0].commit(fail)
        stored = await asyncio.gather(*map(committed, mails[1:]))
        assert len({one.name for one in stored}) == 2

    on_a_loop(inbox, story)
    assert kept(inbox) == [message] * 3


def test_closing_finishes_a_large_mail_that_nobody_waits_for(inbox: Path, slow_sync: Barrier) -> None:
    async def story(drop: MailDrop) -> None:
        mail = drop.begin(ENVELOPE)
        await fill(mail, LARGE)
        waiter = committed(mail)
        await slow_sync.wait()
        waiter.cancel()
        closing = asyncio.ensure_future(drop.close())
        await asyncio.sleep(0)
        slow_sync.open()
        await closing

    async def whole() -> None:
        drop = MailDrop(str(inbox), died=lambda _: None)
        drop.open()
        await story(drop)

    asyncio.run(asyncio.wait_for(whole(), SECONDS))
    assert kept(inbox) == [LARGE]


def test_closing_finishes_what_was_committed(inbox: Path) -> None:
    messages = [HEADER, LARGE] * 10

    async def whole() -> None:
        drop = MailDrop(str(inbox), died=lambda _: None)
        drop.open()
        answers = []
        for message in messages:
            mail = drop.begin(ENVELOPE)
            await fill(mail, message)
            answers.append(committed(mail))
        await drop.close()
        assert all(answer.done() for answer in answers)

    asyncio.run(asyncio.wait_for(whole(), SECONDS))
    assert sorted(kept(inbox)) == sorted(messages)


# Failures


@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("step", ["draft", "write", "sync", "link"])
def test_a_failure_is_told_at_commit_and_leaves_nothing(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    """Whichever piece it was; the rest of the mail is taken, and not kept."""
    calls: list[int] = []
    name = "__init__" if step == "draft" else step
    method = getattr(Draft, name)

    def failing(self: Draft, *arguments: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == nth:
            raise NO_SPACE
        return method(self, *arguments)

    async def story(drop: MailDrop) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Draft, name, failing)
            results = [
                await asyncio.gather(keep(drop, LARGE), return_exceptions=True) for _ in range(6)
            ]
        errors = [result[0] for result in results if isinstance(result[0], BaseException)]
        assert errors == [NO_SPACE]
        assert drop.refusal() is None
        await keep(drop, HEADER)

    on_a_loop(inbox, story)
    assert sorted(kept(inbox)) == sorted([HEADER, *[LARGE] * 5])


def test_a_small_mail_that_fails(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Draft, data: bytes) -> None:
        raise NO_SPACE

    async def story(drop: MailDrop) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Draft, "write", full)
            with pytest.raises(OSError, match="No space left"):
                await keep(drop, HEADER)
        await keep(drop, HEADER)

    on_a_loop(inbox, story)
    assert kept(inbox) == [HEADER]


def test_a_slow_sync_of_a_large_mail_holds_no_small_one_up(inbox: Path, slow_sync: Barrier) -> None:
    async def story(drop: MailDrop) -> None:
        large = asyncio.ensure_future(keep(drop, LARGE))
        await slow_sync.wait()
        for _ in range(10):
            await keep(drop, HEADER)
        assert not large.done()
        slow_sync.open()
        await large

    on_a_loop(inbox, story)
    assert len(kept(inbox)) == 11


def test_refuses_while_the_directory_is_gone_and_recovers(inbox: Path) -> None:
    away = inbox.with_name("away")

    async def story(drop: MailDrop) -> None:
        assert drop.refusal() is None
        os.rename(inbox, away)
        with pytest.raises(OSError, match="No such file"):
            await keep(drop, HEADER)
        refusal = drop.refusal()
        assert refusal
        assert refusal[0] == "451 4.3.0 The mail archive is not available"
        assert "No such file or directory" in refusal[1]
        os.rename(away, inbox)
        await until(lambda: drop.refusal() is None, "mail is taken again")
        await keep(drop, HEADER)

    on_a_loop(inbox, story)
    assert kept(inbox) == [HEADER]


def test_refuses_while_space_is_short_and_recovers(inbox: Path) -> None:
    async def story(drop: MailDrop) -> None:
        refusal = drop.refusal()
        assert refusal
        assert refusal[0] == "452 4.3.1 The mail archive is short of space"
        assert "are kept in reserve" in refusal[1]
        drop._committer._min_free = 1
        await until(lambda: drop.refusal() is None, "mail is taken again")

    on_a_loop(inbox, story, min_free=1 << 60)


def test_the_death_of_the_committer_is_told_on_the_loop(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths: list[tuple[str, type[BaseException]]] = []

    def died(error: BaseException) -> None:
        deaths.append((threading.current_thread().name, type(error)))

    async def whole() -> None:
        drop = MailDrop(str(inbox), died=died)
        drop.open()
        monkeypatch.setattr(Draft, "link", lambda *_: (_ for _ in ()).throw(SystemExit()))
        mail = drop.begin(ENVELOPE)
        mail.write(HEADER)
        answer = committed(mail)
        await until(lambda: deaths, "the death is told")
        assert not answer.done()

    asyncio.run(asyncio.wait_for(whole(), SECONDS))
    assert deaths == [(threading.main_thread().name, SystemExit)]
    wait_for(lambda: kept(inbox) == [], "nothing was kept")


def test_the_daemon_ends_with_its_committer(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be kept any more: no mail is accepted, and the service manager starts it anew."""
    broken = "from benno_common.durable import draft; draft.Draft.link = lambda *_: exit(1)"
    monkeypatch.setattr(daemon, "COMMAND", injection.command_with(broken))
    with daemon.running(inbox) as milter:
        with pytest.raises((EOFError, ConnectionError)):
            send(milter.address)
        assert milter.process.wait(SECONDS) == os.EX_SOFTWARE
        assert "ERROR: the committer ended, no mail can be kept: SystemExit(1)" in milter.log
    assert os.listdir(inbox) == []
