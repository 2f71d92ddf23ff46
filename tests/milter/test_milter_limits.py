"""What an MTA can make us hold or alter is bounded, or told. Connections driven by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benno_common.durable import Committer, Directory, Job
from benno_milter.connection import Connection
from milter_hand import CONTENT, ENVELOPE, C, Hand, HandTransport, hand
from milter_packets import END, mail, negotiation
from mta import packet

HELO = packet(b"H", b"client.test\0")


def test_an_mta_that_does_not_read_is_not_read(mta: Hand) -> None:
    """Its replies would pile up; once it reads, all of it is handled in order."""
    mta.connection.pause_writing()
    mta.send(ENVELOPE + CONTENT + END)
    assert not mta.transport.reading
    assert mta.replies() == []
    assert mta.drop.mails == []
    mta.connection.resume_writing()
    assert mta.transport.reading
    mta.drop.mails[0].keep()
    assert mta.replies() == [C, C]


def test_it_leaves_without_having_read(mta: Hand) -> None:
    mta.connection.pause_writing()
    mta.send(mail(b"<a@b>"))
    mta.leave()
    mta.connection.resume_writing()
    assert mta.shared.empty.is_set()
    assert mta.drop.mails == []


@pytest.mark.parametrize(("offered", "told"), [(0x1FFFFF, False), (0x0FFFFF, True), (0, True)])
def test_an_mta_that_takes_blanks_away(log: list[str], offered: int, told: bool) -> None:
    """With an old protocol the octets of a header cannot be told; the administrator hears of it."""
    with hand(offer=negotiation(flags=offered)):
        assert [line for line in log if "takes the blank off header values" in line] == log
        assert bool(log) == told


def test_who_comes_while_the_daemon_ends_is_not_kept(mta: Hand) -> None:
    mta.shared.draining = True
    transport = HandTransport("")
    Connection(mta.shared).connection_made(transport)
    assert transport.ended == "closed"


def test_mail_that_waits_for_a_hung_disk_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committer does not run here, as if its disk hung; then it does."""
    directory = Directory(str(tmp_path))
    directory.open()
    thread = Committer(directory, 0, report=lambda _: None, changed=lambda _: None, died=lambda _: None)
    names = iter("abc")
    for content in (b"12345", b"67890"):
        thread.submit(Job(content, None, names.__next__, lambda _: None))
    assert thread.waiting == 10
    thread.submit(Job(b"!", None, names.__next__, lambda _: None))
    assert thread.waiting == 11
    thread.start()
    thread.stop()
    thread.join(30)
    assert thread.waiting == 0
    directory.close()
