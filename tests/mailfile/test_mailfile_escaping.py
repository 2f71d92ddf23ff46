"""Which lines are escaped, and where the header section ends: a table for each clause."""

from __future__ import annotations

import pytest

from benno_common.mailfile import PREFIX, Encoder, Unescaper
from mailfile_streams import crumbs, octets, run

HELLO = b"Subject: hello\r\n"
FORGED = b"X-REAL-RCPTTO: <a>"
ENDS = (b"\r\n\r\nbody", b"\n", b"\r", b"")


def case(name: str, *values: object) -> object:
    return pytest.param(*values, id=name)


def encode(message: bytes) -> bytes:
    return run(Encoder(None), [message])


def check(message: bytes, expected: bytes) -> None:
    assert encode(message) == expected
    assert run(Encoder(None), crumbs(message)) == expected
    assert run(Unescaper(), [expected]) == message


ESCAPED_ANYWHERE = [
    case("X-REAL-MAILFROM", b"X-REAL-MAILFROM: <a>"),
    case("X-REAL-RCPTTO", FORGED),
    case("RECIPIENT-FROM", b"RECIPIENT-FROM: <a>"),
    case("RECIPIENT-TO", b"RECIPIENT-TO: <a>"),
    case("X-BENNO-GW", b"X-BENNO-GW: gw"),
    case("lower case", b"x-benno-gw: gw"),
    case("mixed case", b"Recipient-To: a"),
    case("no blank after the colon", b"X-BENNO-GW:gw"),
    case("nothing after the colon", b"X-BENNO-GW:"),
    case("no colon", b"X-BENNO-GW"),
    case("no colon, blanks after", b"X-BENNO-GW \t"),
    case("blank before", b" X-BENNO-GW: gw"),
    case("tab before", b"\tX-BENNO-GW: gw"),
    case("controls before", b"\0\x01\x1f X-BENNO-GW: gw"),
    case("blank before the colon", b"X-BENNO-GW : gw"),
    case("controls before the colon", b"X-BENNO-GW\x0b\x0c\0: gw"),
    case("control inside", b"X-BEN\x01NO-GW: gw"),
    case("blank inside", b"X-BENNO -GW: gw"),
    case("DEL inside", b"X-BENNO\x7f-GW: gw"),
    case("8-bit octets around", b"\xa0X-BENNO-GW\xff: gw"),
    case("dotted I", b"REC\xc4\xb0P\xc4\xb0ENT-TO: a"),
    case("dotless i", b"rec\xc4\xb1p\xc4\xb1ent-to: a"),
    case("half a dotted I inside", b"X-BENNO\xc4-\xb0GW: gw"),
    case("prefix", PREFIX),
    case("prefix and more", PREFIX + b"Foo: bar"),
    case("prefix twice", PREFIX * 2),
    case("prefix and a forged line", PREFIX + FORGED),
    case("1,024 blanks", b" " * 1024),
    case("1,025 blanks", b" " * 1025),
    case("1,024 octets of 8 bit", b"\xff" * 1024),
    case("1,024 octets, then a name", b"\x01" * 1024 + FORGED),
    case("a name begins in the head", b" " * 1020 + FORGED),
    case("1,024 octets and half a name", b" " * 1018 + b"X-REAL"),
    case("a name ends with the head", b" " * 1011 + FORGED),
    case("a colon after the head", b"X-BENNO-GW" + b" " * 1014 + b": gw"),
    case("a colon ends the head", b"X-BENNO-GW" + b" " * 1013 + b": gw"),
    case("the head cuts a dotted I", b" " * 1020 + b"REC\xc4\xb0PIENT-TO: a"),
]

UNTOUCHED_ANYWHERE = [
    case("another name", b"Subject: X-BENNO-GW: gw"),
    case("longer name", b"X-BENNO-GW-FOO: gw"),
    case("shorter name", b"X-BENNO-G: gw"),
    case("name after another letter", b"aX-BENNO-GW: gw"),
    case("second word", b"X-BENNO-GW foo: gw"),
    case("colon first", b":X-BENNO-GW: gw"),
    case("other umlaut", b"REC\xc3\xacPIENT-TO: a"),
    case("prefix in another case", b"x-benno-foreign-Foo: bar"),
    case("prefix without its end", b"X-Benno-Foreign: bar"),
    case("prefix after a letter", b"a" + PREFIX),
    case("1,023 octets and no name", b"a" * 1023),
    case("1,024 octets of another name", b"a" * 1024),
    case("1,024 octets with a colon", b"a:" + b" " * 1022),
    case("1,024 octets, half a name and a colon", b"X-REAL:" + b" " * 1017),
    case("1,024 octets, half a name and more", b"X-BENNO-GX" + b" " * 1014),
]

# Harmless in the middle; at the top such a line would continue the last line of our block.
ESCAPED_AT_THE_TOP = [
    case("blank", b" "),
    case("tab", b"\t"),
    case("NUL", b"\0"),
    case("control", b"\x1f"),
    case("blank and text", b" hello"),
    case("blank and a field", b" Subject: hello"),
    case("1,023 blanks", b" " * 1023),
]


@pytest.mark.parametrize("line", ESCAPED_ANYWHERE)
def test_escaped(line: bytes) -> None:
    for end in ENDS:
        check(line + end, PREFIX + line + end)
        check(HELLO + line + end, HELLO + PREFIX + line + end)


@pytest.mark.parametrize("line", UNTOUCHED_ANYWHERE)
def test_untouched(line: bytes) -> None:
    for end in ENDS:
        check(line + end, line + end)
        check(HELLO + line + end, HELLO + line + end)


@pytest.mark.parametrize("line", ESCAPED_AT_THE_TOP)
@pytest.mark.parametrize(
    "before", [b"", b"\n", b"\r", b"\n\n\r"], ids=["nothing", "LF", "CR", "several"]
)
def test_escaped_as_first_line_only(line: bytes, before: bytes) -> None:
    check(before + line + b"\r\n", before + PREFIX + line + b"\r\n")
    check(HELLO + line + b"\r\n", HELLO + line + b"\r\n")


def test_visible_first_octet_is_not_a_continuation() -> None:
    check(b"!hello\r\n" + HELLO, b"!hello\r\n" + HELLO)
    check(b"\x7fhello\r\n" + HELLO, b"\x7fhello\r\n" + HELLO)


E = PREFIX + b"X-BENNO-GW"
G = b"X-BENNO-GW"
SECTIONS = [
    case("empty message", b"", b""),
    case("LF is a line end", b"a\n" + G + b"\nb", b"a\n" + E + b"\nb"),
    case("CR is a line end", b"a\r" + G + b"\rb", b"a\r" + E + b"\rb"),
    case("LF CR is two", b"a\n\r" + G, b"a\n\r" + E),
    case("each line of several", G + b"\r" + G + b"\n" + G, E + b"\r" + E + b"\n" + E),
    case("ends at CRLFCRLF", b"a\r\n\r\n" + G, b"a\r\n\r\n" + G),
    case("last line before its end", G + b"\r\n\r\n" + G, E + b"\r\n\r\n" + G),
    case("ends at a CRLF at the start", b"\r\n" + G, b"\r\n" + G),
    case("a blank after it is body", b"\r\n hello", b"\r\n hello"),
    case("not at a CR at the start", b"\r" + G, b"\r" + E),
    case("not at an LF at the start", b"\n" + G, b"\n" + E),
    case("not at LF CRLF at the start", b"\n\r\n" + G, b"\n\r\n" + E),
    case("not at CR CRLF at the start", b"\r\r\n" + G, b"\r\r\n" + E),
    case("at CRLFCRLF at the start", b"\r\n\r\n" + G, b"\r\n\r\n" + G),
    case("not at two LF", b"a\n\n" + G, b"a\n\n" + E),
    case("not at two CR", b"a\r\r" + G, b"a\r\r" + E),
    case("not at CR CRLF", b"a\r\r\n" + G, b"a\r\r\n" + E),
    case("not at CRLF CR CRLF", b"a\r\n\r\r\n" + G, b"a\r\n\r\r\n" + E),
    case("not at CRLF LF", b"a\r\n\n" + G, b"a\r\n\n" + E),
    case("not at LF CRLF", b"a\n\r\n" + G, b"a\n\r\n" + E),
    case("not at CRLF CR", b"a\r\n\r" + G, b"a\r\n\r" + E),
    case("at LF CRLF CRLF", b"a\n\r\n\r\n" + G, b"a\n\r\n\r\n" + G),
    case("at CR CRLF CRLF", b"a\r\r\n\r\n" + G, b"a\r\r\n\r\n" + G),
    case("not at a line of blanks", b"a\r\n \t\r\n" + G, b"a\r\n \t\r\n" + E),
    case("not at a line of NUL", b"a\r\n\0\r\n" + G, b"a\r\n\0\r\n" + E),
    case("not without line end", b"a\r\n" + G, b"a\r\n" + E),
    case("the first CRLFCRLF counts", b"a\r\n\r\nb\r\n\r\n" + G, b"a\r\n\r\nb\r\n\r\n" + G),
]


@pytest.mark.parametrize(("message", "expected"), SECTIONS)
def test_section(message: bytes, expected: bytes) -> None:
    check(message, expected)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        case("prefix and more", PREFIX + b"hello", b"hello"),
        case("prefix twice", PREFIX * 2, PREFIX),
        case("prefix alone", PREFIX, PREFIX),
        case("prefix alone in a line", PREFIX + b"\r\nhello", PREFIX + b"\r\nhello"),
        case("any name", PREFIX + b"Subject: hello", b"Subject: hello"),
        case("prefix in another case", PREFIX.lower() + b"hello", PREFIX.lower() + b"hello"),
        case("prefix after a blank", b" " + PREFIX + b"hello", b" " + PREFIX + b"hello"),
        case("in the body", b"\r\n" + PREFIX + b"hello", b"\r\n" + PREFIX + b"hello"),
        case("after bare CR", b"a\r" + PREFIX + b"hello", b"a\rhello"),
    ],
)
def test_unescape(message: bytes, expected: bytes) -> None:
    """What lies in a spool is read by the prefix alone, whoever wrote it."""
    assert run(Unescaper(), [message]) == run(Unescaper(), octets(message)) == expected


@pytest.mark.parametrize(
    ("message", "count"),
    [
        case("none", HELLO, 0),
        case("two", FORGED + b"\r\n" + HELLO + FORGED + b"\r\n", 2),
        case("not in the body", FORGED + b"\r\n\r\n" + FORGED, 1),
        case("prefix", PREFIX, 1),
    ],
)
def test_escaped_lines_are_counted(message: bytes, count: int) -> None:
    encoder = Encoder(None)
    run(encoder, octets(message))
    assert encoder.escaped == count
