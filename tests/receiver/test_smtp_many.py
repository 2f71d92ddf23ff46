"""Many clients at once, and many recipients: each mail has its own envelope and its own content."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import receiver_daemon
from receiver_daemon import Receiver
from smtp import Client

pytestmark = pytest.mark.slow

Mail = tuple[bytes, tuple[bytes, ...], bytes]

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        yield receiver


def test_fifty_sessions_at_once(receiver: Receiver) -> None:
    """Steps of fifty sessions in any order: each mail has its own envelope and its own content."""
    rng = random.Random(50)
    expected: Counter[Mail] = Counter()
    with ExitStack() as stack:
        steps = []
        for number in range(50):
            client = stack.enter_context(Client(receiver.port))
            steps.append(session(client, number, random.Random(number), expected))
        while steps:
            chosen = rng.choice(steps)
            if next(chosen, None) is None:
                steps.remove(chosen)
    assert Counter(receiver.mails()) == expected
    assert sum(expected.values()) > 100
    assert receiver.stop() == 0
    assert "ERROR" not in receiver.log


def session(
    client: Client,
    number: int,
    rng: random.Random,
    expected: Counter[Mail],
) -> Iterator[int]:
    """Mails that are finished, taken back or left unfinished, a step at a time."""
    for mail in range(6):
        sender = b"%d.%d@example.org" % (number, mail)
        recipients = tuple(b"%d.%d.%d@d" % (number, mail, to) for to in range(rng.randrange(1, 5)))
        assert client.command(b"MAIL FROM:<" + sender + b"> BODY=BINARYMIME").startswith("250")
        yield 1
        for recipient in recipients:
            assert client.command(b"RCPT TO:<" + recipient + b">").startswith("250")
            yield 1
        message = b""
        for _ in range(rng.randrange(5)):
            chunk = rng.randbytes(rng.choice([0, 10, 1000, 100_000]))
            message += chunk
            assert client.bdat(chunk).startswith("250")
            yield 1
        if rng.random() < 0.7:
            assert client.bdat(b"end", last=True).startswith("250")
            expected[sender, recipients, message + b"end"] += 1
        else:
            assert client.command(rng.choice([b"RSET", b"EHLO again", b"HELO again"])).startswith("250")
        yield 1


def test_a_thousand_recipients(receiver: Receiver) -> None:
    recipients = tuple(b"recipient%d@example.net" % number for number in range(1000))
    with Client(receiver.port) as client:
        assert client.send(b"a@b", recipients, MESSAGE).startswith("250")
    assert receiver.mails() == [(b"a@b", recipients, MESSAGE)]
