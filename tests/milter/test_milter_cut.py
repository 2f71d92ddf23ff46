"""An MTA that vanishes: a recorded session cut at every octet, each prefix on a connection of its own.

Whatever was sent up to there, only mails whose end-of-message packet came completely may be in the
spool, whole and with their true envelope; no connection leaves a descriptor or a file behind. (The same
without a socket is in test_milter_streams.)
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

import daemon
from milter_memory import Archived
from milter_packets import packets_of
from mta import MTA, Header, message_of
from processes import descriptors
from waiting import wait_for

pytestmark = pytest.mark.slow

HEADERS: list[Header] = [
    (b"Subject", b" hi\n\tthere"),
    (b"X-REAL-RCPTTO", b" <forged@example.org>"),
    (b"X", b"none"),
]
MAILS: list[tuple[bytes, list[bytes], bytes]] = [
    (b"<sender@example.org>", [b"<first@example.net>", b"<second@example.net>"], b"one\r\n"),
    (b"", [b"root"], b""),
    (b"<a@b>", [b"<c@d>"], b"\xff\0\r\n.\r\n"),
]
ARCHIVED: list[Archived] = [
    (sender.strip(b"<>"), tuple(r.strip(b"<>") for r in recipients), message_of(HEADERS, body))
    for sender, recipients, body in MAILS
]
GROUP = 200  # connections at a time


@pytest.fixture
def milter(tmp_path: Path) -> Iterator[daemon.Daemon]:
    with daemon.running(tmp_path / "spool") as milter:
        yield milter


def record(milter: daemon.Daemon) -> bytes:
    """A session of three mails, with ABORT after the first, an aborted one, and a new session."""
    with MTA(milter.address) as mta:
        mta.negotiate()
        assert mta.deliver(MAILS[0][0], MAILS[0][1], HEADERS, MAILS[0][2]) == "accepted"
        mta.send(b"A")
        mta.mail(b"<lost@b>")
        mta.rcpt(b"<lost@d>")
        mta.header(b"Lost", b" mail")
        mta.send(b"A")
        assert mta.deliver(MAILS[1][0], MAILS[1][1], HEADERS, MAILS[1][2]) == "accepted"
        mta.send(b"K")
        assert mta.deliver(MAILS[2][0], MAILS[2][1], HEADERS, MAILS[2][2]) == "accepted"
        mta.send(b"Q")
        return bytes(mta.recorded)


def commands(stream: bytes) -> list[bytes]:
    return [packet[4:5] for packet in packets_of(stream)]


def expected(prefixes: Sequence[bytes]) -> Counter[Archived]:
    """The mails whose end was sent."""
    return Counter(mail for prefix in prefixes for mail in ARCHIVED[: commands(prefix).count(b"E")])


def send_all(milter: daemon.Daemon, prefixes: Sequence[bytes], *, patient: bool) -> None:
    """Each prefix on its own connection, many at once. patient: hang up after the last reply."""
    for start in range(0, len(prefixes), GROUP):
        group = prefixes[start : start + GROUP]
        with ExitStack() as stack:
            connections = [stack.enter_context(MTA(milter.address)) for _ in group]
            for mta, prefix in zip(connections, group, strict=True):
                mta.send_raw(prefix)
                if not patient:
                    mta.socket.close()
            for mta, prefix in zip(connections, group, strict=True):
                if patient:
                    read_replies(mta, prefix)


def read_replies(mta: MTA, prefix: bytes) -> None:
    for command in commands(prefix):
        if command == b"E":
            assert mta.verdict() == "accepted"
        elif command in {b"O", b"M"}:
            mta.reply()


@pytest.mark.parametrize("patient", [True, False], ids=["replies read", "gone at once"])
def test_every_end_of_a_session(milter: daemon.Daemon, *, patient: bool) -> None:
    before = descriptors(milter.pid)
    stream = record(milter)
    assert milter.mails() == ARCHIVED
    assert 600 < len(stream) < 1000
    prefixes = [stream[:place] for place in range(len(stream) + 1)]
    send_all(milter, prefixes, patient=patient)
    wait_for(lambda: descriptors(milter.pid) == before, "the descriptors of before, and no other")
    assert milter.stop() == 0
    found = Counter(milter.mails())
    if patient:
        assert found == expected([stream, *prefixes])
    else:
        assert found <= expected([stream, *prefixes])
        assert found >= expected([stream])
    assert "ERROR" not in milter.log


def test_end_within_a_large_mail(milter: daemon.Daemon) -> None:
    """More than is held in memory: the file has been begun on the disk."""
    before = descriptors(milter.pid)
    chunk = struct.pack("!I", 50_000) + b"B" + b"x" * 49_999
    for end in (0, 3, 4, 5, 6, 1000, len(chunk)):
        with MTA(milter.address) as mta:
            mta.negotiate()
            mta.mail(b"<a@b>")
            mta.rcpt(b"<c@d>")
            mta.body(b"x" * 1_000_000)
            mta.send_raw(chunk[:end])
    wait_for(lambda: descriptors(milter.pid) == before, "the descriptors of before, and no other")
    assert milter.files() == []
    assert milter.stop() == 0
    assert list(milter.spool.parent.glob(".*")) == [], "a staging directory was left"
