"""Clients that send mail to a daemon without end, and the oracle: what must then lie in its spool.

    story = Story()
    with load(milter.address, story, clients=4, seed=1):
        ... whatever is to happen meanwhile ...
    assert story.faults(milter.files()) == []

Acknowledged means: the file is there, whole, with the true envelope. Not acknowledged: no file, or one
whole file with the true envelope. No mail is sent twice here, so a file's message tells which it is.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import daemon
from benno_common.mailfile import MailFileError
from mta import MTA, Header, message_of

Address = str | tuple[str, int]
Sizes = Callable[[random.Random], int]  # makes the size of the next body
Envelope = tuple[bytes, tuple[bytes, ...]]


@dataclass
class Story:
    """What was sent and what became of it, by the SHA-256 of the message. Clients share it."""

    sent: dict[bytes, Envelope] = field(default_factory=dict)
    accepted: set[bytes] = field(default_factory=set)
    archived: set[bytes] = field(default_factory=set)  # taken out of the spool
    replies: Counter[str] = field(default_factory=Counter)  # accepted, or the SMTP reply
    torn_off: int = 0  # connections that the milter, or its end, closed

    def faults(self, files: Iterable[Path]) -> list[str]:
        """What is not as it must be. Empty: all is well."""
        judged = [self.judge(path) for path in files]
        found = {key for key, _ in judged}
        faults = [fault for _, fault in judged if fault is not None]
        return faults + [
            f"lost: the mail of {self.sent[key][0]!r}" for key in self.accepted - found - self.archived
        ]

    def judge(self, path: Path) -> tuple[bytes, str | None]:
        """The key of the mail that a file holds, empty if it holds none; and what is wrong with it."""
        try:
            sender, recipients, message = daemon.read(path)
        except (MailFileError, OSError, AssertionError) as error:
            return b"", f"{path.name} is torn: {error!r}, {path.stat().st_size} octets"
        key = _key(message)
        if key not in self.sent:
            return key, f"{path.name} holds what nobody sent: {len(message)} octets"
        if self.sent[key] != (sender, recipients):
            return key, f"{path.name} has the envelope {sender!r} {recipients!r}"
        return key, None

    def take_out(self, path: Path) -> None:
        """Remove a whole file, as the archiver does: from now on it need not be there."""
        key = _key(daemon.read(path)[2])
        path.unlink()
        self.archived.add(key)

    def forget(self) -> None:
        """The files are gone, and nothing of what was sent so far may come again."""
        self.sent.clear()
        self.accepted.clear()


def _key(message: bytes) -> bytes:
    return hashlib.sha256(message).digest()


class Sender(threading.Thread):
    """Sends one mail after the other until told to stop. Who derives from it says how, in `run()`."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.ending = threading.Event()


@contextmanager
def at_work(senders: Sequence[Sender]) -> Iterator[None]:
    """They send while the body runs. At the end each finishes its mail, or loses it."""
    for sender in senders:
        sender.start()
    try:
        yield
    finally:
        for sender in senders:
            sender.ending.set()
        for sender in senders:
            sender.join(60)
            assert not sender.is_alive(), "a client waits for an answer in vain"


class Client(Sender):
    """On a new connection when it loses one."""

    def __init__(self, address: Address, story: Story, name: str, sizes: Sizes) -> None:
        super().__init__(name)
        self._address = address
        self._story = story
        self._sizes = sizes

    def run(self) -> None:
        chance = random.Random(self.name)
        numbers = itertools.count()
        while not self.ending.is_set():
            try:
                with MTA(self._address) as mta:
                    mta.negotiate()
                    while not self.ending.is_set():
                        self._deliver(mta, next(numbers), chance)
                        mta.recorded.clear()
            except (OSError, EOFError):
                self._story.torn_off += 1
                self.ending.wait(0.02)

    def _deliver(self, mta: MTA, number: int, chance: random.Random) -> None:
        sender = b"%s.%d@example.org" % (self.name.encode(), number)
        recipients = [b"r%d.%d@example.net" % (number, one) for one in range(chance.choice([1, 2, 30]))]
        headers: list[Header] = [(b"Subject", b" " + sender), (b"X-Real-RcptTo", b" <forged@x>")]
        body = chance.randbytes(self._sizes(chance))
        key = _key(message_of(headers, body))
        self._story.sent[key] = sender, tuple(recipients)
        verdict = mta.deliver(
            b"<" + sender + b">", [b"<" + one + b">" for one in recipients], headers, body, self.name
        )
        if verdict == "accepted":
            self._story.accepted.add(key)
        self._story.replies[verdict] += 1


def send(address: Address, body: bytes = b"hello\r\n", queue_id: str = "QUEUEID") -> str:
    """One mail on a connection of its own; the verdict."""
    with MTA(address) as mta:
        mta.negotiate()
        return mta.deliver(b"<a@b>", [b"<c@d>", b"<e@f>"], HEADERS, body, queue_id)


HEADERS: list[Header] = [(b"Subject", b" hello"), (b"X-Real-RcptTo", b" <forged@x>")]


def as_kept(body: bytes = b"hello\r\n") -> tuple[bytes, tuple[bytes, ...], bytes]:
    """What `daemon.read()` must find of such a mail."""
    return b"a@b", (b"c@d", b"e@f"), message_of(HEADERS, body)


def small_and_large(chance: random.Random) -> int:
    """Most mails fit into memory, one in ten goes through a worker."""
    return chance.choice([0, 100, *[chance.randrange(20_000)] * 7, 70_000 + chance.randrange(600_000)])


def load(
    address: Address,
    story: Story,
    *,
    clients: int,
    seed: object,
    sizes: Sizes = small_and_large,
) -> AbstractContextManager[None]:
    """So many clients that send while the body runs."""
    return at_work([Client(address, story, f"{seed}.{number}", sizes) for number in range(clients)])
