"""The packets of the protocol and the events they become: tables of octets and events."""

from __future__ import annotations

import struct

import pytest

from benno_milter.event import (
    Abort,
    Content,
    EndOfMessage,
    Event,
    Ignored,
    Mail,
    NewSession,
    ProtocolError,
    Quit,
    Rcpt,
)
from benno_milter.protocol import CONTINUE, PROGRESS, refusal
from benno_milter.wire import MAX_COMMAND, MAX_CONTENT, Wire
from milter_packets import (
    ABORT,
    COMMANDS,
    END,
    END_OF_HEADERS,
    NEW_SESSION,
    QUIT,
    body,
    events_of,
    header,
    macros,
    mail,
    merged,
    negotiated,
    negotiation,
    rcpt,
)
from mta import LEADING_SPACE, NO_REPLIES, packet

HEADER = header(b"Subject", b" hi")
LINE = b"Subject: hi\r\n"
SENDER, RECIPIENT = Mail(b"<a@b>"), Rcpt(b"<c@d>", owed=False)


def silent(data: bytes) -> Content:
    return Content(data, owed=False)


# After a negotiation in which the MTA offered everything.
STORIES: dict[str, tuple[bytes, list[Event]]] = {
    "a mail": (
        mail(b"<a@b>") + rcpt(b"<c@d>") + HEADER + END_OF_HEADERS + body(b"body\r\n") + END,
        [SENDER, RECIPIENT, silent(LINE + b"\r\nbody\r\n"), EndOfMessage(None)],
    ),
    "addresses with ESMTP arguments": (
        mail(b"<a@b>", b"SIZE=4711", b"BODY=8BITMIME", b"") + rcpt(b"<c@d>", b"NOTIFY=NEVER"),
        [SENDER, RECIPIENT],
    ),
    "null sender": (mail(b"<>"), [Mail(b"<>")]),
    "null sender of sendmail(1)": (mail(b""), [Mail(b"")]),
    "sendmail(1) without brackets": (mail(b"a") + rcpt(b"c"), [Mail(b"a"), Rcpt(b"c", owed=False)]),
    "address with control characters": (mail(b"<a\r\n\tb\xff>"), [Mail(b"<a\r\n\tb\xff>")]),
    "address that ends at the first NUL": (rcpt(b"<c@d>\0junk"), [RECIPIENT]),
    "address of 200 KB": (mail(b"a" * 200_000), [Mail(b"a" * 200_000)]),
    "headers and the empty line": (
        header(b"A", b" 1") + header(b"B", b"2") + END_OF_HEADERS,
        [silent(b"A: 1\r\nB:2\r\n\r\n")],
    ),
    "end of headers with data": (packet(b"N", b"junk"), [silent(b"\r\n")]),
    "body in chunks": (body(b"one\r") + body(b"\ntwo"), [silent(b"one\r\ntwo")]),
    "body with every octet": (body(bytes(range(256))), [silent(bytes(range(256)))]),
    "empty body packet": (body(b""), []),
    "empty body packet among others": (body(b"a") + body(b"") + body(b"b"), [silent(b"ab")]),
    "end of message with data": (
        body(b"one ") + packet(b"E", b"two\r\n"),
        [silent(b"one two\r\n"), EndOfMessage(None)],
    ),
    "end of message with all the body": (packet(b"E", b"x"), [silent(b"x"), EndOfMessage(None)]),
    "abort": (ABORT, [Abort()]),
    "abort after the end": (END + ABORT, [EndOfMessage(None), Abort()]),
    "new session, new mail": (NEW_SESSION + mail(b"<a@b>"), [NewSession(), SENDER]),
    "quit": (QUIT, [Quit()]),
    "connection, HELO, DATA, unknown command": (
        packet(b"C", b"mx\0U") + packet(b"H", b"mx\0") + packet(b"T") + packet(b"U", b"FOO\0"),
        [Ignored(owed=False)] * 4,
    ),
    "data behind commands that have none": (
        packet(b"A", b"x") + packet(b"K", b"y") + packet(b"Q", b"z"),
        [Abort(), NewSession(), Quit()],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "expected"), STORIES.values(), ids=STORIES)
def test_events(stream: bytes, expected: list[Event]) -> None:
    assert events_of(stream, wire=negotiated()) == expected


@pytest.mark.parametrize(("stream", "expected"), STORIES.values(), ids=STORIES)
def test_macros_in_between_change_nothing(stream: bytes, expected: list[Event]) -> None:
    """Postfix sends a macro packet before nearly everything, often an empty one."""
    position, mixed = 0, b""
    while position < len(stream):
        (length,) = struct.unpack_from("!I", stream, position)
        command = stream[position + 4 : position + 5]
        mixed += macros(command) + packet(b"D") + stream[position : position + 4 + length]
        position += 4 + length
    assert events_of(mixed, wire=negotiated()) == expected


# Stream, and the queue ids at the ends of its messages.
QUEUE_IDS: dict[str, tuple[bytes, list[str | None]]] = {
    "at end of message": (macros(b"E", b"i", b"4bX1") + END, ["4bX1"]),
    "in braces": (macros(b"E", b"{i}", b"4bX1") + END, ["4bX1"]),
    "none": (END, [None]),
    "empty macros": (macros(b"E") + END, [None]),
    "macros without data": (packet(b"D") + END, [None]),
    "an empty queue id": (macros(b"E", b"i", b"") + END, [None]),
    "an empty one does not undo it": (macros(b"M", b"i", b"Q") + macros(b"E", b"i", b"") + END, ["Q"]),
    "among others": (macros(b"E", b"j", b"mx", b"i", b"Q", b"v", b"Postfix 3.7") + END, ["Q"]),
    "a value that is called i": (macros(b"E", b"j", b"i", b"v", b"Postfix") + END, [None]),
    "a longer name": (macros(b"E", b"{if_name}", b"lo", b"ii", b"x") + END, [None]),
    "an odd number of strings": (macros(b"E", b"i", b"Q", b"j") + END, ["Q"]),
    "a name alone": (macros(b"E", b"i") + END, [None]),
    "without the last NUL": (packet(b"D", b"Ei\0Q") + END, ["Q"]),
    "not ASCII": (macros(b"E", b"i", b"Q\xff\n") + END, ["Q\\xff\n"]),
    "Sendmail, at MAIL": (macros(b"M", b"i", b"Q") + mail(b"a") + body(b"x") + END, ["Q"]),
    "Postfix, at the second RCPT": (mail(b"a") + rcpt(b"b") + macros(b"R", b"i", b"Q") + END, ["Q"]),
    "the last one counts": (macros(b"M", b"i", b"one") + macros(b"E", b"i", b"two") + END, ["two"]),
    "another one of the same length": (
        macros(b"M", b"i", b"AAAA") + macros(b"E", b"i", b"AAAB") + END,
        ["AAAB"],
    ),
    "the same macros after the end": (
        (macros(b"E", b"i", b"Q") + END + macros(b"M", b"j", b"x") + mail(b"a")) * 2,
        ["Q", "Q"],
    ),
    "nothing but the same macros": ((macros(b"E", b"i", b"Q") + END) * 3, ["Q"] * 3),
    "the same macros after abort": (
        (macros(b"L", b"i", b"Q") + header(b"A", b"b") + ABORT) * 2 + END,
        [None],
    ),
    "the same macros in a new session": (
        macros(b"L", b"i", b"Q") + NEW_SESSION + macros(b"L", b"i", b"Q") + END,
        ["Q"],
    ),
    "reset at the end": (macros(b"E", b"i", b"Q") + END + mail(b"a") + END, ["Q", None]),
    "reset by abort": (macros(b"M", b"i", b"Q") + ABORT + END, [None]),
    "reset by a new session": (macros(b"M", b"i", b"Q") + NEW_SESSION + END, [None]),
    "of the next mail": (
        macros(b"M", b"i", b"1") + END + ABORT + macros(b"M", b"i", b"2") + END,
        ["1", "2"],
    ),
    "kept by other commands": (macros(b"R", b"i", b"Q") + rcpt(b"b") + packet(b"T") + END, ["Q"]),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "expected"), QUEUE_IDS.values(), ids=QUEUE_IDS)
def test_queue_id(stream: bytes, expected: list[str | None]) -> None:
    ends = [event for event in events_of(stream, wire=negotiated()) if isinstance(event, EndOfMessage)]
    assert [end.queue_id for end in ends] == expected


def test_macros_that_came_in_pieces_come_again() -> None:
    """Those that were learnt in pieces are known as the packet that they were."""
    known = macros(b"L", b"i", b"4bX1")
    stream = known + header(b"A", b"b") + known + header(b"C", b"d") + END_OF_HEADERS + END
    for cut in range(len(known) + 1):
        content, *rest = merged(events_of(stream[:cut], stream[cut:], wire=negotiated()))
        assert content == Content(b"A:b\r\nC:d\r\n\r\n", owed=False)
        assert rest == [EndOfMessage("4bX1")]


def test_macros_that_came_in_pieces_and_shorter_ones() -> None:
    """A packet that is one octet shorter is not taken for them, with the first octet of the next."""
    known = macros(b"L", b"i", b"4bX1")
    stream = known + packet(b"D", known[5:-1]) + header(b"A", b"b") + END
    for cut in range(len(known) + 1):
        events = events_of(stream[:cut], stream[cut:], wire=negotiated())
        assert merged(events) == [Content(b"A:b\r\n", owed=False), EndOfMessage("4bX1")]


def test_queue_id_of_the_mail_under_way() -> None:
    wire = negotiated()
    events_of(mail(b"a") + macros(b"R", b"i", b"Q"), wire=wire)
    assert wire.queue_id == "Q"
    events_of(END, wire=wire)
    assert wire.queue_id is None


# Each command, its event, and the flag that spares the reply.
REPLIES: dict[str, tuple[bytes, Event, int]] = {
    "connection": (packet(b"C", b"mx\0U"), Ignored(owed=True), 0x1000),
    "HELO": (packet(b"H", b"mx\0"), Ignored(owed=True), 0x2000),
    "RCPT": (rcpt(b"<c@d>"), Rcpt(b"<c@d>", owed=True), 0x8000),
    "DATA": (packet(b"T"), Ignored(owed=True), 0x10000),
    "unknown command": (packet(b"U", b"FOO\0"), Ignored(owed=True), 0x20000),
    "header": (HEADER, Content(LINE, owed=True), 0x80),
    "end of headers": (END_OF_HEADERS, Content(b"\r\n", owed=True), 0x40000),
    "body": (body(b"x"), Content(b"x", owed=True), 0x80000),
}


@pytest.mark.parametrize(("stream", "expected", "flag"), REPLIES.values(), ids=REPLIES)
def test_a_reply_is_owed_unless_it_was_agreed_that_there_is_none(
    stream: bytes, expected: Event, flag: int
) -> None:
    assert events_of(stream, wire=negotiated(flags=LEADING_SPACE)) == [expected]
    assert events_of(stream, wire=negotiated(flags=LEADING_SPACE | NO_REPLIES & ~flag)) == [expected]
    for event in events_of(stream, wire=negotiated(flags=LEADING_SPACE | flag)):
        assert not getattr(event, "owed", True), f"{event} with flag {flag:#x}"


def test_each_packet_is_answered_by_itself() -> None:
    """Version 2: four packets of content want four replies, the empty one also."""
    stream = header(b"Subject", b"hi") + END_OF_HEADERS + body(b"") + body(b"x")
    expected = [Content(data, owed=True) for data in (LINE, b"\r\n", b"", b"x")]
    assert events_of(stream, wire=negotiated(2, 0x3F, 0x7F)) == expected


def test_an_answered_packet_in_pieces_is_answered_once() -> None:
    wire, stream = negotiated(2, 0x3F, 0x7F), body(b"a" * 100)
    wire.receive(stream[:50])
    assert wire.next_event() == Content(b"a" * 45, owed=False)
    assert wire.next_event() is None
    wire.receive(stream[50:])
    assert wire.next_event() == Content(b"a" * 55, owed=True)


def test_new_session_with_another_negotiation() -> None:
    """What the first session agreed on is forgotten: leading blanks and replies."""
    wire = negotiated()
    _, _, content = events_of(NEW_SESSION + negotiation(2, 0x3F, 0x7F) + header(b"A", b"x"), wire=wire)
    assert content == Content(b"A: x\r\n", owed=True)


def test_new_session_without_another_negotiation() -> None:
    stream = NEW_SESSION + mail(b"a") + header(b"A", b"x")
    assert events_of(stream, wire=negotiated()) == [NewSession(), Mail(b"a"), silent(b"A:x\r\n")]


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 256 << 10, 1 << 20], ids=lambda size: f"{size:,}")
def test_body_chunk(size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    stream = body(data) + body(data) + END
    pieces = [stream[start : start + 60_000] for start in range(0, len(stream), 60_000)]
    assert events_of(*pieces, wire=negotiated()) == [silent(data + data), EndOfMessage(None)]


def test_content_is_handed_out_as_it_arrives() -> None:
    """The wire holds nothing of a chunk of 200 MB, whatever its length says."""
    wire = negotiated()
    wire.receive(struct.pack("!I", MAX_CONTENT) + b"B")
    for _ in range(100):
        wire.receive(b"x" * 50_000)
        assert wire.next_event() == silent(b"x" * 50_000)
        assert wire.next_event() is None
        assert wire.waiting == 0


MALFORMED = {
    "length 0": (bytes(4), "length 0"),
    "length 0 behind a mail": (mail(b"a") + bytes(4), "length 0"),
    "a body of 4 GB": (b"\xff\xff\xff\xffB", "4294967295 octets"),
    "macros of 4 GB": (b"\xff\xff\xff\xffD", "4294967295 octets"),
    "an unknown command of 4 GB": (b"\xff\xff\xff\xff!", "unknown command"),
    "an unknown command": (packet(b"!"), "unknown command b'!'"),
    "a command in lower case": (packet(b"m", b"a\0"), "unknown command b'm'"),
    "an SMTP client": (b"EHLO mail.example.org\r\n", "unknown command"),
    "a TLS client": (b"\x16\x03\x01\x02\x00\x01", "unknown command"),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", "unknown command"),
    "MAIL without NUL": (packet(b"M", b"<a@b>"), "does not end in NUL"),
    "MAIL without data": (packet(b"M"), "does not end in NUL"),
    "RCPT without NUL": (packet(b"R", b"<a@b>"), "does not end in NUL"),
    "RCPT without data": (packet(b"R"), "does not end in NUL"),
    "a header without data": (packet(b"L"), "without a value"),
    "a header without NUL": (packet(b"L", b"Subject: hi"), "without a value"),
    "a header without a value": (packet(b"L", b"Subject\0"), "does not end in NUL"),
    "a header whose value does not end": (packet(b"L", b"Subject\0 hi"), "does not end in NUL"),
    "a header with a third string": (packet(b"L", b"Subject\0 hi\0more\0"), "NUL in its value"),
    "a header with NUL at its end": (packet(b"L", b"Subject\0 hi\0\0"), "NUL in its value"),
    "an oversized MAIL": (struct.pack("!I", MAX_COMMAND + 1) + b"M", "262145 octets"),
    "an oversized RCPT": (struct.pack("!I", MAX_COMMAND + 1) + b"R", "262145 octets"),
    "oversized macros": (struct.pack("!I", MAX_COMMAND + 1) + b"D", "262145 octets"),
    "an oversized negotiation": (struct.pack("!I", MAX_COMMAND + 1) + b"O", "262145 octets"),
    "an oversized header": (struct.pack("!I", MAX_CONTENT + 1) + b"L", "268435457 octets"),
    "an oversized body": (struct.pack("!I", MAX_CONTENT + 1) + b"B", "268435457 octets"),
    "an oversized end": (struct.pack("!I", MAX_CONTENT + 1) + b"E", "268435457 octets"),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "octet by octet"])
@pytest.mark.parametrize(("stream", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_malformed(stream: bytes, reason: str, *, bytewise: bool) -> None:
    pieces = [bytes([octet]) for octet in stream] if bytewise else [stream]
    with pytest.raises(ProtocolError, match=reason):
        events_of(*pieces, wire=negotiated())


def test_only_the_commands_of_the_protocol_are_known() -> None:
    for octet in range(256):
        wire = Wire()
        wire.receive(struct.pack("!IB", 100, octet))
        if octet in COMMANDS:
            assert wire.next_event() is None
        else:
            with pytest.raises(ProtocolError):
                wire.next_event()


def test_the_largest_command_is_taken() -> None:
    address = b"a" * (MAX_COMMAND - 2)
    assert events_of(packet(b"M", address + b"\0"), wire=negotiated()) == [Mail(address)]


REFUSALS = {
    "temporary": ("451 4.3.0 Come again", b"\0\0\0\x16y451 4.3.0 Come again\0"),
    "full": ("452 4.3.1 No space", b"\0\0\0\x14y452 4.3.1 No space\0"),
    "permanent": ("553 5.1.3 Bad address", b"\0\0\0\x17y553 5.1.3 Bad address\0"),
}


@pytest.mark.parametrize(("reply", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_refusal(reply: str, expected: bytes) -> None:
    assert refusal(reply) == expected


def test_replies_without_data() -> None:
    assert (CONTINUE, PROGRESS) == (b"\0\0\0\1c", b"\0\0\0\1p")
