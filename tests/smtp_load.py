"""SMTP clients that send mail to benno-smtp without end, and remember what was accepted.

    story = Story()
    with load(receiver.port, story, clients=4, seed=1):
        ... whatever is to happen meanwhile ...
    assert story.faults(receiver.files()) == []

The story and its oracle are those of `load`. A client sends by BDAT or by DATA, as chance will have it.
Now and then it begins a mail and takes it back, or hangs up in the middle of one: the story says
nothing of such a mail, and no file may ever hold it.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager

import smtp
from load import Sender, Sizes, Story, at_work, small_and_large

_CHUNK = 100_000  # octets of one BDAT


class Connection(smtp.Client):
    """Sends by BDAT too."""

    def __enter__(self) -> Connection:
        return self

    def send_chunks(self, sender: bytes, recipients: Sequence[bytes], message: bytes) -> str:
        """One mail, whose first chunk goes with its commands; the last reply, as of `send()`."""
        rcpts = [b"RCPT TO:<" + recipient + b">" for recipient in recipients]
        commands = [b"MAIL FROM:<" + sender + b"> BODY=BINARYMIME", *rcpts]
        first, *chunks = _chunks(message)
        self.socket.sendall(b"".join(line + b"\r\n" for line in commands) + first)
        replies = [self.read() for _ in range(len(commands) + 1)]
        for chunk in chunks:
            self.socket.sendall(chunk)
            replies.append(self.read())
        refused = [reply for reply in replies if not reply.startswith("250")]
        if refused:
            self.command(b"RSET")
            return refused[0]
        return self.command(b"BDAT 0 LAST")

    def take_back(self, message: bytes) -> None:
        """Begin a mail that nobody is to get, and forget it."""
        if not self.envelope(b"taken.back@example.org", [b"nobody@example.net"]):
            self.socket.sendall(b"BDAT %d\r\n" % len(message) + message)
            self.read()
        self.command(b"RSET")

    def break_off(self, message: bytes) -> None:
        """Send a mail without its end. The connection is good for nothing else then."""
        self.envelope(b"broken.off@example.org", [b"nobody@example.net"])
        begin = random.Random(message).choice([b"BDAT %d LAST\r\n" % (len(message) + 1), b"DATA\r\n"])
        self.socket.sendall(begin + message)


def _chunks(message: bytes) -> list[bytes]:
    """With their commands."""
    pieces = [message[at : at + _CHUNK] for at in range(0, len(message), _CHUNK)]
    return [b"BDAT %d\r\n" % len(piece) + piece for piece in pieces]


def make_message(sender: bytes, body: bytes) -> bytes:
    """A message that only this sender sends, with a forged header; any octets, CRLF at its end."""
    return b"Subject: " + sender + b"\r\nX-Real-RcptTo: <forged@x>\r\n\r\n" + body + b"\r\n"


def note_sent(story: Story, message: bytes, sender: bytes, recipients: tuple[bytes, ...]) -> None:
    story.sent[hashlib.sha256(message).digest()] = sender, recipients


def note_accepted(story: Story, message: bytes) -> None:
    story.accepted.add(hashlib.sha256(message).digest())


class Client(Sender):
    """On a new connection when it loses one."""

    def __init__(self, port: int, story: Story, name: str, sizes: Sizes) -> None:
        super().__init__(name)
        self._port = port
        self._story = story
        self._sizes = sizes
        self._chance = random.Random(name)
        self._numbers = itertools.count()

    def run(self) -> None:
        while not self.ending.is_set():
            try:
                with Connection(self._port) as connection:
                    self._use(connection)
            except (OSError, EOFError):
                self._story.torn_off += 1
                self.ending.wait(0.02)

    def _use(self, connection: Connection) -> None:
        while not self.ending.is_set():
            whim = self._chance.random()
            if whim < 0.05:
                connection.break_off(self._chance.randbytes(self._sizes(self._chance)))
                return
            if whim < 0.1:
                connection.take_back(self._chance.randbytes(self._sizes(self._chance)))
            self._deliver(connection)
            connection.replies.clear()

    def _deliver(self, connection: Connection) -> None:
        number = next(self._numbers)
        sender = b"%s.%d@example.org" % (self.name.encode(), number)
        count = self._chance.choice([1, 2, 30])
        recipients = tuple(b"r%d.%d@example.net" % (number, one) for one in range(count))
        message = make_message(sender, self._chance.randbytes(self._sizes(self._chance)))
        note_sent(self._story, message, sender, recipients)
        send = self._chance.choice([connection.send, connection.send_chunks])
        reply = send(sender, recipients, message)
        if reply.startswith("250"):
            note_accepted(self._story, message)
        self._story.replies["accepted" if reply.startswith("250") else reply] += 1


def load(
    port: int, story: Story, *, clients: int, seed: object, sizes: Sizes = small_and_large
) -> AbstractContextManager[None]:
    """So many clients that send while the body runs."""
    return at_work([Client(port, story, f"{seed}.{number}", sizes) for number in range(clients)])
