"""The disk of benno-smtp fills up while mail flows from benno-milter2smtp: 452, and all is kept.

An archiver that takes mail out now and then makes room; every run sends what there is room for, and
ends with 75 as long as something is left.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import powercut
import receiver_daemon
from load import Sizes
from passage import Forwarder, Passage
from powercut import MIB
from receiver_daemon import Receiver
from smtp_load import Connection, make_message
from waiting import wait_for

pytestmark = pytest.mark.system

# It looks for room once a second, and only when it has refused a mail.
ATTENTIVE = "from benno_common import maildrop; maildrop.RECHECK_SECONDS = 0.05"
NO_SPACE = "452 4.3.1 The mail archive is short of space"


@contextmanager
def on_a_small_disk(tmp_path: Path, *make_options: str) -> Iterator[tuple[Passage, Receiver]]:
    """A receiver with two megabytes, and a spool with more room."""
    (tmp_path / "spool").mkdir()
    with (
        powercut.disk(tmp_path, "ext4", 2 * MIB, *make_options) as disk,
        receiver_daemon.running(disk.path, prelude=ATTENTIVE) as receiver,
    ):
        yield Passage(tmp_path / "spool"), receiver


def archive(journey: Passage, receiver: Receiver) -> int:
    """Take all mail out of the import directory; how many mails."""
    files = receiver.files()
    for path in files:
        journey.story.take_out(path)
    return len(files)


def wait_for_room(receiver: Receiver) -> None:
    """Until the receiver has seen it."""
    with Connection(receiver.port) as client:
        wait_for(lambda: client.command(b"RSET") and takes(client, 500_000), "there is room")


def takes(client: Connection, size: int) -> bool:
    return client.command(b"MAIL FROM:<> SIZE=%d" % size).startswith("250")


def small(chance: random.Random) -> int:
    return chance.randrange(4_000, 12_000)


def middling(chance: random.Random) -> int:
    return chance.randrange(40_000, 60_000)


def large(chance: random.Random) -> int:
    """Written by a worker, not by the committer."""
    return chance.randrange(100_000, 300_000)


@pytest.mark.parametrize(
    ("count", "sizes", "make_options"),
    [(260, small, ()), (80, middling, ()), (25, large, ()), (30, small, ("-N", "24"))],
    ids=["small", "middling", "large", "inodes"],
)
def test_it_fills_up_and_is_emptied_again(
    tmp_path: Path, count: int, sizes: Sizes, make_options: tuple[str, ...]
) -> None:
    with on_a_small_disk(tmp_path, *make_options) as (journey, receiver):
        journey.fill(count, sizes)
        rounds = archived = 0
        while (run := journey.forward(receiver.port)).code == os.EX_TEMPFAIL:
            assert journey.faults(receiver) == [], f"seed {journey.seed}"
            assert NO_SPACE in run.log
            assert "held=0" in run.summary
            taken = archive(journey, receiver)
            archived += taken
            rounds += 1
            assert taken > 0
            wait_for_room(receiver)
        assert run.code == os.EX_OK, run.log
        assert journey.waiting() == []
        archived += archive(journey, receiver)
        assert journey.story.faults([]) == [], f"seed {journey.seed}"
        assert archived == count  # refused mails left nothing, so none comes twice
        assert rounds >= 1
        assert "takes no mail" not in receiver.log


def test_it_fills_up_while_an_archiver_is_at_work(tmp_path: Path) -> None:
    """Runs one after another, and room that comes while they go on."""
    with on_a_small_disk(tmp_path) as (journey, receiver):
        journey.fill(120, middling)
        codes = []
        while journey.waiting():
            with journey.run(receiver.port, options=["--connections", "2"]) as forwarder:
                while forwarder.process.poll() is None:
                    wait_for_a_refusal(forwarder)
                    archive(journey, receiver)
                codes.append(forwarder.end())
                assert codes[-1] in {os.EX_OK, os.EX_TEMPFAIL}, forwarder.log
            archive(journey, receiver)
            wait_for_room(receiver)
        assert codes[-1] == os.EX_OK
        assert journey.story.faults([]) == [], f"seed {journey.seed}"
        print(codes)


def wait_for_a_refusal(forwarder: Forwarder) -> None:
    """Another mail finds no room, or the run ends."""
    before = forwarder.log.count(NO_SPACE)
    wait_for(
        lambda: forwarder.log.count(NO_SPACE) > before or forwarder.process.poll() is not None,
        "a mail is refused, or the run ends",
    )


def test_a_mail_that_does_not_fit_does_not_stop_those_that_do(tmp_path: Path) -> None:
    """Its size is announced: it is refused at MAIL, kept, and the disk is as before."""
    with on_a_small_disk(tmp_path) as (journey, receiver):
        journey.put(make_message(b"big@b", random.randbytes(3 * MIB)), b"big@b")
        journey.fill(20, small)
        run = journey.forward(receiver.port)
        assert run.code == os.EX_TEMPFAIL
        assert run.summary == "sent=20 kept=1 held=0"
        assert len(journey.waiting()) == 1
        assert journey.faults(receiver) == [], f"seed {journey.seed}"
        assert f"{NO_SPACE} (to MAIL)" in run.log


def test_it_fills_up_in_the_middle_of_a_mail(tmp_path: Path) -> None:
    """The room is gone after MAIL: the content is read to its end and refused, by DATA and by BDAT."""
    with on_a_small_disk(tmp_path) as (_, receiver), Connection(receiver.port) as client:
        ballast = receiver.inbox / "lost+found" / "ballast"
        message = make_message(b"a@b", random.randbytes(400_000))
        status = os.statvfs(receiver.inbox)
        ballast.write_bytes(b"x" * (status.f_bavail * status.f_frsize - 100_000))
        assert client.send(b"a@b", [b"c@d"], message) == NO_SPACE
        assert client.send_chunks(b"a@b", [b"c@d"], message) == NO_SPACE
        assert receiver.files() == []
        ballast.unlink()
        assert client.send_chunks(b"a@b", [b"c@d"], message).startswith("250")
        assert receiver.mails() == [(b"a@b", (b"c@d",), message)]
