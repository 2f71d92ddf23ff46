"""The block of trusted headers: what is written, what is read, and what is refused.

From a damaged file no address is ever made that the client did not give. A file cut off at the end of a
line of the block is a whole file of fewer recipients: only the size in its name tells.
"""

from __future__ import annotations

import pytest

from benno_common import mailfile
from benno_common.envelope import Envelope
from benno_common.mailfile import (
    GATEWAY,
    RCPTTO,
    Decoder,
    Encoder,
    MailFileError,
    encode_block,
)
from mailfile_streams import blocks, cut, decode, encode, octets

pytestmark = pytest.mark.slow

MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
FROM = b"X-REAL-MAILFROM: <a@example.org>\r\n"
TO = b"X-REAL-RCPTTO: <b@example.net>\r\n"
GW = b"X-BENNO-GW: gw1\r\n"
MAX = 300  # octets of a line of the block, where a test makes the limit small
ENVELOPE = Envelope(b"a@example.org", (b"b@example.net",))


def case(name: str, *values: object) -> object:
    return pytest.param(*values, id=name)


def read(file: bytes) -> tuple[Envelope, bytes]:
    """At one go and octet by octet, which must give the same."""
    at_one_go, one_by_one = decode([file]), decode(octets(file))
    assert at_one_go == one_by_one
    return at_one_go


def refused(file: bytes) -> bool:
    """Whether a file is no mail file, at one go and octet by octet."""
    for pieces in ([file], octets(file)):
        try:
            decode(pieces)
        except MailFileError:
            continue
        return False
    return True


@pytest.mark.parametrize(
    "envelope",
    [
        case("no recipients", Envelope(b"a", ())),
        case("no recipients, gateway", Envelope(b"a", (), b"gw1")),
        case("null sender, no recipients", Envelope(b"", ())),
        case("null recipient", Envelope(b"a", (b"",))),
        case("the same recipient twice", Envelope(b"a", (b"b", b"b"))),
        case("order", Envelope(b"a", (b"c", b"b", b"d"), b"gw1")),
        case("every octet of a gateway", Envelope(b"a", (b"b",), bytes(range(0x21, 0x7F)))),
    ],
)
@pytest.mark.parametrize(
    "message",
    [
        case("empty", b""),
        case("ordinary", MESSAGE),
        case("body only", b"\r\nhello"),
        case("LF", b"\n"),
        case("CR", b"\r"),
        case("our block", FROM + TO + GW),
        case("half a label", b"X-REAL-"),
        case("a blank", b" "),
    ],
)
def test_envelope_and_message(envelope: Envelope, message: bytes) -> None:
    assert read(encode(envelope, [message])) == (envelope, message)


def test_block() -> None:
    assert encode_block(Envelope(b"a@example.org", (b"b@example.net",), b"gw1")) == FROM + TO + GW


def test_without_envelope_nothing_is_put_before() -> None:
    assert Encoder(None).start() == b""


def test_block_cut_anywhere() -> None:
    file = encode(Envelope(b"a> b", (b"c",), b"gw1"), [b"X-REAL-RCPTTO"])
    for first in range(len(file) + 1):
        for second in range(first, len(file) + 1):
            pieces = cut(file, [first, second])
            assert decode(pieces) == decode([file]), pieces


def test_envelope_is_known_as_soon_as_the_message_begins() -> None:
    decoder = Decoder()
    assert decoder.feed(FROM + TO) == b""
    assert decoder.envelope is None, "another recipient may follow"
    decoder.feed(b"S")
    assert decoder.envelope == ENVELOPE


def test_a_hundred_thousand_recipients() -> None:
    recipients = tuple(b"%d@example.net" % number for number in range(100_000))
    file = encode(Envelope(b"a", recipients), [MESSAGE])
    assert decode(blocks(file, 1000)) == (Envelope(b"a", recipients), MESSAGE)


def test_file_cut_off_in_its_block() -> None:
    """Refused, but at the end of a line, or where a message could have begun like a label."""
    file = FROM + TO + TO + GW
    lines = (FROM, TO, TO, GW)
    for length in range(len(file)):
        whole = [
            line for number, line in enumerate(lines) if len(b"".join(lines[: number + 1])) <= length
        ]
        rest = file[len(b"".join(whole)) : length]
        if whole and (RCPTTO.startswith(rest) or GATEWAY.startswith(rest)):
            assert read(file[:length]) == (
                Envelope(b"a@example.org", (b"b@example.net",) * (len(whole) - 1)),
                rest,
            )
        else:
            assert refused(file[:length]), file[:length]


@pytest.mark.parametrize(
    "file",
    [
        case("empty", b""),
        case("message only", MESSAGE),
        case("recipient first", TO + FROM + MESSAGE),
        case("gateway first", GW + FROM + MESSAGE),
        case("line before the block", b"\r\n" + FROM + MESSAGE),
        case("blank before the block", b" " + FROM + MESSAGE),
        case("BOM before the block", b"\xef\xbb\xbf" + FROM + MESSAGE),
        case("escaped block", b"X-Benno-Foreign-" + FROM + MESSAGE),
        case("lower case", FROM.lower() + MESSAGE),
        case("sender without brackets", b"X-REAL-MAILFROM: a\r\n" + MESSAGE),
        case("sender without blank", b"X-REAL-MAILFROM:<a>\r\n" + MESSAGE),
        case("sender with two blanks", b"X-REAL-MAILFROM:  <a>\r\n" + MESSAGE),
        case("sender, blank before the colon", b"X-REAL-MAILFROM : <a>\r\n" + MESSAGE),
        case("sender, opening bracket missing", b"X-REAL-MAILFROM: a>\r\n" + MESSAGE),
        case("sender, closing bracket missing", b"X-REAL-MAILFROM: <a\r\n" + MESSAGE),
        case("sender, blank at the end", b"X-REAL-MAILFROM: <a> \r\n" + MESSAGE),
        case("sender, LF", b"X-REAL-MAILFROM: <a>\n" + MESSAGE),
        case("sender, CR", b"X-REAL-MAILFROM: <a>\r" + MESSAGE),
        case("sender, CR inside", b"X-REAL-MAILFROM: <a\rb>\r\n" + MESSAGE),
        case("sender, NUL inside", b"X-REAL-MAILFROM: <a\0b>\r\n" + MESSAGE),
        case("sender, folded", b"X-REAL-MAILFROM:\r\n <a>\r\n" + MESSAGE),
        case("sender, empty line", b"X-REAL-MAILFROM:\r\n" + MESSAGE),
        case("recipient without brackets", FROM + b"X-REAL-RCPTTO: b\r\n" + MESSAGE),
        case("recipient without blank", FROM + b"X-REAL-RCPTTO:<b>\r\n" + MESSAGE),
        case("recipient, LF", FROM + b"X-REAL-RCPTTO: <b>\n" + MESSAGE),
        case("recipient, NUL inside", FROM + b"X-REAL-RCPTTO: <b\0>\r\n" + MESSAGE),
        case("recipient, second one bad", FROM + TO + b"X-REAL-RCPTTO: <b\r\n" + MESSAGE),
        case("recipient without line end", FROM + b"X-REAL-RCPTTO: <b>"),
        case("recipient with half a line end", FROM + b"X-REAL-RCPTTO: <b>\r"),
        case("gateway, empty", FROM + TO + b"X-BENNO-GW: \r\n" + MESSAGE),
        case("gateway without blank", FROM + TO + b"X-BENNO-GW:gw1\r\n" + MESSAGE),
        case("gateway of two words", FROM + TO + b"X-BENNO-GW: two words\r\n" + MESSAGE),
        case("gateway of 8 bit", FROM + TO + b"X-BENNO-GW: gw\xe9\r\n" + MESSAGE),
        case("gateway, DEL", FROM + TO + b"X-BENNO-GW: gw\x7f\r\n" + MESSAGE),
        case("gateway, LF", FROM + TO + b"X-BENNO-GW: gw1\n" + MESSAGE),
    ],
)
def test_no_mail_file(file: bytes) -> None:
    assert refused(file)


@pytest.mark.parametrize(
    "message",
    [
        case("escaped recipient", b"X-Benno-Foreign-" + TO),
        case("recipient in lower case", TO.lower()),
        case("recipient, blank before the colon", b"X-REAL-RCPTTO : <c>\r\n"),
        case("second sender", FROM),
        case("longer name", b"X-REAL-RCPTTO-FOO: <c>\r\n"),
        case("recipient after an empty line", b"\r\n" + TO),
        case("recipient after another line", MESSAGE[:16] + TO),
    ],
)
def test_lines_after_the_block_belong_to_the_message(message: bytes) -> None:
    """The message's own lines are never judged, so that files stay readable for ever."""
    assert read(FROM + TO + message) == (ENVELOPE, message.removeprefix(b"X-Benno-Foreign-"))


@pytest.mark.parametrize(
    "message", [case("recipient", TO), case("gateway", GW), case("bad gateway", b"X-BENNO-GW:\r\n")]
)
def test_nothing_of_the_block_follows_the_gateway(message: bytes) -> None:
    assert read(FROM + GW + message) == (Envelope(b"a@example.org", (), b"gw1"), message)


@pytest.mark.parametrize("size", [MAX, MAX + 1], ids=["longest", "too long"])
def test_longest_line_of_a_block(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Refused or read, but the same in one piece and in many."""
    monkeypatch.setattr(mailfile, "MAX_BLOCK_LINE", MAX)
    line = b"X-REAL-RCPTTO: <%b>\r\n"
    file = FROM + line % (b"b" * (size - len(line % b""))) + MESSAGE
    if size > MAX:
        assert refused(file)
    else:
        assert read(file)[1] == MESSAGE


def test_endless_line_of_a_block_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailfile, "MAX_BLOCK_LINE", MAX)
    decoder = Decoder()
    decoder.feed(b"X-REAL-MAILFROM: <".ljust(MAX, b"a"))
    with pytest.raises(MailFileError, match=f"longer than {MAX} octets"):
        decoder.feed(b"a")


def test_endless_first_line_is_not_held() -> None:
    decoder = Decoder()
    with pytest.raises(MailFileError, match="does not begin with X-REAL-MAILFROM"):
        decoder.feed(b"x" * 16)
