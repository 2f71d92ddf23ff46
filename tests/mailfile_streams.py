"""Messages and mail files in pieces: how they are cut and sent through a coder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise
from typing import Protocol

from benno_common.envelope import Envelope
from benno_common.mailfile import Decoder, Encoder


class Coder(Protocol):
    """Encoder, Unescaper, Decoder and OldDecoder."""

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


def run(coder: Coder, pieces: Iterable[bytes]) -> bytes:
    """All that a coder makes of the pieces."""
    return b"".join([*map(coder.feed, pieces), coder.finish()])


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in pieces that end at the places; equal places make empty pieces."""
    edges = [0, *sorted(places), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


def every_split(data: bytes) -> Iterator[list[bytes]]:
    for pieces in range(max(len(data), 1)):
        for places in combinations(range(1, len(data)), pieces):
            yield cut(data, places)


def octets(data: bytes) -> list[bytes]:
    return blocks(data, 1)


def crumbs(data: bytes) -> list[bytes]:
    """Octet by octet, or about a hundred pieces of longer data."""
    return blocks(data, 1 + len(data) // 100)


def blocks(data: bytes, size: int) -> list[bytes]:
    return cut(data, range(size, len(data), size))


def encode(envelope: Envelope, pieces: Iterable[bytes]) -> bytes:
    """The whole mail file."""
    encoder = Encoder(envelope)
    return encoder.start() + run(encoder, pieces)


def decode(pieces: Iterable[bytes], decoder: Decoder | None = None) -> tuple[Envelope, bytes]:
    """The envelope and the message of a mail file."""
    decoder = decoder or Decoder()
    message = run(decoder, pieces)
    assert decoder.envelope is not None, "a decoder ended without an error and without an envelope"
    return decoder.envelope, message
