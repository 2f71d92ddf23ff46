"""Files of the older C milter: names, blocks, and what is made of forged lines."""

from __future__ import annotations

import tracemalloc

import pytest

from benno_common import mailfile
from benno_common.envelope import Envelope
from benno_common.filename import is_old_name
from benno_common.mailfile import PREFIX, MailFileError
from benno_common.oldfile import OldDecoder
from mailfile_streams import cut, decode, every_split, octets

MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
FROM = b"X-REAL-MAILFROM: <a@example.org>\r\n"
TO = b"X-REAL-RCPTTO: <b@example.net>\r\n"
GW = b"X-BENNO-GW: gw1\r\n"
ENVELOPE = Envelope(b"a@example.org", (b"b@example.net",))
MEGABYTE = 1 << 20


def case(name: str, *values: object) -> object:
    return pytest.param(*values, id=name)


def read(file: bytes) -> tuple[Envelope, bytes]:
    """At one go and octet by octet, which must give the same."""
    at_one_go, one_by_one = decode([file], OldDecoder()), decode(octets(file), OldDecoder())
    assert at_one_go == one_by_one
    return at_one_go


def refused(file: bytes) -> bool:
    """Whether a file is no mail file, at one go and octet by octet."""
    for pieces in ([file], octets(file)):
        try:
            decode(pieces, OldDecoder())
        except MailFileError:
            continue
        return False
    return True


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("arch.Xy3zA9", True),
        ("arch.Xy3zA9.msg", True),
        ("arch.Xy3zA9.eml", True),
        ("1700000000.M1P2.host.eml", True),
        (".eml", False),
        ("S=12.eml", True),
        ("mail.S=.eml", True),
        ("mail.S=x.eml", True),
        ("mail.S=12.EML", False),
        ("mail.S=12.eml", False),
        ("arch.Xy3zA9.S=12.eml", False),
        (".S=0.eml", False),
        ("arch.", False),
        ("arch", False),
        ("arch.2020-01-01-10-00.user@example.org.Xy3zA9ab.msg", True),
        ("arch.2020-01-01-10-00.user@example.org.Xy3zA9ab", True),
        ("arch.2020-01-01-10-00.user@example.org.Xy3zA9ab.msg.err", False),
        ("arch.2020-01-01-10-00.user@example.org.Xy3zA9ab.1.err", False),
        ("arch.Xy3zA9.tmp", False),
        ("arch.Xy3zA9.msg.tmp", False),
        ("arch.Xy3zA9.msg.err", False),
        ("xarch.Xy3zA9", False),
        ("Arch.Xy3zA9", False),
        ("mail.eml.tmp", False),
        ("mail.msg", False),
        ("eml", False),
        ("mail.eml\n", False),
        ("", False),
    ],
)
def test_name(name: str, old: bool) -> None:
    assert is_old_name(name) == old


@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize(
    ("line", "address"),
    [
        case("as ours", b": <a@b>", b"a@b"),
        case("without blank", b":<a@b>", b"a@b"),
        case("more blanks", b": \t <a@b>", b"a@b"),
        case("blanks at the end", b": <a@b> \t", b"a@b"),
        case("no brackets", b": a@b", b"a@b"),
        case("no brackets, no blank", b":a@b", b"a@b"),
        case("no brackets, blanks around", b": \ta@b \t", b"a@b"),
        case("no brackets, blanks inside", b": a  b", b"a  b"),
        case("null", b": <>", b""),
        case("null without brackets", b": ", b""),
        case("nothing at all", b":", b""),
        case("two pairs of brackets", b": <<a@b>>", b"<a@b>"),
        case("bracket inside", b": <a> b>", b"a> b"),
        case("opening bracket only", b": <a@b", b"<a@b"),
        case("closing bracket only", b": a@b>", b"a@b>"),
        case("words behind the brackets", b": <a@b> SIZE=1", b"<a@b> SIZE=1"),
        case("blanks in the brackets", b": < a >", b" a "),
        case("8 bit", b": <j\xfcrgen@b>", b"j\xfcrgen@b"),
        case("control octets", b": \x01a\x0b", b"\x01a\x0b"),
    ],
)
def test_address(line: bytes, address: bytes, end: bytes) -> None:
    file = b"X-REAL-MAILFROM" + line + end + b"X-REAL-RCPTTO" + line + end
    assert read(file + MESSAGE) == (Envelope(address, (address,)), MESSAGE)


@pytest.mark.parametrize(
    ("block", "envelope"),
    [
        case("sender only", FROM, Envelope(b"a@example.org", ())),
        case("one recipient", FROM + TO, ENVELOPE),
        case("two recipients", FROM + TO + TO, Envelope(b"a@example.org", (b"b@example.net",) * 2)),
        case("gateway", FROM + TO + GW, Envelope(b"a@example.org", (b"b@example.net",), b"gw1")),
        case("gateway, LF", FROM + b"X-BENNO-GW: gw1\n", Envelope(b"a@example.org", (), b"gw1")),
        case("gateway, no blank", FROM + b"X-BENNO-GW:gw1\n", Envelope(b"a@example.org", (), b"gw1")),
        case("gateway, blanks", FROM + b"X-BENNO-GW:  gw1 \n", Envelope(b"a@example.org", (), b"gw1")),
        case("both line ends", FROM + TO.replace(b"\r", b""), ENVELOPE),
    ],
)
def test_block(block: bytes, envelope: Envelope) -> None:
    assert read(block + MESSAGE) == (envelope, MESSAGE)
    assert read(block + b"\r\n") == (envelope, b"\r\n")
    assert refused(block)


@pytest.mark.parametrize(
    ("message", "recipients", "rest"),
    [
        case("one", TO + MESSAGE, 1, MESSAGE),
        case("several", TO * 3 + MESSAGE, 3, MESSAGE),
        case("LF, no brackets", b"X-REAL-RCPTTO:b@example.net\n" + MESSAGE, 1, MESSAGE),
        case("then a later one", TO + MESSAGE[:16] + TO + MESSAGE, 1, MESSAGE[:16] + TO + MESSAGE),
    ],
)
def test_forged_recipients_right_after_the_block(message: bytes, recipients: int, rest: bytes) -> None:
    """They cannot be told from the true ones: the archiver takes them, and so do we."""
    envelope = Envelope(b"a@example.org", (b"b@example.net",) * (1 + recipients))
    assert read(FROM + TO + message) == (envelope, rest)


@pytest.mark.parametrize(
    "message",
    [
        case("recipient after another line", MESSAGE[:16] + TO + MESSAGE),
        case("recipient after an empty line", b"\r\n" + TO),
        case("recipient after a blank line", b" \r\n" + TO + MESSAGE),
        case("recipient after a second sender", FROM + TO + MESSAGE),
        case("recipient after the gateway", GW + TO + GW + MESSAGE),
        case("in lower case", TO.lower() + MESSAGE),
        case("blank before the colon", b"X-REAL-RCPTTO : <c>\r\n" + MESSAGE),
        case("no colon", b"X-REAL-RCPTTO\r\n" + MESSAGE),
        case("other trusted name", b"RECIPIENT-TO: <c>\r\n" + TO + MESSAGE),
        case("prefix", PREFIX + TO + MESSAGE),
        case("prefix later", MESSAGE[:16] + PREFIX + TO + MESSAGE),
        case("prefix twice", PREFIX * 2 + MESSAGE),
    ],
)
def test_every_other_line_stays_as_it_is(message: bytes) -> None:
    """Nothing is unescaped, for nothing was escaped."""
    gateway = b"gw1" if message.startswith(GW) else None
    rest = message.removeprefix(GW)
    assert read(FROM + TO + message) == (Envelope(b"a@example.org", (b"b@example.net",), gateway), rest)


@pytest.mark.parametrize(
    "file",
    [
        case("empty", b""),
        case("message only", MESSAGE),
        case("recipient first", TO + FROM + MESSAGE),
        case("line before the block", b"\n" + FROM + MESSAGE),
        case("lower case", FROM.lower() + MESSAGE),
        case("blank before the colon", b"X-REAL-MAILFROM : <a>\n" + MESSAGE),
        case("CR inside", b"X-REAL-MAILFROM: <a\rb>\n" + MESSAGE),
        case("CR only", b"X-REAL-MAILFROM: <a>\r" + MESSAGE),
        case("CR CR LF", b"X-REAL-MAILFROM: <a>\r\r\n" + MESSAGE),
        case("NUL inside", b"X-REAL-MAILFROM: a\0b\n" + MESSAGE),
        case("recipient with NUL", FROM + b"X-REAL-RCPTTO: b\0\n" + MESSAGE),
        case("gateway of two words", FROM + b"X-BENNO-GW: two words\n" + MESSAGE),
        case("empty gateway", FROM + b"X-BENNO-GW:\n" + MESSAGE),
    ],
)
def test_no_mail_file(file: bytes) -> None:
    assert refused(file)


@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize("header", [b"", b"Subject: hello\r\nTo: b@example.net,\n c@example.net\r\n"])
def test_torn_before_the_end_of_the_header(header: bytes, end: bytes) -> None:
    """At whatever octet, in the block too; a mail without a body has an end of its header."""
    file = (FROM + TO + GW + header).replace(b"\r\n", end) + end
    for length in range(len(file)):
        assert refused(file[:length]), file[:length]
    assert read(file)[1].endswith(end)


def test_torn_in_the_body() -> None:
    """It cannot be told: a mail may end anywhere."""
    end = len(MESSAGE) - len(b"hello\r\n")
    for length in range(end, len(MESSAGE)):
        assert read(FROM + TO + MESSAGE[:length]) == (ENVELOPE, MESSAGE[:length])


@pytest.mark.parametrize("message", [b"\r", b"a\r\r", b"a\r\rb", b"a\n \nb", b"a\r\n\r"])
def test_no_empty_line(message: bytes) -> None:
    assert refused(FROM + TO + message)


def test_every_split() -> None:
    block = b"X-REAL-MAILFROM:a\nX-REAL-RCPTTO: b\r\n"
    expected = (Envelope(b"a", (b"b",)), b"\n" + PREFIX + TO)
    file = block + expected[1]
    for first in range(len(file) + 1):
        for second in range(first, len(file) + 1):
            assert decode(cut(file, [first, second]), OldDecoder()) == expected
    for pieces in every_split(b"TO:<b>\r\n\r\n"):
        whole = [b"X-REAL-MAILFROM:a\nX-REAL-RCPT", *pieces]
        assert decode(whole, OldDecoder()) == (Envelope(b"a", (b"b",)), b"\r\n"), whole


@pytest.mark.parametrize("end", [b"", b"\0\n", b"\n", b"x\n"], ids=["none", "NUL", "LF", "letter"])
@pytest.mark.parametrize("label", [b"RCPTTO:", b"RCPTTO: x", b"RCPTTO: <>", b"BENNO-GW: x"])
def test_line_of_a_hundred_thousand_blanks(label: bytes, end: bytes) -> None:
    """It may be forged. A reader that does not come back from here takes more than linear time."""
    prefix = b"X-" if label.startswith(b"BENNO") else b"X-REAL-"
    decoder = OldDecoder()
    try:
        decode([FROM + TO + prefix + label + b" " * 100_000 + end, end], decoder)
    except MailFileError:
        return
    assert decoder.envelope is not None
    assert decoder.envelope.recipients[:1] == ENVELOPE.recipients


def test_endless_line_of_a_block_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailfile, "MAX_BLOCK_LINE", 300)
    decoder = OldDecoder()
    decoder.feed(FROM + b"X-REAL-RCPTTO:".ljust(300, b"a"))
    with pytest.raises(MailFileError, match="longer than 300 octets"):
        decoder.feed(b"a")


def test_first_line_of_50_megabytes_is_not_held() -> None:
    decoder = OldDecoder()
    decoder.feed(FROM + TO)
    piece = b"x" * (1 << 16)
    tracemalloc.start()
    try:
        for _ in range(50 * 16):
            assert len(decoder.feed(piece)) == len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    decoder.feed(b"\r\n\r\n")
    assert decoder.finish() == b""
    assert peak < MEGABYTE
