"""Mails as people and programs send them, and the story of what was accepted.

A message here is one that Postfix leaves as it is: with all headers that it would add, and with CRLF.
So what the archive must hold is what the client sent, to the octet.
"""

from __future__ import annotations

import base64
import itertools
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager

import smtp
from load import Sender, Story, at_work
from machines.machine import Machine
from smtp_load import note_accepted, note_sent

SMTP = 25
SUBMISSION = 587
RECEIVER = 2500

_numbers = itertools.count(1)


def letter(size: int = 1000, *, headers: bytes = b"") -> bytes:
    """A message like no other, with about so many octets of text, and a forged envelope."""
    number = next(_numbers)
    text = base64.encodebytes(random.Random(number).randbytes(size * 3 // 4)).replace(b"\n", b"\r\n")
    return (
        b"From: Anna <anna@example.org>\r\nTo: bert@example.net\r\n"
        b"Date: Sun, 22 Nov 2026 01:00:00 +0000\r\nMessage-Id: <%d@example.org>\r\n"
        b"Subject:  Gr\xc3\xbc\xc3\x9fe\r\n\tNr. %d \r\nX-Real-RcptTo: <forged@example.net>\r\n"
        % (number, number)
        + headers
        + b"\r\n.\r\n..\r\n"
        + text
    )


def send(
    story: Story,
    host: str,
    *messages: bytes,
    port: int = SMTP,
    sender: bytes = b"anna@example.org",
    recipients: tuple[bytes, ...] = (b"bert@example.net", b"bcc@example.net"),
    timeout: float = 60,
) -> list[str]:
    """One after the other by SMTP on one connection; the last reply to each."""
    replies = []
    with smtp.Client(port, timeout, host=host) as client:
        for message in messages:
            note_sent(story, message, sender, recipients)
            replies.append(client.send(sender, recipients, message))
            if replies[-1].startswith("250"):
                note_accepted(story, message)
    return replies


def sendmail(
    story: Story,
    machine: Machine,
    message: bytes,
    sender: bytes = b"cron@example.org",
    recipients: tuple[bytes, ...] = (b"bert@example.net", b"bcc@example.net"),
) -> None:
    """The same with sendmail(1) on the machine, which takes Unix lines."""
    note_sent(story, message, sender, recipients)
    addresses = [address.decode() for address in recipients]
    command = ["/usr/sbin/sendmail", "-i", "-f", sender.decode(), "--", *addresses]
    machine.run(*command, stdin=message.replace(b"\r\n", b"\n"))
    note_accepted(story, message)


class _Client(Sender):
    """On a new connection when it loses one."""

    def __init__(self, story: Story, host: str, sizes: Sequence[int], name: str) -> None:
        super().__init__(name)
        self._story = story
        self._host = host
        self._chance = random.Random(name)
        self._sizes = sizes

    def run(self) -> None:
        while not self.ending.is_set():
            try:
                self._send_some()
            except (OSError, EOFError):
                self._story.torn_off += 1
                self.ending.wait(0.2)

    def _send_some(self) -> None:
        letters = [letter(self._chance.choice(self._sizes)) for _ in range(5)]
        recipients = tuple(b"r%d@example.net" % n for n in range(self._chance.choice([1, 2, 30])))
        sender = self.name.encode() + b"@example.org"
        for reply in send(
            self._story, self._host, *letters, sender=sender, recipients=recipients, timeout=5
        ):
            self._story.replies["accepted" if reply.startswith("250") else reply] += 1


def load(
    story: Story, host: str, *, clients: int = 4, sizes: Sequence[int] = (100, 2000, 30_000, 300_000)
) -> AbstractContextManager[None]:
    """Clients that send while the body runs."""
    return at_work([_Client(story, host, sizes, f"client{number}") for number in range(clients)])
