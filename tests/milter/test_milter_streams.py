"""However the octets are cut, the mails are the same; rubbish is a ProtocolError and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benno_milter.event import ProtocolError
from benno_milter.wire import Wire
from mailfile_streams import cut
from milter_memory import MemoryMilter
from milter_packets import (
    ABORT,
    COMMANDS,
    END,
    END_OF_HEADERS,
    NEW_SESSION,
    QUIT,
    SESSION,
    SESSION_MAILS,
    body,
    events_of,
    header,
    macros,
    mail,
    negotiation,
    packets_of,
    rcpt,
)
from mta import ALL_PROTOCOL, LEADING_SPACE, NO_REPLIES, packet

pytestmark = pytest.mark.slow

examples = settings(derandomize=True, deadline=None, max_examples=100)

# Octets without NUL, with many line ends.
texts = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"a", b"<", b">", b"\xff"])).map(
    b"".join
)
data = texts | st.binary(max_size=40)
flags = st.sampled_from([ALL_PROTOCOL, 0x7F, 0, NO_REPLIES, LEADING_SPACE, ALL_PROTOCOL & ~0x80000])
symbols = st.sampled_from([b"", b"i", b"{i}", b"j", b"QID", b"Q2"])
legal = (
    st.builds(negotiation, st.integers(2, 6), st.just(0x1FF), flags)
    | st.builds(mail, texts, texts)
    | st.builds(rcpt, texts)
    | st.builds(header, texts, texts)
    | st.builds(body, data)
    | st.builds(macros, st.sampled_from([b"M", b"E", b""]), symbols, symbols, symbols)
    | st.builds(packet, st.sampled_from([b"E", b"T", b"H", b"C", b"U", b"D"]), data)
    | st.sampled_from([END, END_OF_HEADERS, ABORT, NEW_SESSION, QUIT])
)
streams = st.lists(legal, max_size=20).map(b"".join)
places = st.lists(st.integers(0, 1 << 12), max_size=12)


@given(streams, places)
@examples
def test_cuts_change_no_event(stream: bytes, where: list[int]) -> None:
    whole, cutting, bytewise = Wire(), Wire(), Wire()
    expected = events_of(stream, wire=whole)
    pieces = cut(stream, [place % (len(stream) + 1) for place in where])
    assert events_of(*pieces, wire=cutting) == expected
    assert events_of(*cut(stream, range(1, len(stream))), wire=bytewise) == expected
    assert whole.queue_id == cutting.queue_id == bytewise.queue_id
    assert whole.waiting == cutting.waiting == bytewise.waiting == 0


@given(streams, places)
@examples
def test_cuts_change_no_mail(stream: bytes, where: list[int]) -> None:
    whole, cutting = MemoryMilter(), MemoryMilter()
    whole.receive(stream)
    cutting.receive(*cut(stream, [place % (len(stream) + 1) for place in where]))
    assert cutting.archive.kept == whole.archive.kept
    assert cutting.archive.refused == whole.archive.refused
    assert cutting.archive.open == whole.archive.open


def test_every_cut_of_a_session_in_two() -> None:
    for place in range(len(SESSION) + 1):
        milter = MemoryMilter()
        milter.receive(SESSION[:place], SESSION[place:])
        assert milter.archive.kept == SESSION_MAILS, f"cut at {place}"


def test_every_end_of_a_session() -> None:
    """After any octet the connection may be gone: what has ended is kept, nothing else."""
    for place in range(len(SESSION) + 1):
        milter = MemoryMilter()
        milter.receive(SESSION[:place])
        ended = sum(packet[4:5] == b"E" for packet in packets_of(SESSION[:place]))
        assert milter.archive.kept == SESSION_MAILS[:ended], f"ends at {place}"


def survives(stream: bytes) -> bool:
    """Whether all of the stream was understood; no error but ProtocolError may come out."""
    milter = MemoryMilter()
    try:
        milter.receive(*cut(stream, range(61, len(stream), 61)))
    except ProtocolError:
        return False
    return True


def mutations(count: int) -> Iterator[bytes]:
    """The session with a few octets, or whole packets, changed, lost, doubled or exchanged."""
    chance = random.Random(1)
    packets = packets_of(SESSION)
    for _ in range(count):
        shuffled = packets.copy()
        for _ in range(chance.randrange(4)):
            place = chance.randrange(len(shuffled))
            shuffled[place : place + chance.randrange(2)] = chance.sample(packets, chance.randrange(3))
        mutant = bytearray(b"".join(shuffled))
        for _ in range(chance.randrange(4)):
            place = chance.randrange(len(mutant) + 1)
            mutant[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        yield bytes(mutant)


def test_mutated_sessions() -> None:
    understood = sum(map(survives, mutations(2000)))
    assert 200 < understood < 1800, "either all mutants are harmless, or none is"


def test_random_packets() -> None:
    """Packets with a right length and a known command, and anything in them."""
    chance = random.Random(2)
    understood = 0
    for _ in range(2000):
        kinds = chance.choices(COMMANDS, k=chance.randrange(1, 6))
        stream = [packet(bytes([kind]), chance.randbytes(chance.randrange(20))) for kind in kinds]
        understood += survives(negotiation() + b"".join(stream))
    assert 100 < understood < 1900


@given(st.binary(max_size=200))
@examples
def test_random_octets(stream: bytes) -> None:
    survives(stream)
    survives(negotiation() + stream)
