"""The mails that the demonstration sends: each is one that archives get wrong."""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass

FORGED = "forged X-REAL-RCPTTO"


@dataclass(frozen=True)
class Sample:
    """title: what it is. sender, recipients: the envelope, without brackets. message: the octets sent.

    bare: it has a bare LF, which an MTA may turn into CRLF before any milter sees the mail.
    """

    title: str
    sender: bytes
    recipients: tuple[bytes, ...]
    message: bytes
    bare: bool = False

    @property
    def message_id(self) -> bytes:
        """By which its file is found, whatever became of the rest."""
        return self.message.partition(b"Message-Id: ")[2].partition(b"\r\n")[0]

    @property
    def hidden(self) -> list[bytes]:
        """The recipients that stand nowhere in the message's headers."""
        headers = self.message.partition(b"\r\n\r\n")[0]
        return [recipient for recipient in self.recipients if recipient not in headers]


def samples() -> list[Sample]:
    """Eight mails."""
    content = random.Random(1).randbytes(300_000)  # noqa: S311 - it is to be the same each time
    attachment = base64.encodebytes(content).replace(b"\n", b"\r\n")
    crowd = tuple(b"member%d@b.example" % number for number in range(1, 1001))
    return [
        _sample("BCC", b"Subject: Offer\r\n", b"The offer.\r\n", (b"anna@b.example", b"eva@b.example")),
        _sample(
            "attachment, 400 kB",
            b"Subject: Plan\r\nMIME-Version: 1.0\r\nContent-Type: application/pdf\r\n"
            b"Content-Transfer-Encoding: base64\r\n",
            attachment,
        ),
        _sample("8-bit headers", b"Subject: Gr\xfc\xdfe aus M\xc3\xbcnchen\r\n", b"Gr\xfc\xdfe\r\n"),
        _sample(
            FORGED,
            b"Subject: Mine\r\n",
            b"Not for rival.\r\n",
            first=b"X-REAL-RCPTTO: <rival@c.example>\r\n",
        ),
        _sample("bare LF", b"Subject: LF\r\n", b"one\ntwo\r\n", bare=True),
        _sample("lines of dots", b"Subject: Dots\r\n", b".\r\n..\r\n.a\r\n\r\n.\r\n"),
        _sample("no sender", b"Subject: Undelivered\r\n", b"A bounce.\r\n", sender=b""),
        _sample("list, 1000 recipients", b"Subject: News\r\n", b"News.\r\n", crowd),
    ]


def _sample(
    title: str,
    headers: bytes,
    body: bytes,
    recipients: tuple[bytes, ...] = (b"anna@b.example",),
    *,
    sender: bytes = b"otto@a.example",
    first: bytes = b"",
    bare: bool = False,
) -> Sample:
    name = title.partition(",")[0].replace(" ", "-").encode()
    head = (
        b"From: otto@a.example\r\nTo: anna@b.example\r\nDate: Sun, 22 Nov 2026 06:00:00 +0000\r\n"
        b"Message-Id: <" + name + b"@demo.example>\r\n"
    )
    return Sample(title, sender, recipients, first + head + headers + b"\r\n" + body, bare)
