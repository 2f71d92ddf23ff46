"""The real grammar with arbitrary and with hostile messages, envelopes and splits.

decode(encode(envelope, message)) is the same envelope and message; how a stream is cut changes nothing;
no reader sees a header that is not ours; and a coder never holds more than the head of one line.
"""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benno_common.envelope import Envelope
from benno_common.mailfile import GRAMMAR, PREFIX, Decoder, Encoder, Unescaper
from hostile import ADDRESSES, FRAGMENTS, HOSTILE, LINE_ENDS, random_mails
from judges import collect, lenient_view
from mailfile_reference import Reference, block
from mailfile_streams import blocks, crumbs, cut, decode, encode, octets, run

pytestmark = pytest.mark.slow

REFERENCE = Reference()
HEAD = 1024
ENVELOPE = Envelope(b"sender@example.org", (b"first@example.net", b"second@example.net"), b"gw1")
MEGABYTE = 1 << 20

examples = settings(derandomize=True, deadline=None, max_examples=100)

storable = st.binary(max_size=20).map(lambda raw: raw.translate(None, b"\r\n\0"))
addresses = st.sampled_from(ADDRESSES) | storable
gateways = st.none() | st.from_regex(rb"[\x21-\x7e]+", fullmatch=True)
envelopes = st.builds(Envelope, addresses, st.lists(addresses, max_size=5).map(tuple), gateways)
words = st.sampled_from((*FRAGMENTS, *LINE_ENDS * 3)) | st.binary(max_size=5)
messages = st.lists(words, max_size=20).map(b"".join)
places = st.lists(st.integers(0, 1 << 14), max_size=12)


def pieces_of(data: bytes, where: list[int]) -> list[bytes]:
    """Cut at places anywhere, with empty pieces where two are the same."""
    return cut(data, [place % (len(data) + 1) for place in where])


def kept_back_by_encoder(pieces: list[bytes]) -> int:
    """The most octets that an encoder has read and not written, after any piece."""
    encoder, held, most = Encoder(None), 0, 0
    for piece in pieces:
        before = encoder.escaped
        written = len(encoder.feed(piece)) - len(PREFIX) * (encoder.escaped - before)
        held += len(piece) - written
        most = max(most, held)
    return most


def kept_back_by_decoder(pieces: list[bytes]) -> int:
    """The same of a decoder; a prefix that it has taken off is not held."""
    decoder, read, written, most = Unescaper(), b"", 0, 0
    for piece in pieces:
        read += piece
        written += len(decoder.feed(piece))
        most = max(most, len(REFERENCE.decode(read)) - written)
    return most


@examples
@given(envelopes, messages, places, places)
def test_round_trip(envelope: Envelope, message: bytes, here: list[int], there: list[int]) -> None:
    file = encode(envelope, pieces_of(message, here))
    assert file == block(envelope.sender, envelope.recipients, envelope.gateway) + REFERENCE.encode(
        message
    )
    assert decode(pieces_of(file, there)) == (envelope, message)


@examples
@given(messages, places)
def test_any_message_can_be_decoded(message: bytes, where: list[int]) -> None:
    """Also one that no encoder wrote: what lies in a spool stays readable."""
    assert run(Unescaper(), pieces_of(message, where)) == REFERENCE.decode(message)


@examples
@given(envelopes, messages)
def test_lenient_reader_sees_our_block_and_nothing_else(envelope: Envelope, message: bytes) -> None:
    ours = [(b"X-REAL-MAILFROM", b"<%b>" % envelope.sender)]
    ours += [(b"X-REAL-RCPTTO", b"<%b>" % recipient) for recipient in envelope.recipients]
    ours += [(b"X-BENNO-GW", envelope.gateway)] if envelope.gateway else []
    assert lenient_view(encode(envelope, [message])) == collect(ours)


@examples
@given(messages, places)
def test_held_octets(message: bytes, where: list[int]) -> None:
    assert kept_back_by_encoder(pieces_of(message, where)) <= HEAD
    assert kept_back_by_decoder(pieces_of(message, where)) <= HEAD


@examples
@given(messages)
def test_held_octets_when_fed_one_by_one(message: bytes) -> None:
    assert kept_back_by_encoder(octets(message)) < HEAD
    assert kept_back_by_decoder(octets(message[:HEAD])) <= len(PREFIX)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_message(name: str) -> None:
    """Round trip and equality with the grammar, at one go and in small pieces."""
    message = HOSTILE[name].message
    file = encode(ENVELOPE, [message])
    assert file.endswith(REFERENCE.encode(message))
    assert decode([file]) == (ENVELOPE, message)
    assert encode(ENVELOPE, crumbs(message)) == file
    assert decode(crumbs(file)) == (ENVELOPE, message)


def test_ten_thousand_forged_lines_are_counted() -> None:
    encoder = Encoder(None)
    written = run(encoder, [b"X-REAL-RCPTTO: <a@example.net>\r\n" * 10_000])
    assert encoder.escaped == 10_000
    assert written.count(PREFIX) == 10_000


@pytest.mark.system
def test_ten_thousand_random_mails() -> None:
    for number, (envelope, message) in enumerate(random_mails(3, 10_000)):
        size = 1 + number % 2000
        file = encode(envelope, blocks(message, size))
        assert file.endswith(REFERENCE.encode(message))
        assert decode(blocks(file, size)) == (envelope, message)


# How a long line begins, and what it is filled with.
LONG_LINES = {
    "harmless": (b"x", b"x"),
    "forged": (b"X-REAL-RCPTTO: <", b"x"),
    "forged, value of blanks": (b"X-REAL-RCPTTO", b" "),
    "blanks": (b" ", b" "),
    "controls": (b"\x01", b"\x01"),
    "prefix": (PREFIX, b"x"),
}
EACH_LONG_LINE = pytest.mark.parametrize("line", LONG_LINES.values(), ids=LONG_LINES.keys())


def send_long_line(line: tuple[bytes, bytes], megabytes: int) -> tuple[int, int, int]:
    """Through an encoder into a decoder: octets sent, octets that came, and the most that was held."""
    encoder, decoder = Encoder(ENVELOPE), Decoder()
    decoder.feed(encoder.start())
    sent = came = most = 0
    for number in range(16 * megabytes):
        beginning, filler = line
        piece = (b"" if number else beginning).ljust(1 << 16, filler)
        sent += len(piece)
        came += len(decoder.feed(encoder.feed(piece)))
        most = max(most, sent - came)
    return sent, came + len(decoder.feed(encoder.finish())) + len(decoder.finish()), most


@EACH_LONG_LINE
def test_long_line(line: tuple[bytes, bytes]) -> None:
    sent, came, most = send_long_line(line, 1)
    assert came == sent
    assert most <= HEAD


@pytest.mark.system
@EACH_LONG_LINE
def test_line_of_50_megabytes(line: tuple[bytes, bytes]) -> None:
    """Nor does anything else grow: what is measured here is memory."""
    tracemalloc.start()
    try:
        sent, came, most = send_long_line(line, 50)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert came == sent == 50 * MEGABYTE
    assert most <= HEAD
    assert peak < MEGABYTE


def test_the_real_grammar_is_the_documented_one() -> None:
    assert (GRAMMAR.prefix, GRAMMAR.names, GRAMMAR.head) == (REFERENCE.prefix, REFERENCE.names, HEAD)
