"""xtext, RFC 3461 4: what must be encoded is, everything comes back, and nothing else is read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benno_common.xtext import XtextError, decode_xtext, encode_xtext

examples = settings(derandomize=True, deadline=None, max_examples=300)

# Octets, and what stands for them.
ENCODED: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"", b""),
    "a queue id": (b"4bXyZ12Qz3zRhW", b"4bXyZ12Qz3zRhW"),
    "a file name": (b"20240229.a1.S=4711.eml", b"20240229.a1.S+3D4711.eml"),
    "plus and equals sign": (b"a+b=c", b"a+2Bb+3Dc"),
    "a blank": (b"a b", b"a+20b"),
    "line end and NUL": (b"\r\n\0", b"+0D+0A+00"),
    "edges of printable ASCII": (b"\x20\x21\x7e\x7f", b"+20!~+7F"),
    "UTF-8": ("ü".encode(), b"+C3+BC"),
    "what looks encoded": (b"+41", b"+2B41"),
    "brackets and quotes": (b'<"a">', b'<"a">'),
}

LENIENT: dict[str, tuple[bytes, bytes]] = {
    "lower case": (b"+c3+bC", b"\xc3\xbc"),
    "needless": (b"+41+7E", b"A~"),
}

NOT_XTEXT = (
    *(b"a=b", b"=", b"a b", b"a\tb", b"+", b"a+", b"+4", b"+4g", b"+g4", b"++41", b"+ 41", b"+-1"),
    *(b"\r", b"a\n", b"\n", b"a\0", b"\x7f", b"\xc3\xbc", b"+4\n1", b"+41\n"),
)


@pytest.mark.parametrize(("octets", "xtext"), ENCODED.values(), ids=ENCODED)
def test_encoded(octets: bytes, xtext: bytes) -> None:
    assert encode_xtext(octets) == xtext
    assert decode_xtext(xtext) == octets


@pytest.mark.parametrize(("xtext", "octets"), LENIENT.values(), ids=LENIENT)
def test_also_read(xtext: bytes, octets: bytes) -> None:
    assert decode_xtext(xtext) == octets


@pytest.mark.parametrize("text", NOT_XTEXT, ids=repr)
def test_not_xtext(text: bytes) -> None:
    with pytest.raises(XtextError):
        decode_xtext(text)


@pytest.mark.parametrize("octet", range(256))
def test_every_octet(octet: int) -> None:
    alone = bytes([octet])
    kept = 0x21 <= octet <= 0x7E and alone not in b"+="
    assert encode_xtext(alone) == (alone if kept else f"+{octet:02X}".encode())


@examples
@given(st.binary())
def test_round_trip(octets: bytes) -> None:
    xtext = encode_xtext(octets)
    assert decode_xtext(xtext) == octets
    assert re.fullmatch(rb"([!-*,-<>-~]|\+[0-9A-F]{2})*", xtext)
