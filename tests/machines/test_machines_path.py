"""The units that forward each mail at once, instead of the cron job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from machines import sending
from machines.site import INBOX, Pair
from waiting import wait_for

pytestmark = pytest.mark.system

UNITS = ("benno-export2archive.path", "benno-export2archive.timer")
SECONDS = 5.0


def test_within_seconds(pair: Pair) -> None:
    """A mail, a thousand at once, and one more; a held mail that lies there starts nothing."""
    held = pair.mail.path(INBOX) / "1795314189.346628.e278f6d6467a7d1.S=99.eml.err"
    held.write_bytes(b"torn")
    with _enabled(pair):
        # The best of some: a busy machine takes longer to start a program.
        assert min(_send_one(pair) for _ in range(5)) < SECONDS
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(lambda _: _send_many(pair, 250), range(4)))
        pair.settle()
        assert len(pair.story.accepted) == len(pair.inbox()) == 1005
        wait_for(lambda: not _is_busy(pair), "the forwarder is done")
        runs = _runs(pair)
        _send_one(pair)
        wait_for(lambda: not _is_busy(pair), "the forwarder is done")
        assert 1 <= _runs(pair) - runs <= 2, "it runs without mail"
    assert held.read_bytes() == b"torn"


@contextmanager
def _enabled(pair: Pair) -> Iterator[None]:
    pair.mail.run("systemctl", "enable", "--now", *UNITS)
    try:
        yield
    finally:
        pair.mail.run("systemctl", "disable", "--now", *UNITS)


def _send_one(pair: Pair) -> float:
    """Seconds until it is in the archive."""
    there, begin = len(pair.inbox()), time.monotonic()
    sending.send(pair.story, pair.mail.address, sending.letter())
    wait_for(lambda: len(pair.inbox()) == there + 1, "the mail is in the archive")
    return time.monotonic() - begin


def _send_many(pair: Pair, count: int) -> None:
    letters = [sending.letter(500) for _ in range(count)]
    replies = sending.send(pair.story, pair.mail.address, *letters)
    assert all(reply.startswith("250") for reply in replies), replies


def _is_busy(pair: Pair) -> bool:
    state = pair.mail.run("systemctl", "show", "-P", "ActiveState", "benno-export2archive.service")
    return state.strip() not in {"inactive", "failed"}


def _runs(pair: Pair) -> int:
    log = pair.mail.run("journalctl", "-q", "-b", "-o", "cat", "-u", "benno-export2archive.service")
    return log.count("ended: ")
