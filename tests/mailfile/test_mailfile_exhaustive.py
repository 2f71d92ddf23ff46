"""Every message over a small alphabet, with names and prefix small enough to occur in it.

For each: the encoder writes what the grammar says, the decoder gives the message back, and a lenient
reader finds nothing but the block. About 760,000 messages, and short ones cut in every way; a quick
part of them without `system`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import pytest

from benno_common.mailfile import Encoder, Grammar, Unescaper
from judges import lenient_view
from mailfile_reference import Reference
from mailfile_streams import every_split, run

pytestmark = pytest.mark.slow

BLOCK = b"Z: block\r\n"
SEEN = {b"Z": [b"block"]}
MAX_SPLIT = 7  # octets of a message that is cut in all its 64 ways


class World(NamedTuple):
    """A grammar and the words that messages are made of; `reach`: words in a message at the most."""

    words: tuple[bytes, ...]
    grammar: Grammar
    reach: int

    def messages(self, reach: int) -> Iterator[bytes]:
        for length in range(reach + 1):
            for words in product(self.words, repeat=length):
                yield b"".join(words)


def octets(word: bytes) -> tuple[bytes, ...]:
    return tuple(bytes([octet]) for octet in word)


def grammar(prefix: bytes, *names: bytes, head: int) -> Grammar:
    return Grammar(prefix, frozenset(names), head)


WORLDS = {
    "lines": World(octets(b"A:\r\nQ"), grammar(b"Q", b"A", head=3), 7),
    "two names": World(octets(b"aB: \r\nQ"), grammar(b"Q", b"AB", b"B", head=4), 6),
    "longer prefix": World(octets(b"A: \r\nP-"), grammar(b"P-", b"A", head=3), 6),
    "prefix like a name": World(octets(b"xy: \r\n"), grammar(b"x", b"Y", b"YX", head=3), 6),
    "four letters": World((b"AB", b"A", b"\x01", b":", b"\nE\n"), grammar(b"QQQQ", b"ABAB", head=9), 7),
    "dotted and dotless i": World(octets(b"i\xc4\xb0\xb1:\n "), grammar(b"Q", b"I", head=4), 6),
    "long lines": World(
        (b"AB", b"  ", b"\x01", b":", b"\n", b"\xff"), grammar(b"Q", b"ABAB", head=7), 6
    ),
    "line ends": World(
        (b"A", b"A:", b" ", b"\r\n", b"\r", b"\n", b"Q"), grammar(b"Q", b"A", head=4), 6
    ),
}
EACH_WORLD = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())


def sweep(world: World, reach: int) -> None:
    names = world.grammar.names | SEEN.keys()
    reference = Reference(world.grammar.prefix, world.grammar.names, world.grammar.head)
    for message in world.messages(reach):
        encoder = Encoder(None, world.grammar)
        encoded = encoder.feed(message) + encoder.finish()
        decoder = Unescaper(world.grammar.prefix)
        assert encoded == reference.encode(message), message
        assert len(encoded) == len(message) + encoder.escaped * len(world.grammar.prefix), message
        assert decoder.feed(encoded) + decoder.finish() == message, encoded
        assert lenient_view(BLOCK + encoded, names) == SEEN, encoded


def sweep_splits(world: World, reach: int) -> None:
    reference = Reference(world.grammar.prefix, world.grammar.names, world.grammar.head)
    for message in world.messages(reach):
        if len(message) > MAX_SPLIT:
            continue
        encoded, decoded = reference.encode(message), reference.decode(message)
        for pieces in every_split(message):
            assert run(Encoder(None, world.grammar), pieces) == encoded, pieces
            assert run(Unescaper(world.grammar.prefix), pieces) == decoded, pieces


@EACH_WORLD
def test_short_messages(world: World) -> None:
    sweep(world, min(world.reach - 2, 4))


@EACH_WORLD
def test_every_split_of_very_short_messages(world: World) -> None:
    sweep_splits(world, 3)


@pytest.mark.system
@EACH_WORLD
def test_messages(world: World) -> None:
    sweep(world, world.reach)


@pytest.mark.system
@EACH_WORLD
def test_every_split_of_short_messages(world: World) -> None:
    sweep_splits(world, 4)


@EACH_WORLD
def test_the_judge_sees_what_is_not_escaped(world: World) -> None:
    names = world.grammar.names | SEEN.keys()
    visible = sum(lenient_view(BLOCK + message, names) != SEEN for message in world.messages(3))
    assert visible > 0, "no message of this world is a threat: it proves nothing"
