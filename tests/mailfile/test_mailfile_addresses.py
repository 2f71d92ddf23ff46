"""Addresses: any octets but CR, LF and NUL are stored as they are, all others are refused."""

from __future__ import annotations

import pytest

from benno_common.envelope import Envelope, EnvelopeError, is_storable
from mailfile_reference import block
from mailfile_streams import crumbs, decode, encode

MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"


def case(name: str, *values: object) -> object:
    return pytest.param(*values, id=name)


ADDRESSES = [
    case("null", b""),
    case("ordinary", b"a@example.org"),
    case("in brackets", b"<a@example.org>"),
    case("opening bracket", b"<"),
    case("closing bracket", b">"),
    case("closing bracket and blank", b"a> b"),
    case("closing brackets at the end", b"a>>"),
    case("like the end of the line", b"a>\\r\\n"),
    case("with parameters", b"a@example.org> SIZE=1"),
    case("blank", b" "),
    case("blanks around", b" \ta\t "),
    case("quoted", b'"a b\\"c:>"@example.org'),
    case("colon", b"a:b"),
    case("source route", b"@a,@b:c@d"),
    case("control octets", bytes(set(range(0x20)) - set(b"\r\n\0")) + b"\x7f"),
    case("Latin-1", b"j\xfcrgen@ex\xe4mple.org"),
    case("UTF-8", "jürgen@exämple.org".encode()),
    case("all 8-bit octets", bytes(range(0x80, 0x100))),
    case("like our own header", b"X-REAL-RCPTTO: <a@example.org>"),
    case("300 octets", b"a" * 300 + b"@example.org"),
    case("100,000 octets", b"a" * 100_000),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_address(address: bytes) -> None:
    envelope = Envelope(address, (b"first", address, b"last", address))
    file = encode(envelope, [MESSAGE])
    assert file == block(address, (b"first", address, b"last", address)) + MESSAGE
    assert decode([file]) == decode(crumbs(file)) == (envelope, MESSAGE)


@pytest.mark.parametrize("octet", [b"\r", b"\n", b"\0"], ids=["CR", "LF", "NUL"])
@pytest.mark.parametrize("address", [b"%b", b"a%b", b"%ba", b"a\r\nX-REAL-RCPTTO: <b>%b"])
def test_address_that_cannot_be_written(address: bytes, octet: bytes) -> None:
    assert not is_storable(address % octet)
    with pytest.raises(EnvelopeError):
        Envelope(address % octet, ())
    with pytest.raises(EnvelopeError):
        Envelope(b"", (b"b", address % octet))


@pytest.mark.parametrize(
    "gateway", [b"", b" ", b"a b", b"a\t", b"a\r\n", b"a\n", b"a\0", b"a\x7f", b"\xe9"]
)
def test_gateway_that_cannot_be_written(gateway: bytes) -> None:
    with pytest.raises(EnvelopeError):
        Envelope(b"", (), gateway)
