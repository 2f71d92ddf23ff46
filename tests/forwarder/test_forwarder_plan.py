"""Plans: what a mail needs, what a server offers, and the commands that come of it."""

from __future__ import annotations

import dataclasses

import pytest

from benno_common.envelope import Envelope
from benno_milter2smtp.content import Inspector
from benno_milter2smtp.offer import Offer, parse_offer
from benno_milter2smtp.outcome import Permanent, SessionTrouble
from benno_milter2smtp.plan import AddressError, Letter, Plan, check_envelope, make_plan

ALL = Offer(
    pipelining=True, chunking=True, binary=True, eight_bit=True, utf8=True, size=True, xbenno=True
)
NONE = Offer()
CHUNKING = Offer(chunking=True)
ENVELOPE = Envelope(b"a@b.example", (b"c@d.example",))


def letter(message: bytes, envelope: Envelope = ENVELOPE, *, small: bool = True) -> Letter:
    inspector = Inspector()
    inspector.feed(message)
    return Letter(b"file name.eml", envelope, inspector.content(), small)


def plan(
    message: bytes, offer: Offer, envelope: Envelope = ENVELOPE, *, normalize: bool = False
) -> Plan:
    made = make_plan(letter(message, envelope), offer, normalize=normalize)
    assert isinstance(made, Plan), made
    return made


def refusal(
    message: bytes, offer: Offer, envelope: Envelope = ENVELOPE, *, normalize: bool = False
) -> str:
    made = make_plan(letter(message, envelope), offer, normalize=normalize)
    assert isinstance(made, Permanent), made
    return made.reason


# The offer


@pytest.mark.parametrize(
    ("lines", "offer"),
    [
        ([], NONE),
        (["", " "], NONE),
        (["PIPELINING", "8bitmime", "Chunking"], Offer(pipelining=True, eight_bit=True, chunking=True)),
        (["SIZE"], Offer(size=True)),
        (["SIZE 0"], Offer(size=True)),
        (["SIZE 1000"], Offer(size=True, max_size=1000)),
        (["SIZE many"], Offer(size=True)),
        (["SIZE -1"], Offer(size=True)),
        (["SIZE \u0661"], Offer(size=True)),
        (["BINARYMIME", "SMTPUTF8", "XBENNO"], Offer(binary=True, utf8=True, xbenno=True)),
        (["XBENNODIR 0123456789abcdef.00"], Offer(directory="0123456789abcdef.00")),
        (["XBENNODIR"], NONE),
        (["XPIPELINING", "AUTH PLAIN CHUNKING"], NONE),
    ],
)
def test_offer(lines: list[str], offer: Offer) -> None:
    assert parse_offer(lines) == offer


# The content


CARRIED: list[tuple[bytes, Offer, bytes]] = [
    (b"a\r\n", NONE, b""),
    (b"", NONE, b""),
    (b"a\xff\r\n", NONE, b""),
    (b"a\xff\r\n", Offer(eight_bit=True), b" BODY=8BITMIME"),
    (b"a\r\n", Offer(eight_bit=True), b""),
    (b"a", Offer(chunking=True, binary=True), b""),
    (b"a\xff", Offer(chunking=True, binary=True), b""),
    (b"a\nb\r\n", ALL, b" SIZE=5 BODY=BINARYMIME XBENNO-ID=file+20name.eml"),
    (b"a\rb\r\n", Offer(chunking=True, binary=True), b" BODY=BINARYMIME"),
    (b"a\0\r\n", Offer(chunking=True, binary=True, eight_bit=True), b" BODY=BINARYMIME"),
    (b"\r", Offer(chunking=True, binary=True), b" BODY=BINARYMIME"),
    (b"abc\r\n", Offer(size=True, max_size=5), b" SIZE=5"),
]


@pytest.mark.parametrize(("message", "offer", "parameters"), CARRIED)
def test_what_is_carried_goes_unaltered(message: bytes, offer: Offer, parameters: bytes) -> None:
    for normalize in (False, True):
        made = plan(message, offer, normalize=normalize)
        assert made.mail == b"MAIL FROM:<a@b.example>" + parameters
        assert made.rcpts == (b"RCPT TO:<c@d.example>",)
        assert (made.size, made.header) == (len(message), b"")
        assert not made.normalized
        assert made.chunked == offer.chunking


OBSTACLES: list[tuple[bytes, Offer, str]] = [
    (b"a", NONE, "no CRLF at its end, and the server does not offer CHUNKING; --normalize would"),
    (b"a\n", NONE, "a bare CR or LF, and the server does not offer CHUNKING and BINARYMIME; --norm"),
    (b"a\nb\r\n", CHUNKING, "a bare CR or LF, and the server does not offer BINARYMIME; --normalize"),
    (b"a\r", CHUNKING, "a bare CR or LF"),
    (b"a", CHUNKING, "no CRLF at its end, and the server does not offer BINARYMIME; --normalize"),
    (b"a\nb\r\n", Offer(binary=True), "CHUNKING and BINARYMIME"),
]


@pytest.mark.parametrize(("message", "offer", "reason"), OBSTACLES)
def test_what_is_not_carried_is_held_or_normalized(message: bytes, offer: Offer, reason: str) -> None:
    assert reason in refusal(message, offer)
    made = plan(message, offer, normalize=True)
    assert made.normalized
    assert b"BINARYMIME" not in made.mail


@pytest.mark.parametrize("offer", [NONE, CHUNKING])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_nul_is_never_altered(offer: Offer, normalize: bool) -> None:
    reason = refusal(b"a\0b\n", offer, normalize=normalize)
    assert "the message has a NUL, and the server does not offer" in reason
    assert "--normalize" not in reason


def test_too_large() -> None:
    offer = Offer(size=True, max_size=5)
    assert refusal(b"1234\r\n", offer) == "the message has 6 octets, and the server takes 5"
    gateway = Envelope(b"a", (b"b",), b"gw")
    assert "has 21 octets" in refusal(b"123\r\n", offer, gateway)
    assert "has 7 octets" in refusal(b"12\n3", offer, normalize=True)


# The envelope


def test_gateway_as_parameter_or_header() -> None:
    envelope = Envelope(b"a", (b"b",), b"gw+1=x")
    made = plan(b"S: x\r\n", Offer(xbenno=True), envelope)
    assert made.mail == b"MAIL FROM:<a> XBENNO-GW=gw+2B1+3Dx XBENNO-ID=file+20name.eml"
    assert made.header == b""
    made = plan(b"S: x\r\n", Offer(size=True), envelope)
    assert made.header == b"X-BENNO-GW: gw+1=x\r\n"
    assert made.mail == b"MAIL FROM:<a> SIZE=26"
    assert plan(b"S: x\r\n", ALL).mail.endswith(b"SIZE=6 XBENNO-ID=file+20name.eml")


def test_a_benno_smtp_that_does_not_trust_us_gets_no_gateway() -> None:
    """It would take the header line for a forged one, escape it, and archive the mail under no name."""
    offer = Offer(directory="0.0", chunking=True)
    envelope = Envelope(b"a", (b"b",), b"gw")
    refused = make_plan(letter(b"S: x\r\n", envelope), offer)
    assert isinstance(refused, SessionTrouble)
    assert "trusted_gateways" in refused.reason
    assert not refused.doubtful
    assert plan(b"S: x\r\n", offer).mail == b"MAIL FROM:<a@b.example>"


def test_the_name_of_the_file_goes_along_for_the_log() -> None:
    assert plan(b"S: x\r\n", Offer(dsn=True)).mail == b"MAIL FROM:<a@b.example> ENVID=file+20name.eml"
    labelled = dataclasses.replace(letter(b"S: x\r\n", ENVELOPE), name=b"x" * 101)
    made = make_plan(labelled, Offer(dsn=True))
    assert isinstance(made, Plan)
    assert made.mail == b"MAIL FROM:<a@b.example>", "RFC 3461 allows 100 octets"


@pytest.mark.parametrize("message", [b" folded\r\n", b"\tx: y\r\n", b"\x01a\r\n"])
def test_nothing_continues_the_header_line_of_the_gateway(message: bytes) -> None:
    envelope = Envelope(b"a", (b"b",), b"gw")
    assert "would continue the gateway's header line" in refusal(message, NONE, envelope)
    plan(message, Offer(xbenno=True), envelope)
    plan(message, NONE)
    plan(b"\r\n" + message, NONE, envelope)


def test_international_addresses() -> None:
    for envelope in (Envelope(b"\xc3\xa4@b", (b"c",)), Envelope(b"a", (b"c", b"\xc3\xbc@d"))):
        assert "does not offer SMTPUTF8" in refusal(b"a\r\n", NONE, envelope)
        assert plan(b"a\r\n", Offer(utf8=True), envelope).mail.endswith(b" SMTPUTF8")
    assert b"SMTPUTF8" not in plan(b"a\r\n", ALL).mail


ADDRESSES = [
    b"a@b.example",
    b"postmaster",
    b'"a b"@c',
    b'"a>b <x> \\" "@c',
    b"a\\ b@c",
    b"a\\>b@c",
    b"@relay:a@b",
    b"=?utf-8?q?a=40b?=@c",
    b"x+y/z%q!w@v",
    b"a@[IPv6:::1]",
    b"\xc3\xa4\xff@b",
    b"x" * 300 + b"@y",
    b'"\t"@c',
]
# Postfix lets some of these pass; only benno-smtp is sure to read them as they are.
ODD_ADDRESSES = [
    b"a>",
    b"<a>",
    b"a b@c",
    b" a@b",
    b"a@b ",
    b"a\tb@c",
    b"a\x01@b",
    b"a\x7f@b",
    b'"a@b',
    b"a\\",
]
NOT_ADDRESSES = [
    b"a> XBENNO-GW=gw2 X=<",
    b"a XBENNO-GW=gw2",
    b"a> b",
    b'a"b> SIZE=1 "@c"',
    b'"a\\"> SIZE=1',
    b"a>,<b",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_go_raw(address: bytes) -> None:
    for envelope in (Envelope(address, (b"c",)), Envelope(b"a", (b"c", address))):
        check_envelope(envelope)
    made = plan(b"a\r\n", Offer(utf8=True), Envelope(address, (address,)))
    assert made.mail.startswith(b"MAIL FROM:<" + address + b">")
    assert made.rcpts == (b"RCPT TO:<" + address + b">",)


@pytest.mark.parametrize("address", ODD_ADDRESSES)
@pytest.mark.parametrize("sends", [True, False])
def test_odd_addresses_go_to_our_receiver_only(address: bytes, sends: bool) -> None:
    odd = Envelope(address, (b"c",)) if sends else Envelope(b"a", (b"c", address))
    check_envelope(odd)
    made = plan(b"a\r\n", dataclasses.replace(ALL, directory="0" * 16), odd)
    assert made.mail.startswith(b"MAIL FROM:<" + odd.sender + b"> SIZE=")
    assert made.rcpts[-1] == b"RCPT TO:<" + odd.recipients[-1] + b">"
    assert "could be misread by a server that is no benno-smtp" in refusal(b"a\r\n", ALL, odd)


@pytest.mark.parametrize("address", NOT_ADDRESSES)
def test_an_address_never_becomes_a_parameter(address: bytes) -> None:
    for envelope in (Envelope(address, (b"c",)), Envelope(b"a", (b"c", address))):
        with pytest.raises(AddressError, match="cannot stand in an SMTP command"):
            check_envelope(envelope)


def test_recipients_are_never_invented() -> None:
    check_envelope(Envelope(b"", (b"c",)))
    with pytest.raises(AddressError, match="no recipient"):
        check_envelope(Envelope(b"a", ()))
    with pytest.raises(AddressError, match="a recipient is empty"):
        check_envelope(Envelope(b"a", (b"c", b"")))


# The way


@pytest.mark.parametrize(
    ("message", "offer", "small", "early"),
    [
        (b"a\r\n", ALL, True, True),
        (b"a\r\n", ALL, False, False),
        (b"", ALL, True, False),
        (b"a\r\n", CHUNKING, True, False),
        (b"a\r\n", Offer(pipelining=True), True, False),
    ],
)
def test_small_mail_goes_with_the_commands(
    message: bytes, offer: Offer, small: bool, early: bool
) -> None:
    made = make_plan(dataclasses.replace(letter(message), small=small), offer)
    assert isinstance(made, Plan)
    assert made.early == early
