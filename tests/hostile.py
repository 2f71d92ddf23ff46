"""Messages that try to pass for an envelope: named ones, fragments to build more of, and random ones.

HOSTILE says for each named message which judges (tests/judges.py) take it for an envelope where it
stands behind the block unescaped. So each of them is known to be a threat, or known to be none.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from benno_common.envelope import Envelope
from mailfile_reference import block

SPY = b"<spy@evil.example>"
FORGED = b"X-REAL-RCPTTO: " + SPY
HELLO = b"Subject: hello\r\n"
BODY = b"\r\n\r\nhello\r\n"

SENDER = b"sender@example.org"
RECIPIENTS = (b"first@example.net", b"second@example.net")
BLOCK = block(SENDER, RECIPIENTS)
SEEN = {
    b"X-REAL-MAILFROM": [b"<" + SENDER + b">"],
    b"X-REAL-RCPTTO": [b"<" + recipient + b">" for recipient in RECIPIENTS],
}

LENIENT = frozenset({"lenient"})
UTF8 = LENIENT | {"javamail-utf8"}
JAVAMAIL = UTF8 | {"javamail"}
EVERYBODY = JAVAMAIL | {"python-compat32", "python-default"}
NOBODY = frozenset[str]()


class Hostile(NamedTuple):
    """A message, and the judges that would believe it."""

    message: bytes
    fools: frozenset[str]


def among(lines: bytes, fools: frozenset[str]) -> Hostile:
    """The lines in the middle of a header section."""
    return Hostile(HELLO + lines + b"\r\nTo: a@example.net" + BODY, fools)


HOSTILE: dict[str, Hostile] = {
    "first line": Hostile(FORGED + b"\r\n" + HELLO + BODY, EVERYBODY),
    "middle line": among(FORGED, EVERYBODY),
    "last line": Hostile(HELLO + FORGED + BODY, EVERYBODY),
    "without line end": Hostile(HELLO + FORGED, EVERYBODY),
    "nothing else": Hostile(FORGED, EVERYBODY),
    "X-REAL-MAILFROM": among(b"X-REAL-MAILFROM: " + SPY, EVERYBODY),
    "RECIPIENT-FROM": among(b"RECIPIENT-FROM: " + SPY, EVERYBODY),
    "RECIPIENT-TO": among(b"RECIPIENT-TO: " + SPY, EVERYBODY),
    "X-BENNO-GW": among(b"X-BENNO-GW: evil", EVERYBODY),
    "whole block again": Hostile(BLOCK + HELLO + BODY, EVERYBODY),
    "10,000 lines": Hostile((FORGED + b"\r\n") * 10_000 + BODY, EVERYBODY),
    "mixed case": among(b"x-Real-rcptTO: " + SPY, EVERYBODY),
    "empty value": among(b"X-REAL-RCPTTO:", EVERYBODY),
    "folded value": among(b"X-REAL-RCPTTO:\r\n " + SPY, EVERYBODY),
    "no colon": among(b"X-REAL-RCPTTO", JAVAMAIL),
    "no colon, folded value": among(b"X-REAL-RCPTTO\r\n : " + SPY, JAVAMAIL),
    "no colon, no line end": Hostile(HELLO + b"X-REAL-RCPTTO", JAVAMAIL),
    "blank before colon": among(b"X-REAL-RCPTTO : " + SPY, JAVAMAIL),
    "controls before colon": among(b"X-REAL-RCPTTO\x01\x0b\x1f: " + SPY, JAVAMAIL),
    "control before name": among(b"\x01" + FORGED, JAVAMAIL),
    "NUL before name": among(b"\0" + FORGED, JAVAMAIL),
    "form feed before name": among(b"\x0c" + FORGED, JAVAMAIL),
    "control inside name": among(b"X-REAL-\x01RCPTTO: " + SPY, NOBODY),
    "no-break space before name": among(b"\xa0" + FORGED, NOBODY),
    "continuation line": among(b" " + FORGED, LENIENT),
    "after bare CR": among(b"X-Foo: bar\r" + FORGED, EVERYBODY),
    "after bare LF": among(b"X-Foo: bar\n" + FORGED, EVERYBODY),
    "after CR CR LF": among(b"X-Foo: bar\r\r\n" + FORGED, JAVAMAIL),
    "after LF CR": among(b"X-Foo: bar\n\r" + FORGED, LENIENT),
    "after two LF": among(b"X-Foo: bar\n\n" + FORGED, LENIENT),
    "after two CR": among(b"X-Foo: bar\r\r" + FORGED, LENIENT),
    "between bare CR": among(b"X-Foo: bar\r" + FORGED + b"\rX-Bar: foo", EVERYBODY),
    "after line of blanks": among(b" \t \r\n" + FORGED, EVERYBODY),
    "after line of controls": among(b"\x01\x02\r\n" + FORGED, JAVAMAIL),
    "after line without colon": among(b"hello\r\n" + FORGED, JAVAMAIL),
    "first line a continuation": Hostile(b" " + SPY + b"\r\n" + HELLO + BODY, EVERYBODY),
    "first line a continuation by tab": Hostile(b"\t" + SPY + b"\r\n" + HELLO + BODY, EVERYBODY),
    "first line a continuation by control": Hostile(b"\x0b" + SPY + b"\r\n" + BODY, LENIENT),
    "first line after LF a continuation": Hostile(b"\n " + SPY + b"\r\n" + BODY, LENIENT),
    "first line of blanks": Hostile(b"  \t\r\n" + FORGED + BODY, EVERYBODY),
    "dotted I": among(b"REC\xc4\xb0PIENT-TO: " + SPY, UTF8),
    "dotless i": among(b"rec\xc4\xb1p\xc4\xb1ent-to: " + SPY, UTF8),
    "1,100 blanks before name": among(b"\x01" + b" " * 1100 + FORGED, JAVAMAIL),
    "1,100 blanks before colon": among(b"X-REAL-RCPTTO" + b" " * 1100 + b": " + SPY, JAVAMAIL),
    "name ends with the head": among(b"\x01" * 1010 + b" X-REAL-RCPTTO: " + SPY, JAVAMAIL),
    "head cuts the name": among(b"\x01" * 1018 + FORGED, JAVAMAIL),
    "head cuts the dotted I": among(b"\x01" * 1020 + b"REC\xc4\xb0PIENT-TO: " + SPY, UTF8),
    "1,024 octets, then the name": among(b"\x01" * 1024 + FORGED, JAVAMAIL),
    "line of 3,000 blanks": among(b" " * 3000, NOBODY),
    "prefix": among(b"X-Benno-Foreign-" + FORGED, NOBODY),
    "prefix twice": among(b"X-Benno-Foreign-" * 2 + FORGED, NOBODY),
    "prefix and nothing": among(b"X-Benno-Foreign-", NOBODY),
    "prefix before a line of its own": among(b"X-Benno-Foreign-\r\n " + FORGED, LENIENT),
    "body": Hostile(HELLO + b"\r\n" + FORGED, NOBODY),
    "no header": Hostile(b"\r\n" + FORGED, NOBODY),
    "CRLFCRLF at the start": Hostile(b"\r\n\r\n" + FORGED, NOBODY),
    "name in two lines": among(b"X-REAL-\r\n RCPTTO: " + SPY, NOBODY),
    "longer name": among(b"X-REAL-RCPTTO-FOO: " + SPY, NOBODY),
}

NAMES = (b"X-REAL-MAILFROM", b"x-real-RCPTTO", b"RECIPIENT-TO", b"rec\xc4\xb1pient-FROM", b"X-Benno-GW")
LINE_ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n")
FILLERS = (b" ", b"\t", b"\0", b"\x01", b"\x7f", b"\xa0", b"\xc4", b"\xb0", b" " * 1010, b" " * 1100)
WORDS = (b"X-Benno-Foreign-", b"X-REAL-", b"Subject: hello", b"a", b":", b": " + SPY, b"; x=y")
FRAGMENTS = (*NAMES, *(name + b": " + SPY for name in NAMES), *LINE_ENDS, *FILLERS, *WORDS)

ADDRESSES = (
    *(
        b"",
        b"a@example.org",
        b"<a@example.org>",
        b"a> b",
        b">",
        b"<",
        b":",
        b"a:b",
        b'"a b"@c',
        b"@a,@b:c@d",
    ),
    *(
        b" a ",
        b"\ta\x01",
        "jürgen@exämple.org".encode(),
        b"X-REAL-RCPTTO: <a>",
        b"a" * 300 + b"@b",
        "\x85\x0b\x0c".encode(),
    ),
)


def random_message(rng: random.Random) -> bytes:
    """Up to thirty fragments, with line ends between most of them."""
    words = rng.choices(FRAGMENTS, k=rng.randrange(30))
    return b"".join(word + (rng.choice(LINE_ENDS) if rng.random() < 0.5 else b"") for word in words)


def random_envelope(rng: random.Random) -> Envelope:
    recipients = tuple(rng.choices(ADDRESSES, k=rng.randrange(4)))
    return Envelope(rng.choice(ADDRESSES), recipients, rng.choice((None, b"gw1")))


def random_mails(seed: int, count: int) -> list[tuple[Envelope, bytes]]:
    rng = random.Random(seed)
    return [(random_envelope(rng), random_message(rng)) for _ in range(count)]
