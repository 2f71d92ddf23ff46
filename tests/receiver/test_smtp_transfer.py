"""DATA and BDAT content: every short input in every two pieces, each way to smuggle, and any octets.

The reference reads the whole content at once, line by line, as RFC 5321 4.5.2 says it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benno_smtp.transfer import ChunkDecoder, DataDecoder

pytestmark = pytest.mark.slow

examples = settings(derandomize=True, deadline=None, max_examples=300)

END = b"\r\n.\r\n"
NEXT = b"RCPT TO:<a@b>\r\n.\r\n"
LONGEST = 7  # octets of the inputs that are tried exhaustively


def reference(wire: bytes) -> tuple[bytes, bytes]:
    """The message, and what comes behind its end. The wire must hold an end."""
    message = b""
    while True:
        line, end, wire = wire.partition(b"\r\n")
        assert end, "no end of data"
        if line == b".":
            return message, wire
        message += line.removeprefix(b".") + end


def stuffed(message: bytes) -> bytes:
    """What a client sends for a message that is empty or ends with CRLF."""
    lines = message.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b".\r\n"


def run(pieces: Iterable[bytes]) -> tuple[bytes, bytes]:
    decoder = DataDecoder()
    message = b"".join([decoder.feed(piece) for piece in pieces])
    assert decoder.ended
    return message, decoder.rest


def by_octet(wire: bytes) -> Iterator[bytes]:
    return (wire[position : position + 1] for position in range(len(wire)))


def pieces_of(wire: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield wire[:size]
        wire = wire[size:]
    yield wire


@pytest.mark.parametrize("length", range(LONGEST + 1))
def test_every_short_input_in_two_pieces_and_octet_by_octet(length: int) -> None:
    for octets in product((b"\r", b"\n", b".", b"a"), repeat=length):
        wire = b"".join(octets) + END + b"a"
        expected = reference(wire)
        assert run(by_octet(wire)) == expected, wire
        for cut in range(len(wire) + 1):
            assert run((wire[:cut], wire[cut:])) == expected, (wire[:cut], wire[cut:])


@pytest.mark.parametrize("length", range(LONGEST + 1))
def test_it_ends_with_the_last_octet_of_the_end_and_holds_four_octets_at_the_most(length: int) -> None:
    for octets in product((b"\r", b"\n", b".", b"a"), repeat=length):
        wire = b"".join(octets) + END
        whole, rest = reference(wire)
        wire = wire.removesuffix(rest)
        decoder, message = DataDecoder(), b""
        for position, octet in enumerate(by_octet(wire)):
            assert not decoder.ended, wire
            message += decoder.feed(octet)
            assert whole.startswith(message), wire
            seen = wire[: position + 1]
            unstuffed = reference(seen + b"a\r\n" + END)[0].removesuffix(b"a\r\n\r\n")
            assert decoder.ended or len(unstuffed) - len(message) <= 4, seen
        assert (decoder.ended, message, decoder.rest) == (True, whole, b"")


# The content as it is sent, and the message.
DIALOGUES: dict[str, tuple[bytes, bytes]] = {
    "an empty mail": (b".\r\n", b""),
    "dot and LF, first line": (b".\nQUIT\r\n.\r\n", b"\nQUIT\r\n"),
    "dot and CR, first line": (b".\rQUIT\r\n.\r\n", b"\rQUIT\r\n"),
    "LF and dot, first line": (b"\n.\r\nQUIT\r\n.\r\n", b"\n.\r\nQUIT\r\n"),
    "an empty line": (b"\r\n.\r\n", b"\r\n"),
    "two empty lines": (b"\r\n\r\n.\r\n", b"\r\n\r\n"),
    "a line": (b"hello\r\n.\r\n", b"hello\r\n"),
    "a dot doubled, first line": (b"..\r\n.\r\n", b".\r\n"),
    "a dot doubled": (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
    "a line that begins with a dot": (b"a\r\n..b\r\n.\r\n", b"a\r\n.b\r\n"),
    "a dot that nobody doubled": (b"a\r\n.b\r\n.\r\n", b"a\r\nb\r\n"),
    "a dot that nobody doubled, first line": (b".b\r\n.\r\n", b"b\r\n"),
    "three dots": (b"a\r\n...\r\n.\r\n", b"a\r\n..\r\n"),
    "dots in a line and at its end": (b"a.b..\r\n.\r\n", b"a.b..\r\n"),
    "dot and blank": (b"a\r\n. \r\n.\r\n", b"a\r\n \r\n"),
    "doubled dots in a row": (b"..\r\n..\r\n.\r\n", b".\r\n.\r\n"),
    "any octet": (bytes(range(256)) + b"\r\n.\r\n", bytes(range(256)) + b"\r\n"),
    "NUL around the end": (b"\0\r\n\0.\r\n\r\n.\0\r\n.\r\n", b"\0\r\n\0.\r\n\r\n\0\r\n"),
    "CR before the end": (b"a\r\r\n.\r\n", b"a\r\r\n"),
    "LF before the end": (b"a\n\r\n.\r\n", b"a\n\r\n"),
}


@pytest.mark.parametrize(("wire", "message"), DIALOGUES.values(), ids=DIALOGUES)
def test_dialogue(wire: bytes, message: bytes) -> None:
    assert run([wire + NEXT]) == (message, NEXT)
    assert run([*by_octet(wire), NEXT]) == (message, NEXT)


# What stands between two lines, and what of it is message: no such thing ends a mail.
SMUGGLING: dict[str, tuple[bytes, bytes]] = {
    "LF . LF": (b"\n.\n", b"\n.\n"),
    "LF . CRLF": (b"\n.\r\n", b"\n.\r\n"),
    "LF . CR": (b"\n.\r", b"\n.\r"),
    "CR . CR": (b"\r.\r", b"\r.\r"),
    "CR . CRLF": (b"\r.\r\n", b"\r.\r\n"),
    "CR . LF": (b"\r.\n", b"\r.\n"),
    "CRLF . LF": (b"\r\n.\n", b"\r\n\n"),
    "CRLF . CR": (b"\r\n.\r", b"\r\n\r"),
    "CRLF . CR CRLF": (b"\r\n.\r\r\n", b"\r\n\r\r\n"),
    "CR LF CR . CRLF": (b"\r\n\r.\r\n", b"\r\n\r.\r\n"),
    "LF CR . LF CR": (b"\n\r.\n\r", b"\n\r.\n\r"),
    "CR CRLF . CR CRLF": (b"\r\r\n.\r\r\n", b"\r\r\n\r\r\n"),
    "CR NUL LF . CRLF": (b"\r\0\n.\r\n", b"\r\0\n.\r\n"),
    "CRLF NUL . CRLF": (b"\r\n\0.\r\n", b"\r\n\0.\r\n"),
    "CRLF . NUL CRLF": (b"\r\n.\0\r\n", b"\r\n\0\r\n"),
    "CRLF . blank CRLF": (b"\r\n. \r\n", b"\r\n \r\n"),
    "CRLF blank . CRLF": (b"\r\n .\r\n", b"\r\n .\r\n"),
    "CRLF . . CRLF": (b"\r\n..\r\n", b"\r\n.\r\n"),
    "LF . . LF": (b"\n..\n", b"\n..\n"),
    "next line, C1 control": (b"\x85.\x85", b"\x85.\x85"),
    "CR and LF with the eighth bit": (b"\x8d\x8a.\x8d\x8a", b"\x8d\x8a.\x8d\x8a"),
    "LF LF . LF LF": (b"\n\n.\n\n", b"\n\n.\n\n"),
    "vertical tab, form feed": (b"\x0b.\x0c", b"\x0b.\x0c"),
}
FIRST = b"Subject: one\r\n\r\nhello"
SECOND = b"MAIL FROM:<spy@evil.example>\r\nRCPT TO:<a@b>\r\nDATA\r\nSubject: two\r\n\r\nhello"


@pytest.mark.parametrize(("variant", "kept"), SMUGGLING.values(), ids=SMUGGLING)
def test_smuggling(variant: bytes, kept: bytes) -> None:
    wire = FIRST + variant + SECOND + END + NEXT
    expected = (FIRST + kept + SECOND + b"\r\n", NEXT)
    assert run([wire]) == expected
    assert run(by_octet(wire)) == expected
    assert run(wire.partition(variant)) == expected


@pytest.mark.parametrize(("variant", "kept"), SMUGGLING.values(), ids=SMUGGLING)
def test_smuggling_at_the_beginning(variant: bytes, kept: bytes) -> None:
    wire = variant + SECOND + END + NEXT
    assert run([wire]) == run(by_octet(wire)) == (kept + SECOND + b"\r\n", NEXT)


def test_octets_after_the_end_are_kept_for_the_commands() -> None:
    decoder = DataDecoder()
    assert decoder.feed(b"a\r\n.\r\nNO") == b"a\r\n"
    assert decoder.feed(b"OP\r\n.\r\n") == b""
    assert (decoder.ended, decoder.rest) == (True, b"NOOP\r\n.\r\n")


def test_a_mail_without_an_end_has_none() -> None:
    decoder = DataDecoder()
    assert decoder.feed(b"") == b""
    assert decoder.feed(b"a\r\n..\r\n") + decoder.feed(b".\r") == b"a\r\n."
    assert not decoder.ended
    assert decoder.rest == b""


MESSAGES = st.lists(
    st.sampled_from(
        [b"\r\n", b".", b"..", b"\r", b"\n", b"\r\n.\r\n", b"\r\n.", b"hello", b"\0", b"\xff"]
    )
    | st.binary(max_size=4)
).map(b"".join)
SIZES = st.lists(st.integers(0, 6))


@examples
@given(message=MESSAGES, sizes=SIZES)
def test_what_a_client_sends_arrives(message: bytes, sizes: list[int]) -> None:
    if message and not message.endswith(b"\r\n"):
        message += b"\r\n"
    wire = stuffed(message)
    assert run(pieces_of(wire + NEXT, sizes)) == (message, NEXT)


@examples
@given(content=MESSAGES, sizes=SIZES)
def test_any_content_in_any_pieces(content: bytes, sizes: list[int]) -> None:
    wire = content + END + NEXT
    assert run(pieces_of(wire, sizes)) == reference(wire)


def peak(decoder: DataDecoder | ChunkDecoder, piece: bytes, times: int) -> int:
    """Octets allocated at the most while the pieces are decoded."""
    tracemalloc.start()
    try:
        for _ in range(times):
            assert len(decoder.feed(piece)) <= len(piece) + 4
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("line", [b"a" * 100, b".", b"\r\n", b"\r\n.a", b"\r\n.\r", b"\n."], ids=repr)
def test_memory_is_bounded_whatever_the_line(line: bytes) -> None:
    piece = (line * 65536)[:65536]
    assert peak(DataDecoder(), piece, 64) < 5 * len(piece)
    assert peak(ChunkDecoder(64 * len(piece)), piece, 64) < 5 * len(piece)


# Size of a chunk, pieces of the wire, what is message, what comes behind.
CHUNKS: dict[str, tuple[int, list[bytes], bytes, bytes]] = {
    "one piece": (3, [b"abc"], b"abc", b""),
    "two pieces": (3, [b"a", b"bc"], b"abc", b""),
    "with what follows": (3, [b"abcBDAT 0 LAST\r\n"], b"abc", b"BDAT 0 LAST\r\n"),
    "what follows comes later": (3, [b"abc", b"BDAT", b" 0 LAST"], b"abc", b"BDAT 0 LAST"),
    "end of data is content": (7, [b"\r\n.\r\n", b"..QUIT"], b"\r\n.\r\n..", b"QUIT"),
    "nothing": (0, [b"QUIT\r\n"], b"", b"QUIT\r\n"),
    "empty pieces": (2, [b"", b"a", b"", b"b", b""], b"ab", b""),
    "any octet": (256, [bytes(range(256)), b"QUIT"], bytes(range(256)), b"QUIT"),
}


@pytest.mark.parametrize(("size", "pieces", "chunk", "rest"), CHUNKS.values(), ids=CHUNKS)
def test_chunk(size: int, pieces: list[bytes], chunk: bytes, rest: bytes) -> None:
    decoder = ChunkDecoder(size)
    assert b"".join([decoder.feed(piece) for piece in pieces]) == chunk
    assert (decoder.ended, decoder.rest) == (True, rest)


@examples
@given(chunk=st.binary(), sizes=SIZES)
def test_chunk_in_any_pieces(chunk: bytes, sizes: list[int]) -> None:
    decoder, content = ChunkDecoder(len(chunk)), b""
    for piece in pieces_of(chunk + NEXT, sizes):
        assert decoder.ended == (content == chunk)
        content += decoder.feed(piece)
    assert (content, decoder.ended, decoder.rest) == (chunk, True, NEXT)
