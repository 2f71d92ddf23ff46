"""Content: what a message needs, dots, line ends; each against a model that sees the message whole."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benno_milter2smtp.content import Content, Inspector, Normalizer, Stuffer

pytestmark = pytest.mark.slow

# Octets that matter, in pieces.
PIECES = st.lists(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\0", b"\xff"])).map(b"".join))


def inspected(pieces: Sequence[bytes]) -> Content:
    inspector = Inspector()
    for piece in pieces:
        inspector.feed(piece)
    return inspector.content()


def normalized(pieces: Sequence[bytes]) -> bytes:
    normalizer = Normalizer()
    return b"".join(map(normalizer.feed, pieces)) + normalizer.finish()


@given(PIECES)
@example([b"\r", b"\n"])
@example([b"a\r", b"\nb"])
@example([b"\n", b"\r"])
def test_inspector(pieces: list[bytes]) -> None:
    message = b"".join(pieces)
    bare = message.replace(b"\r\n", b"")
    assert inspected(pieces) == Content(
        size=len(message),
        sha256=hashlib.sha256(message).hexdigest(),
        bare=bare.count(b"\r") + bare.count(b"\n"),
        nul=b"\0" in message,
        eight_bit=b"\xff" in message,
        complete=message == b"" or message.endswith(b"\r\n"),
        open_end=message != b"" and message[-1:] not in (b"\r", b"\n"),
        begin=message[:1],
    )


@given(PIECES)
@example([b"\r\n", b"."])
@example([b"\r", b"\n", b".", b"."])
def test_stuffer(pieces: list[bytes]) -> None:
    stuffer = Stuffer()
    stuffed = b"".join(map(stuffer.feed, pieces))
    assert stuffed == re.sub(rb"(?:\A|(?<=\r\n))\.", b"..", b"".join(pieces))


@given(PIECES)
def test_a_stuffed_message_never_ends_early(pieces: list[bytes]) -> None:
    """The receiver's rule: it ends at the first CRLF.CRLF, and one dot is taken off each line."""
    message = b"".join(pieces)
    if not inspected(pieces).complete:
        message += b"\r\n"
        pieces = [*pieces, b"\r\n"]
    stuffer = Stuffer()
    sent = b"\r\n" + b"".join(map(stuffer.feed, pieces)) + b".\r\n"
    end = sent.index(b"\r\n.\r\n")
    assert end + 5 == len(sent)
    assert sent[: end + 2].replace(b"\r\n.", b"\r\n")[2:] == message


@given(PIECES)
@example([b"a\r", b"\nb\r"])
@example([b"\r", b"\r", b"\n"])
@example([b"a", b""])
def test_normalizer(pieces: list[bytes]) -> None:
    message = b"".join(pieces)
    expected = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
    if expected and not expected.endswith(b"\r\n"):
        expected += b"\r\n"
    assert normalized(pieces) == expected
    assert inspected(pieces).normalized_size == len(expected)
    if inspected(pieces).complete and not inspected(pieces).bare:
        assert expected == message
