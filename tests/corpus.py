"""Mails that have broken mail software, as an MTA's client sends them.

`corpus(n)` gives n mails; the first are named cases, the rest are made of them with seeded chance. Each
is what stands between DATA and the final dot, before dot-stuffing, with CRLF line ends unless the case
is about line ends.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

_HEAD = b"From: sender@example.org\r\nTo: list@example.net\r\nDate: Sun, 22 Nov 2026 01:00:00 +0000\r\n"


@dataclass(frozen=True)
class Case:
    """name: for failure messages. message: the octets. sender, recipients: raw, without brackets."""

    name: str
    message: bytes
    sender: bytes = b"sender@example.org"
    recipients: tuple[bytes, ...] = (b"first@example.net",)


def _mail(name: str, headers: bytes, body: bytes = b"body\r\n") -> Case:
    message_id = f"Message-Id: <{name}@example.org>\r\n".encode()
    return Case(name, _HEAD + message_id + headers + b"\r\n" + body)


def _named() -> list[Case]:
    rng = random.Random(1)
    attachment = base64.encodebytes(rng.randbytes(200_000)).replace(b"\n", b"\r\n")
    binary = rng.randbytes(5000).replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    return [
        _mail("plain", b"Subject: hello\r\n"),
        _mail("empty-body", b"Subject: nothing\r\n", b""),
        _mail("blank-lines", b"Subject: blank\r\n", b"\r\n\r\n\r\n"),
        _mail(
            "no-space",
            b"Subject:tight\r\nX-Two:  two blanks\r\nX-Tab:\ttab\r\nX-Empty:\r\nX-Blank: \r\n",
        ),
        _mail("folded", b"Subject: one\r\n two\r\n\tthree\r\n    four \r\n"),
        _mail(
            "eight-bit-header",
            b"Subject: Gr\xfc\xdfe aus M\xc3\xbcnchen\r\nX-Raw: \x80\x81\xfe\xff\r\n",
        ),
        _mail("eight-bit-body", b"Subject: 8\r\n", b"Gr\xfc\xdfe \x80\xff\r\n"),
        _mail("control-characters", b"Subject: a\x01b\x7fc\r\n", b"\x01\x02\x1a\x1b\x7f\r\n"),
        _mail("dots", b"Subject: dots\r\n", b".\r\n..\r\n...\r\n.a\r\nb.\r\n"),
        _mail("from-line", b"Subject: from\r\n", b"From here\r\n>From there\r\n"),
        _mail("trailing-blanks", b"Subject: x  \r\n", b"line  \r\n\t\r\n \r\n"),
        Case(
            "forged-first",
            b"X-REAL-RCPTTO: <spy@evil.example>\r\n" + _mail("forged-first", b"").message,
        ),
        _mail("forged", b"X-Real-MailFrom: <x@y>\r\nx-benno-gw: other\r\nRECIPIENT-TO: z\r\n"),
        _mail("forged-folded", b"Subject: a\r\n X-REAL-RCPTTO: <b@c>\r\nX-REAL-RCPTTO:\r\n <d@e>\r\n"),
        _mail("forged-prefix", b"X-Benno-Foreign-X-REAL-RCPTTO: <a@b>\r\nX-Benno-Foreign-: c\r\n"),
        _mail("forged-many", b"X-REAL-RCPTTO: <a@b>\r\n" * 1000),
        _mail(
            "forged-in-body", b"Subject: b\r\n", b"X-REAL-RCPTTO: <a@b>\r\n\r\nX-REAL-MAILFROM: <c>\r\n"
        ),
        _mail("many-headers", b"".join(b"X-H%d: %d\r\n" % (i, i) for i in range(500))),
        _mail("long-header", b"X-Long: " + b"word " * 180 + b"\r\n"),
        _mail("long-folded", b"X-Folded: start\r\n" + b" more of it and more\r\n" * 4000),
        _mail("long-line", b"Subject: long\r\n", b"x" * 100_000 + b"\r\nend\r\n"),
        _mail("high-line", b"Subject: high\r\n", b"\xff" * 900 + b"\r\n"),
        _mail("attachment", b"Subject: big\r\nContent-Transfer-Encoding: base64\r\n", attachment),
        _mail("binary-like", b"Subject: binary\r\n", binary + b"\r\n"),
        _mail(
            "chunk-border", b"Subject: border\r\n", b"y" * 65_533 + b"\r\n" + b"z" * 65_535 + b"\r\n"
        ),
        _mail(
            "mime", b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n", _MULTIPART
        ),
        _mail("bare-cr", b"Subject: a\rb\r\n", b"one\rtwo\r\r\nthree\r\n"),
        _mail("bare-lf", b"Subject: lf\r\n", b"one\ntwo\r\n"),
        _mail("nul", b"Subject: nul\r\n", b"one\0two\r\n\0\r\n"),
        _mail("encoded-words", b"Subject: =?utf-8?q?a=0D=0AX-REAL-RCPTTO:_v=40t.x?=\r\n"),
        _mail("received", b"Received: from a by b; Sun, 22 Nov 2026 00:00:00 +0000\r\n" * 20),
        _mail("return-path", b"Return-Path: <forged@example.org>\r\nBcc: hidden@example.net\r\n"),
        Case("null-sender", _mail("null-sender", b"").message, b""),
        Case("bcc", _mail("bcc", b"").message, b"a@b.example", (b"to@x.example", b"bcc@y.example")),
        Case("same-twice", _mail("same-twice", b"").message, b"a@b.example", (b"t@x.example",) * 2),
        Case("plus", _mail("plus", b"").message, b"a+b=c@d.example", (b"x+y/z%q!w@v.example",)),
        Case("quoted", _mail("quoted", b"").message, b'"a b"@c.example', (b'"x@y \\" <z>"@v.example',)),
        Case("case", _mail("case", b"").message, b"MiXeD@CaSe.Example", (b"UPPER@CASE.EXAMPLE",)),
        Case("verp", _mail("verp", b"").message, b"list-bounces+x=y.z@l.example", (b"x@y.example",)),
        Case("literal", _mail("literal", b"").message, b"a@[192.0.2.1]", (b"b@[192.0.2.2]",)),
        Case("words", _mail("words", b"").message, b"=?utf-8?q?a=40b?=@c.example", (b"d@e.example",)),
        Case("forty", _mail("forty", b"").message, b"a@b.example", _many(40)),
        Case("five-hundred", _mail("five-hundred", b"").message, b"a@b.example", _many(500)),
    ]


_MULTIPART = (
    b"preamble\r\n--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\n\xe4\xf6\xfc\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nX-REAL-RCPTTO: <inner@x>\r\n\r\ninner\r\n"
    b"--b--\r\nepilogue\r\n"
)


def _many(count: int) -> tuple[bytes, ...]:
    return tuple(b"user%d@example.net" % number for number in range(count))


def corpus(length: int, seed: int = 2026) -> list[Case]:
    """`length` mails, the named cases first; the same for the same seed."""
    return list(islice(cases(seed), length))


def cases(seed: int) -> Iterator[Case]:
    """The same without end."""
    yield from _named()
    rng = random.Random(seed)
    for number in count(len(_named())):
        pieces = [_line(rng) for _ in range(rng.randrange(1, 20))]
        body = b"".join(_text(rng) for _ in range(rng.randrange(40)))
        case = _mail(f"mixed-{number}", b"".join(pieces), body)
        recipients = tuple(rng.choice(_many(50)) for _ in range(rng.randrange(1, 8)))
        yield Case(case.name, case.message, b"s%d@example.org" % number, recipients)


def _line(rng: random.Random) -> bytes:
    names = (
        b"Subject",
        b"X-Real-RcptTo",
        b"x-REAL-mailfrom",
        b"RECIPIENT-to",
        b"X-Benno-GW",
        b"X-Benno-Foreign-X",
    )
    value = bytes(rng.choice(b'abc XYZ:<>@"=?\t\xe4\xff') for _ in range(rng.randrange(60)))
    fold = b"\r\n " + value.strip() + b"!" if rng.random() < 0.3 else b""
    return rng.choice(names) + b": v" + value + b"." + fold + b"\r\n"


def _text(rng: random.Random) -> bytes:
    return bytes(rng.choice(b"abcdefgh .XYZ\xe4\xff\x01=") for _ in range(rng.randrange(200))) + b"\r\n"
