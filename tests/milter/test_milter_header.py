"""A header packet becomes the line that the MTA holds, in whatever pieces it comes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benno_milter.event import Content, ProtocolError
from benno_milter.header import MAX_NAME, HeaderText
from milter_packets import END_OF_HEADERS, events_of, header, negotiated
from mta import ALL_PROTOCOL, LEADING_SPACE

# Name, value as it comes in the packet, and the octets after the name.
VALUES: dict[str, tuple[bytes, bytes]] = {
    "one blank": (b" hi", b": hi\r\n"),
    "no blank": (b"hi", b":hi\r\n"),
    "two blanks": (b"  hi", b":  hi\r\n"),
    "a tab": (b"\thi", b":\thi\r\n"),
    "empty": (b"", b":\r\n"),
    "a blank only": (b" ", b": \r\n"),
    "folded with LF": (b" a\n\tb", b": a\r\n\tb\r\n"),
    "folded with CRLF": (b" a\r\n\tb", b": a\r\n\tb\r\n"),
    "folded both ways": (b" a\n b\r\n c", b": a\r\n b\r\n c\r\n"),
    "folded at once": (b"\n a", b":\r\n a\r\n"),
    "folded with CRLF at once": (b"\r\n a", b":\r\n a\r\n"),
    "LF at the end": (b" a\n", b": a\r\n\r\n"),
    "CRLF at the end": (b" a\r\n", b": a\r\n\r\n"),
    "CR at the end": (b" a\r", b": a\r\r\n"),
    "two CR at the end": (b" a\r\r", b": a\r\r\r\n"),
    "CR in the middle": (b" a\rb", b": a\rb\r\n"),
    "CR CR LF": (b" a\r\r\nb", b": a\r\r\nb\r\n"),
    "LF LF": (b" a\n\nb", b": a\r\n\r\nb\r\n"),
    "LF CR": (b" a\n\rb", b": a\r\n\rb\r\n"),
    "line ends only": (b"\n\r\n\r", b":\r\n\r\n\r\r\n"),
    "8 bit": (b" \xe4\xff\x80", b": \xe4\xff\x80\r\n"),
    "control characters": (b" \x01\x7f\x0b\x0c", b": \x01\x7f\x0b\x0c\r\n"),
    "a colon": (b" a: b", b": a: b\r\n"),
}


def line(name: bytes, value: bytes, *pieces: int, separator: bytes = b":") -> bytes:
    """What becomes of a header packet that is cut at these places."""
    text = HeaderText(separator)
    data = name + b"\0" + value + b"\0"
    edges = [0, *pieces, len(data)]
    parts = [data[begin:end] for begin, end in pairwise(edges)]
    return b"".join(text.feed(part, last=False) for part in parts[:-1]) + text.feed(
        parts[-1], last=True
    )


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_value(value: bytes, expected: bytes) -> None:
    assert line(b"Subject", value) == b"Subject" + expected


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_value_in_two_and_three_pieces(value: bytes, expected: bytes) -> None:
    size = len(b"X\0") + len(value) + 1
    for first in range(size):
        for second in range(first, size):
            assert line(b"X", value, first, second) == b"X" + expected, f"cut at {first} and {second}"


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_value_octet_by_octet(value: bytes, expected: bytes) -> None:
    assert line(b"Subject", value, *range(len(value) + 9)) == b"Subject" + expected


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_without_leading_space_a_blank_is_put_in(value: bytes, expected: bytes) -> None:
    """Then an MTA has taken one away, and `X:a` cannot be told from `X: a`."""
    assert line(b"Subject", value, separator=b": ") == b"Subject: " + expected[1:]


NAMES = [b"X", b"", b"x" * 998, b"with blank ", b"a:b", b"\xff", b"\r\n", b"x" * MAX_NAME]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:12]))
def test_name_is_passed_on(name: bytes) -> None:
    """What is a header and what is its name, the MTA has decided."""
    assert line(name, b" v") == name + b": v\r\n"
    assert line(name, b" v", len(name)) == name + b": v\r\n"


@pytest.mark.parametrize(
    "cuts", [(), (1000,), (MAX_NAME + 1,)], ids=["at once", "early cut", "late cut"]
)
def test_name_that_is_too_long(cuts: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError):
        line(b"x" * (MAX_NAME + 2), b" v", *cuts)


@pytest.mark.parametrize("flags", [ALL_PROTOCOL, LEADING_SPACE], ids=["unanswered", "answered"])
def test_name_in_a_whole_packet(flags: int) -> None:
    (content,) = events_of(header(b"x" * MAX_NAME, b" v"), wire=negotiated(flags=flags))
    assert content == Content(b"x" * MAX_NAME + b": v\r\n", owed=flags == LEADING_SPACE)
    with pytest.raises(ProtocolError):
        events_of(header(b"x" * (MAX_NAME + 1), b" v"), wire=negotiated(flags=flags))


@pytest.mark.parametrize("flags", [ALL_PROTOCOL, LEADING_SPACE], ids=["unanswered", "answered"])
def test_leading_space_is_negotiated(flags: int) -> None:
    wire = negotiated(flags=flags)
    (content,) = events_of(header(b"A", b"x"), wire=wire)
    assert content == Content(b"A:x\r\n", owed=flags == LEADING_SPACE)


@pytest.mark.parametrize("flags", [ALL_PROTOCOL & ~LEADING_SPACE, 0], ids=["unanswered", "answered"])
def test_leading_space_is_not_negotiated(flags: int) -> None:
    wire = negotiated(flags=flags)
    (content,) = events_of(header(b"A", b"x"), wire=wire)
    assert content == Content(b"A: x\r\n", owed=flags == 0)


@pytest.mark.parametrize("size", [104_000, 1 << 20], ids=["104 KB", "1 MB"])
@pytest.mark.parametrize("piece", [4096, 65_536, 1 << 21], ids=["4 KB", "64 KB", "whole"])
def test_long_header(size: int, piece: int) -> None:
    """Folded every 76 octets, so that pieces end at every place of a fold."""
    value = b"".join(b" %073d\n" % number for number in range(size // 75)) + b" end"
    stream = header(b"X-Long", value) + END_OF_HEADERS
    pieces = [stream[start : start + piece] for start in range(0, len(stream), piece)]
    (content,) = events_of(*pieces, wire=negotiated())
    expected = b"X-Long:" + value.replace(b"\n", b"\r\n") + b"\r\n\r\n"
    assert content == Content(expected, owed=False)


def test_long_header_is_not_held() -> None:
    text = HeaderText(b":")
    assert text.feed(b"X\0", last=False) == b"X:"
    for _ in range(100):
        assert len(text.feed(b"x" * 10_000, last=False)) == 10_000
