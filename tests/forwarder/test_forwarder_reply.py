"""Replies: octets in, replies out, wherever the octets are cut."""

from __future__ import annotations

import pytest

from benno_milter2smtp.reply import MAX_LINE, MAX_REPLY, Reply, ReplyError, ReplyReader

GOOD = {
    b"": [],
    b"250 ok\r\n": [Reply(250, "ok")],
    b"250\r\n": [Reply(250, "")],
    b"250 \r\n": [Reply(250, "")],
    b"250 ok\n": [Reply(250, "ok")],
    b"250-one\r\n250-\r\n250 three\r\n": [Reply(250, "one  three")],
    b"250-one\r\n250\r\n": [Reply(250, "one ")],
    b"354 a\r\n550 5.1.1 b\r\n": [Reply(354, "a"), Reply(550, "5.1.1 b")],
    b"250 Gr\xc3\xbc\xdf\r\n": [Reply(250, "Gr\u00fc\\xdf")],
    b"250-half\r\n250 ": [],
}
BAD = [
    b"\r\n",
    b"25 ok\r\n",
    b"2500 ok\r\n",
    b"150 ok\r\n",
    b"650 ok\r\n",
    b"abc\r\n",
    b" 250 ok\r\n",
    b"250ok\r\n",
    b"250 a\rb\r\n",
    b"250-one\r\n550 two\r\n",
]


@pytest.mark.parametrize("octets", GOOD)
def test_replies_at_every_cut(octets: bytes) -> None:
    for cut in range(len(octets) + 1):
        reader = ReplyReader()
        assert reader.feed(octets[:cut]) + reader.feed(octets[cut:]) == GOOD[octets], f"cut at {cut}"
    reader = ReplyReader()
    single = [reply for at in range(len(octets)) for reply in reader.feed(octets[at : at + 1])]
    assert single == GOOD[octets]


@pytest.mark.parametrize("octets", BAD)
def test_what_is_no_reply(octets: bytes) -> None:
    with pytest.raises(ReplyError):
        ReplyReader().feed(octets)


def test_memory_is_bounded() -> None:
    with pytest.raises(ReplyError, match="a line of more than"):
        ReplyReader().feed(b"250 " + b"x" * MAX_LINE)
    reader = ReplyReader()
    with pytest.raises(ReplyError, match="a reply of more than"):
        for _ in range(MAX_REPLY):
            reader.feed(b"250-x\r\n")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("5.7.1 no", "5.7.1"),
        ("5.7.1", "5.7.1"),
        ("no 5.7.1", ""),
        ("5.7 no", ""),
        ("5.7.1.2 no", ""),
        ("3.7.1 no", ""),
        ("5.7.1234 no", ""),
        ("", ""),
    ],
)
def test_enhanced_status(text: str, status: str) -> None:
    assert Reply(550, text).status == status
