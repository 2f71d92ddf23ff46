"""SIGKILL before the k-th system call of a mail in benno-smtp, for every k: a small one, a large one.

One thread at a time is counted: the committer's, which makes small mails durable; the worker's, which
writes large ones; the main one, which talks to the client. What was answered with 250 is kept, what was
not is there whole or not at all. Each killed receiver is followed by another on the same directory.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import injection
import killing
import powercut
import receiver_daemon
from directories import contents
from load import Story
from smtp_load import Connection, make_message, note_accepted, note_sent
from tally import Tally

pytestmark = pytest.mark.system

ONE_WORKER = "from benno_common import maildrop; maildrop.WORKERS = 1"
SENDER, RECIPIENTS = b"a@b", (b"c@d", b"bcc@d")
SMALL = make_message(SENDER, b"hello\n.\r\n.\r\0")
LARGE = make_message(SENDER, os.urandom(600_000))
FILES = "openat,write,fadvise64,fdatasync,linkat,fsync,newfstatat,close"
TALK = "accept4,recvfrom,sendto,write"
COMMIT = ["linkat", "fsync", "newfstatat", "close"]


def by_bdat(port: int) -> str:
    with Connection(port, 20) as connection:
        return connection.send_chunks(SENDER, RECIPIENTS, SMALL)


def by_data(port: int) -> str:
    with Connection(port, 20) as connection:
        return connection.send(SENDER, RECIPIENTS, LARGE)


def main_thread(pid: int) -> int:
    return pid


CASES = [
    (by_bdat, injection.committer, FILES, ["openat", "write", "fadvise64", "fdatasync", *COMMIT]),
    (by_bdat, main_thread, TALK, ["accept4", "sendto", *["recvfrom", "sendto"] * 3]),
    (by_data, injection.committer, FILES, COMMIT),
    (by_data, injection.worker, FILES, ["openat", *["write", "fadvise64"] * 2, "fdatasync"]),
    (by_data, main_thread, TALK, ["accept4", "sendto", *["recvfrom", "sendto"] * 5, "recvfrom"]),
]


@pytest.mark.parametrize(
    ("send", "find", "traced", "expected"),
    [pytest.param(*case, id=f"{case[0].__name__}-{case[1].__name__}") for case in CASES],
)
def test_killed_before_every_call(
    tmp_path: Path,
    send: Callable[[int], str],
    find: Callable[[int], int],
    traced: str,
    expected: list[str],
    tally: Tally,
) -> None:
    powercut.need("strace")
    tally.what = "kill -9 before each call of a mail, receiver"
    inbox = tmp_path / "inbox"
    story, calls, _ = send_and_kill(inbox, send, find, traced)
    assert len(story.accepted) == len(contents(inbox)) == 1
    assert killing.is_within(expected, calls), calls
    empty(inbox)
    kept = killed = 0
    for kill in killing.kills(calls):
        story, _, dead = send_and_kill(inbox, send, find, traced, kill)
        left = contents(inbox)
        assert tally.round(story.faults(left), len(left)) == [], f"{kill} in {calls}"
        assert len(left) <= 1
        killed += dead
        kept += bool(left)
        empty(inbox)
    print(f"killed in {calls}: {killed}; {kept} times the mail was there")
    assert killed > 0.7 * len(killing.kills(calls))  # octets may come in one piece, or in two


def send_and_kill(
    inbox: Path,
    send: Callable[[int], str],
    find: Callable[[int], int],
    traced: str,
    *faults: str,
) -> tuple[Story, list[str], bool]:
    """What the client saw, the thread's calls, whether the receiver was killed."""
    story = Story()
    for message in (SMALL, LARGE):
        note_sent(story, message, SENDER, RECIPIENTS)
    with receiver_daemon.running(inbox, prelude=ONE_WORKER) as receiver:
        if find is injection.worker:  # it starts with the first large mail
            assert by_data(receiver.port).startswith("250")
            empty(inbox)
        with injection.into(find(receiver.pid), *faults, traced=traced) as trace:
            try:
                reply = send(receiver.port)
                assert reply.startswith("250"), reply
                note_accepted(story, SMALL if send is by_bdat else LARGE)
            except (EOFError, OSError):
                assert receiver.process.wait(10) == -signal.SIGKILL
        return story, trace.calls, receiver.process.poll() is not None


def empty(inbox: Path) -> None:
    for path in contents(inbox):
        path.unlink()


def test_killed_while_a_second_mail_of_the_connection_is_under_way(tmp_path: Path) -> None:
    """The first was answered and is kept; of the second there is nothing, and it is taken again."""
    powercut.need("strace")
    other = make_message(b"other@b", b"other")
    with receiver_daemon.running(tmp_path / "inbox") as receiver, Connection(receiver.port) as client:
        assert client.send(SENDER, RECIPIENTS, LARGE).startswith("250")
        with injection.into(injection.committer(receiver.pid), "linkat:signal=KILL:when=1"):
            with pytest.raises((EOFError, OSError)):
                client.send_chunks(b"other@b", RECIPIENTS, other)
            receiver.process.wait(10)
        assert receiver.mails() == [(SENDER, RECIPIENTS, LARGE)]
    with receiver_daemon.running(tmp_path / "inbox") as receiver, Connection(receiver.port) as client:
        assert client.send_chunks(b"other@b", RECIPIENTS, other).startswith("250")
        assert receiver.mails() == [(SENDER, RECIPIENTS, LARGE), (b"other@b", RECIPIENTS, other)]
