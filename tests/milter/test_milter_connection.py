"""What a connection answers, and when: driven by hand, with a drop whose mails the test decides on."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest

import daemon
from benno_common.maildrop import SMALLEST_PIECE, MailDrop
from benno_common.networks import Networks
from benno_milter.connection import Connection
from benno_milter.shared import Shared
from milter_hand import CONTENT, ENVELOPE, MESSAGE, NOT_STORED, NOT_UNDERSTOOD, WHOLE, C, Hand, hand
from milter_packets import (
    ABORT,
    END,
    END_OF_HEADERS,
    NEW_SESSION,
    QUIT,
    body,
    header,
    macros,
    mail,
    negotiation,
    rcpt,
)
from mta import packet

PROGRESS = b"p"
TOO_SLOW = b"y451 4.3.0 The mail archive is too slow\0"
FULL = ("452 4.3.1 The mail archive is short of space", "7 octets free")


# The answer


def test_a_mail_is_answered_when_it_is_durable(mta: Hand, log: list[str]) -> None:
    mta.send(WHOLE)
    assert mta.replies() == [C], "MAIL is answered, the end of the message is not yet"
    (kept,) = mta.drop.mails
    assert kept.message == MESSAGE
    kept.keep()
    assert mta.replies() == [C]
    (line,) = log
    assert line.startswith("INFO QID: stored file=1.eml from=<a@b> nrcpt=1 size=21 ")
    assert line.endswith(" answered=yes")
    assert (mta.shared.statistics.mails, mta.shared.statistics.size) == (1, 21)
    mta.deliver_another()


def test_a_mail_that_cannot_be_kept(mta: Hand, log: list[str]) -> None:
    mta.send(WHOLE)
    mta.replies()
    mta.drop.mails[0].lose(OSError(28, "No space left on device"))
    assert mta.replies() == [NOT_STORED]
    (line,) = log
    assert line.startswith("WARNING QID: refused from=<a@b> nrcpt=1 ")
    assert "No space left on device" in line
    assert mta.shared.statistics.refused == 1
    mta.deliver_another()


def test_progress_while_the_disk_is_slow(mta: Hand) -> None:
    mta.send(WHOLE)
    mta.replies()
    answers = []
    for seconds in (1, 9, 11, 12, 20, 22, 23):
        mta.tick(seconds)
        answers.append(mta.replies())
    assert answers == [[], [], [PROGRESS], [], [], [PROGRESS], []]
    mta.drop.mails[0].keep()
    mta.tick(35)
    assert mta.replies() == [C]


def test_too_slow(mta: Hand, log: list[str]) -> None:
    """After the limit the MTA is told to come again; the mail that is kept later was not answered."""
    mta.send(WHOLE)
    mta.replies()
    mta.tick(239)
    assert mta.replies() == [PROGRESS]
    mta.tick(241)
    assert mta.replies() == [TOO_SLOW]
    assert "QID: refused" in log[0]
    assert "not durable after 240 s" in log[0]
    mta.tick(260)
    mta.drop.mails[0].keep()
    assert mta.replies() == []
    assert log[1].startswith("WARNING QID: stored")
    assert log[1].endswith(" answered=no")
    mta.deliver_another()


def test_a_piece_is_not_written_in_time(mta: Hand, log: list[str]) -> None:
    """The disk hangs in the middle of a mail: the rest is read, and its end is answered 451."""
    mta.send(ENVELOPE + CONTENT + body(b"x" * 65_000) * 2)
    mta.replies()
    (mail,) = mta.drop.mails
    assert mail.flushing
    mta.tick(239)
    assert not mail.aborted
    mta.tick(241)
    assert mail.aborted
    mta.send(body(b"y" * 65_000) * 3 + END)
    assert mta.replies()[-1] == TOO_SLOW
    assert len(mta.drop.mails) == 1
    assert "QID: refused" in log[0]
    assert "a piece was not written after 240 s" in log[0]
    mta.deliver_another()


def test_a_late_mail_is_not_taken_for_the_next_one(mta: Hand) -> None:
    mta.send(WHOLE)
    mta.tick(241)
    mta.send(WHOLE)
    mta.replies()
    first, second = mta.drop.mails
    first.keep()
    assert mta.replies() == [], "the first mail answered the second"
    second.lose(OSError("disk"))
    assert mta.replies() == [NOT_STORED]


def test_nothing_ticks_without_a_mail(mta: Hand) -> None:
    mta.send(ENVELOPE + CONTENT)
    mta.replies()
    mta.tick(1000)
    assert mta.replies() == []


def test_the_mta_leaves_during_the_commit(mta: Hand, log: list[str]) -> None:
    mta.send(WHOLE)
    mta.leave()
    (kept,) = mta.drop.mails
    assert kept.committing
    assert not kept.aborted
    kept.keep()
    assert log[0].startswith("WARNING QID: stored")
    assert log[0].endswith(" answered=no")
    assert mta.shared.empty.is_set()


def test_the_mta_leaves_and_the_mail_is_lost(mta: Hand, log: list[str]) -> None:
    mta.send(WHOLE)
    mta.leave()
    mta.drop.mails[0].lose(OSError("disk"))
    assert 'QID: refused from=<a@b> nrcpt=1 reply="none, the MTA has gone" reason=disk' in log[0]


def test_the_mta_leaves_within_a_mail(mta: Hand, log: list[str]) -> None:
    mta.send(ENVELOPE + CONTENT)
    mta.leave()
    assert mta.drop.mails[0].aborted
    assert log == []


def test_the_mta_leaves_on_a_real_disk(tmp_path: Path, log: list[str]) -> None:
    """The same with the real drop, whose disk waits until the MTA has gone."""
    gone = threading.Event()

    async def story() -> None:
        drop = MailDrop(str(tmp_path), died=lambda error: pytest.fail(repr(error)))
        drop.open()
        sync = drop.directory.sync
        drop.directory.sync = lambda: (gone.wait(60), sync())[1]  # type: ignore[method-assign]
        shared = Shared(drop, allowed=Networks())
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        await loop.connect_accepted_socket(lambda: Connection(shared), theirs)
        with ours:
            await loop.sock_sendall(ours, negotiation() + WHOLE)
            await asyncio.wait_for(loop.sock_recv(ours, 1000), 20)
        await asyncio.wait_for(shared.empty.wait(), 20)
        gone.set()
        await drop.close()

    asyncio.run(story())
    (line,) = log
    assert line.endswith(" answered=no")
    assert [daemon.read(path) for path in tmp_path.iterdir()] == [(b"a@b", (b"c@d",), MESSAGE)]


# Refused early


def test_refused_at_mail(mta: Hand, log: list[str]) -> None:
    mta.drop.refused = FULL
    mta.send(macros(b"M", b"i", b"QID") + mail(b"<a@b>"))
    assert mta.replies() == [b"y" + FULL[0].encode() + b"\0"]
    assert 'QID: refused from=<a@b> nrcpt=0 reply="452 4.3.1' in log[0]
    assert 'reason="7 octets free"' in log[0]
    assert mta.shared.statistics.refused == 1
    mta.drop.refused = None
    mta.send(ABORT)
    mta.deliver_another()


def test_what_follows_a_refused_mail_is_refused(mta: Hand) -> None:
    """An MTA that does not care is not told that its mail was kept."""
    mta.drop.refused = FULL
    mta.send(WHOLE)
    assert mta.replies() == [b"y" + FULL[0].encode() + b"\0", NOT_UNDERSTOOD]
    assert mta.drop.mails == []
    mta.drop.refused = None
    mta.deliver_another()


def test_the_drop_becomes_full_within_a_mail(mta: Hand) -> None:
    """Only MAIL asks; a mail that has begun is decided by its commit."""
    mta.send(ENVELOPE)
    mta.drop.refused = FULL
    mta.send(CONTENT + END)
    mta.drop.mails[0].keep()
    assert mta.replies() == [C, C]


def test_bad_address_is_refused_at_the_end(mta: Hand, log: list[str]) -> None:
    mta.send(mail(b"<a@b>") + rcpt(b"<c\r\nX: y>") + CONTENT)
    assert mta.replies() == [C]
    mta.send(macros(b"E", b"i", b"QID") + END)
    assert mta.replies() == [
        b"y553 5.1.3 Address contains a control character that cannot be archived\0"
    ]
    assert mta.drop.mails == []
    assert log[0].startswith("WARNING QID: refused from=<a@b> nrcpt=1 ")
    assert "\n" not in log[0]
    mta.deliver_another()


# What comes while something is waited for


def test_mail_pipelined_behind_the_end(mta: Hand) -> None:
    """It is handled after the answer, and the answers come in order."""
    mta.send(WHOLE + ABORT + WHOLE)
    assert mta.replies() == [C]
    assert len(mta.drop.mails) == 1
    mta.drop.mails[0].lose(OSError("disk"))
    assert mta.replies() == [NOT_STORED, C]
    mta.drop.mails[1].keep()
    assert mta.replies() == [C]


def test_mail_pipelined_behind_an_end_that_was_too_slow(mta: Hand) -> None:
    mta.send(WHOLE + mail(b"<next@b>"))
    mta.replies()
    mta.tick(241)
    assert mta.replies() == [TOO_SLOW, C]


@pytest.mark.parametrize("last", [QUIT, ABORT, NEW_SESSION], ids=["quit", "abort", "new session"])
def test_the_end_is_not_undone(mta: Hand, last: bytes) -> None:
    mta.send(WHOLE + last)
    assert mta.transport.ended is None
    mta.drop.mails[0].keep()
    assert mta.replies() == [C, C]
    assert not mta.drop.mails[0].aborted
    assert mta.transport.ended == ("closed" if last == QUIT else None)


def test_what_waits_is_bounded(mta: Hand) -> None:
    mta.send(WHOLE)
    junk = mail(b"<a@b>") + rcpt(b"<c@d>") + body(b"x" * SMALLEST_PIECE)
    mta.send(junk)
    assert not mta.transport.reading
    mta.drop.mails[0].keep()
    assert mta.transport.reading
    assert mta.drop.mails[1].flushing, "a piece as large as a buffer"
    mta.drop.mails[1].flushed()
    mta.send(END)
    mta.drop.mails[1].keep()
    assert mta.replies() == [C, C, C, C]


def test_reading_goes_on_while_a_mail_is_made_durable(mta: Hand) -> None:
    """Or nobody would see that the MTA leaves."""
    mta.send(WHOLE + mail(b"<a@b>"))
    assert mta.transport.reading


def test_little_more_is_read_while_a_piece_is_flushed(mta: Hand) -> None:
    """The next piece is there when it is wanted, and no more than that is held."""
    mta.send(ENVELOPE + body(b"x" * SMALLEST_PIECE))
    (kept,) = mta.drop.mails
    assert kept.flushing
    mta.send(body(b"y" * 1000))
    assert mta.transport.reading
    mta.send(body(b"z" * 65_000))
    assert not mta.transport.reading
    assert kept.message == b"x" * SMALLEST_PIECE
    kept.flushed()
    assert mta.transport.reading
    assert kept.flushing
    kept.flushed()
    mta.send(END)
    assert kept.message == b"x" * SMALLEST_PIECE + b"y" * 1000 + b"z" * 65_000
    kept.keep()
    assert mta.replies() == [C, C]


def test_what_came_with_the_piece_waits(mta: Hand) -> None:
    """The rest of a buffer: a header of 60 KB fills the mail, then the end and the next mail come."""
    mta.send(ENVELOPE + header(b"X", b"x" * 60_000) + body(b"x" * 5_000))
    mta.send(body(b"x" * 1_000) + END + mail(b"<next@b>"))
    (kept,) = mta.drop.mails
    assert kept.flushing
    kept.flushed()
    assert kept.committing
    kept.keep()
    assert mta.replies() == [C, C, C]


def test_the_mta_leaves_while_a_piece_is_flushed(mta: Hand) -> None:
    mta.send(ENVELOPE + body(b"x" * SMALLEST_PIECE))
    mta.leave()
    assert mta.drop.mails[0].aborted


def test_an_answered_piece_is_answered_although_it_is_flushed() -> None:
    with hand(offer=negotiation(2, 0x3F, 0x7F)) as mta:
        mta.send(ENVELOPE + body(b"x" * SMALLEST_PIECE))
        assert mta.replies() == [C, C, C]
        mta.drop.mails[0].flushed()
        mta.send(END)
        mta.drop.mails[0].keep()
        assert mta.replies() == [C]


# Replies that an old MTA wants

OLD = [
    ("connection", packet(b"C", b"mx\0U")),
    ("HELO", packet(b"H", b"mx\0")),
    ("MAIL", mail(b"<a@b>")),
    ("RCPT", rcpt(b"<c@d>")),
    ("DATA", packet(b"T")),
    ("unknown command", packet(b"U", b"FOO\0")),
    ("header", header(b"Subject", b"hi")),
    ("end of headers", END_OF_HEADERS),
    ("empty body", body(b"")),
    ("body", body(b"body\r\n")),
]
SILENT = [ABORT, NEW_SESSION, macros(b"M"), packet(b"D")]


def test_old_mta_gets_one_reply_to_each_command() -> None:
    with hand(offer=negotiation(2, 0x3F, 0x7F)) as mta:
        for name, command in OLD:
            mta.send(macros(command[4:5]) + command)
            assert mta.replies() == [C], name
        mta.send(END)
        assert mta.drop.mails[0].message == MESSAGE
        mta.drop.mails[0].keep()
        assert mta.replies() == [C]
        mta.send(b"".join(SILENT))
        assert mta.replies() == []


def test_no_negotiation_at_all() -> None:
    with hand(offer=b"") as mta:
        mta.send(ENVELOPE + CONTENT + END)
        assert mta.replies() == [C] * 5
        mta.drop.mails[0].keep()
        assert mta.replies() == [C]
