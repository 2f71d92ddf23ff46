"""Milter packets as octets, and the events that the wire makes of them. No socket."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from benno_milter.event import Content, Event, Negotiation
from benno_milter.wire import Wire
from mta import ALL_ACTIONS, ALL_PROTOCOL, packet, strings

END_OF_HEADERS = packet(b"N")
END = packet(b"E")
ABORT = packet(b"A")
NEW_SESSION = packet(b"K")
QUIT = packet(b"Q")

# The commands that an MTA sends to a milter which wants them all (Sendmail's mfdef.h).
COMMANDS = b"OCHMRTLNBEAQKDU"


def negotiation(version: int = 6, actions: int = ALL_ACTIONS, flags: int = ALL_PROTOCOL) -> bytes:
    return packet(b"O", struct.pack("!III", version, actions, flags))


def macros(command: bytes, *values: bytes) -> bytes:
    return packet(b"D", command + strings(*values))


def mail(sender: bytes, *arguments: bytes) -> bytes:
    return packet(b"M", strings(sender, *arguments))


def rcpt(recipient: bytes, *arguments: bytes) -> bytes:
    return packet(b"R", strings(recipient, *arguments))


def header(name: bytes, value: bytes) -> bytes:
    """value: with its leading blank, as it comes with SMFIP_HDR_LEADSPC."""
    return packet(b"L", strings(name, value))


def body(data: bytes) -> bytes:
    return packet(b"B", data)


def negotiated(version: int = 6, actions: int = ALL_ACTIONS, flags: int = ALL_PROTOCOL) -> Wire:
    """A wire that has answered the offer."""
    wire = Wire()
    (event,) = events_of(negotiation(version, actions, flags), wire=wire)
    assert isinstance(event, Negotiation)
    return wire


def events_of(*pieces: bytes, wire: Wire | None = None) -> list[Event]:
    """All events of the octets that arrive in these pieces. Raises ProtocolError."""
    wire = wire or Wire()
    events: list[Event] = []
    for piece in pieces:
        wire.receive(piece)
        while (event := wire.next_event()) is not None:
            events.append(event)
    return merged(events)


def merged(events: Iterable[Event]) -> list[Event]:
    """Content that arrived in several events, up to the one that is answered, as one event."""
    result: list[Event] = []
    for event in events:
        before = result[-1] if result else None
        if isinstance(event, Content) and isinstance(before, Content) and not before.owed:
            result[-1] = Content(before.data + event.data, event.owed)
        else:
            result.append(event)
    return result


def packets_of(stream: bytes) -> list[bytes]:
    """The complete packets that a stream begins with."""
    packets, position = [], 0
    while position + 4 <= len(stream):
        (length,) = struct.unpack_from("!I", stream, position)
        if position + 4 + length > len(stream):
            break
        packets.append(stream[position : position + 4 + length])
        position += 4 + length
    return packets


# Three mails on one connection, with all that Postfix puts in between; none but the second is aborted.
SESSION = b"".join(
    [
        negotiation(),
        *(macros(b"M"), mail(b"<a@b>", b"SIZE=10"), macros(b"R"), rcpt(b"<c@d>")),
        *(macros(b"R", b"i", b"Q1"), rcpt(b"<e@f>"), macros(b"L", b"i", b"Q1")),
        *(header(b"Subject", b" one\n\tfold"), header(b"X", b""), END_OF_HEADERS),
        *(body(b"body\r\n"), macros(b"E", b"i", b"Q1"), END, ABORT),
        *(
            macros(b"M"),
            mail(b"<lost@b>"),
            rcpt(b"<lost@d>"),
            header(b"Lost", b" 1"),
            body(b"x"),
            ABORT,
        ),
        *(NEW_SESSION, packet(b"H", b"mx\0"), mail(b""), rcpt(b"g"), header(b"S", b" 2\r\n x")),
        *(END_OF_HEADERS, body(b""), packet(b"E", b"end"), QUIT),
    ]
)
SESSION_MAILS = [
    (b"a@b", (b"c@d", b"e@f"), b"Subject: one\r\n\tfold\r\nX:\r\n\r\nbody\r\n"),
    (b"", (b"g",), b"S: 2\r\n x\r\n\r\nend"),
]
