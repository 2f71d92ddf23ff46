"""SMTP smuggling with the real process: what another server could take for the end of a mail.

A server before this one that ends a mail, or passes its octets on, by other rules is how mail gets in
that nobody sent. So here CR LF . CR LF ends a mail and nothing else does, wherever the octets are cut;
and in a chunk nothing does but its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import receiver_daemon
from benno_common.envelope import Envelope
from mailfile_streams import encode
from receiver_daemon import Receiver
from smtp import Client

pytestmark = pytest.mark.slow

ENVELOPE = Envelope(b"a@b", (b"c@d",))

ENDS = {
    "LF . LF": b"\n.\n",
    "LF . CR": b"\n.\r",
    "LF . CR LF": b"\n.\r\n",
    "CR . LF": b"\r.\n",
    "CR . CR": b"\r.\r",
    "CR . CR LF": b"\r.\r\n",
    "CR LF . LF": b"\r\n.\n",
    "CR LF . CR": b"\r\n.\r",
    "CR LF . CR CR LF": b"\r\n.\r\r\n",
    "CR CR LF . CR CR LF": b"\r\r\n.\r\r\n",
    "CR LF CR . CR LF": b"\r\n\r.\r\n",
    "LF CR . CR LF": b"\n\r.\r\n",
    "LF CR . LF CR": b"\n\r.\n\r",
    "LF LF . CR LF": b"\n\n.\r\n",
    "LF LF . LF LF": b"\n\n.\n\n",
    "LF . LF, CR LF . LF": b"\n.\n\r\n.\n",
    "NUL LF . LF": b"\0\n.\n",
    "LF . NUL LF": b"\n.\0\n",
    "CR NUL . CR NUL": b"\r\0.\r\0",
    "CR NUL LF . CR LF": b"\r\0\n.\r\n",
    "CR LF NUL . CR LF": b"\r\n\0.\r\n",
    "CR LF . NUL CR LF": b"\r\n.\0\r\n",
    "CR LF . CR NUL LF": b"\r\n.\r\0\n",
    "CR LF blank . CR LF": b"\r\n .\r\n",
    "CR LF . blank CR LF": b"\r\n. \r\n",
    "CR LF TAB . CR LF": b"\r\n\t.\r\n",
    "CR LF . . CR LF": b"\r\n..\r\n",
    "LF . . LF": b"\n..\n",
    "vertical tab, form feed": b"\x0b.\x0c",
    "next line, C1 control": b"\x85.\x85",
    "next line in UTF-8": b"\xc2\x85.\xc2\x85",
    "line separator in UTF-8": b"\xe2\x80\xa8.\xe2\x80\xa8",
    "CR and LF with the eighth bit": b"\x8d\x8a.\x8d\x8a",
    "full width dot": b"\r\n\xef\xbc\x8e\r\n",
}

FIRST = b"Subject: first\r\n\r\nfirst"
SECOND = (
    b"MAIL FROM:<evil@b>\r\nRCPT TO:<victim@d>\r\nDATA\r\nSubject: smuggled\r\n\r\nsecond\r\n..\r\n"
    b"RSET\r\nQUIT\r\n"
)

Pieces = Callable[[bytes, bytes], Iterator[list[bytes]]]


def in_one_write(sent: bytes, _: bytes) -> Iterator[list[bytes]]:
    yield [sent]


def octet_by_octet(sent: bytes, _: bytes) -> Iterator[list[bytes]]:
    yield [sent[place : place + 1] for place in range(len(sent))]


def cut_anywhere_in_it(sent: bytes, end: bytes) -> Iterator[list[bytes]]:
    begin = sent.index(end)
    for place in range(begin, begin + len(end) + 1):
        yield [sent[:place], sent[place:]]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver_daemon.running(tmp_path_factory.mktemp("smuggling") / "inbox") as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "unexpected" not in receiver.log


def arrive(client: Client, pieces: list[bytes], other: Client) -> None:
    """Each piece alone: behind it the server has answered somebody else."""
    for piece in pieces:
        client.socket.sendall(piece)
        if len(pieces) == 2:
            assert other.command(b"NOOP").startswith("250")


def only_file(receiver: Receiver) -> Path:
    (path,) = receiver.files()
    return path


@pytest.mark.parametrize(
    "cut", [in_one_write, octet_by_octet, cut_anywhere_in_it], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_data(receiver: Receiver, end: bytes, cut: Pieces) -> None:
    """One mail, with all of it; the client gets one reply to it, and its session is as before."""
    sent = FIRST + end + SECOND + b".\r\n"
    # What a line begins with a dot loses it; nothing else is touched.
    message = sent.removesuffix(b".\r\n").replace(b"\r\n.", b"\r\n")
    with Client(receiver.port) as client, Client(receiver.port) as other:
        for pieces in cut(sent, end):
            assert client.envelope(ENVELOPE.sender, ENVELOPE.recipients) == []
            assert client.command(b"DATA").startswith("354")
            arrive(client, pieces, other)
            assert client.read().startswith("250 2.0.0 Stored")
            path = only_file(receiver)
            assert path.read_bytes() == encode(ENVELOPE, [message]), pieces
            path.unlink()
            assert client.command(b"RCPT TO:<x@y>").startswith("503")


@pytest.mark.parametrize("end", [*ENDS.values(), b"\r\n.\r\n"], ids=[*ENDS, "CR LF . CR LF"])
def test_at_the_beginning(receiver: Receiver, end: bytes) -> None:
    """Content begins at the beginning of a line: a dot and CR LF there are the end, nothing else."""
    sent = end.removeprefix(b"\r\n") + SECOND
    message = (b"\r\n" + sent).replace(b"\r\n.", b"\r\n").removeprefix(b"\r\n")
    with Client(receiver.port) as client:
        assert client.envelope(ENVELOPE.sender, ENVELOPE.recipients) == []
        assert client.command(b"DATA").startswith("354")
        if sent.startswith(b".\r\n"):
            assert client.raw(b".\r\n").startswith("250 2.0.0 Stored")
            message = b""
        else:
            assert client.raw(sent + b".\r\n").startswith("250 2.0.0 Stored")
    path = only_file(receiver)
    assert path.read_bytes() == encode(ENVELOPE, [message])
    path.unlink()


@pytest.mark.parametrize("end", [*ENDS.values(), b"\r\n.\r\n"], ids=[*ENDS, "CR LF . CR LF"])
def test_bdat(receiver: Receiver, end: bytes) -> None:
    """In a chunk not even the true end is one; nor is it where chunks meet in the middle of it."""
    message = FIRST + end + SECOND + b".\r\n"
    begin = message.index(end)
    with Client(receiver.port) as client:
        for place in (len(message), *range(begin, begin + len(end) + 1)):
            assert client.envelope(ENVELOPE.sender, ENVELOPE.recipients) == []
            assert client.bdat(message[:place]).startswith("250")
            assert client.bdat(message[place:], last=True).startswith("250 2.0.0 Stored")
            path = only_file(receiver)
            assert path.read_bytes() == encode(ENVELOPE, [message]), place
            path.unlink()
            assert client.command(b"RCPT TO:<x@y>").startswith("503")


def test_the_true_end(receiver: Receiver) -> None:
    """Wherever it is cut: what follows are commands, and the second mail is one."""
    end = b"\r\n.\r\n"
    sent = FIRST + end + b"MAIL FROM:<x@y>\r\nRCPT TO:<z@y>\r\nBDAT 2 LAST\r\nhi"
    with Client(receiver.port) as client, Client(receiver.port) as other:
        for pieces in (
            *in_one_write(sent, end),
            *octet_by_octet(sent, end),
            *cut_anywhere_in_it(sent, end),
        ):
            assert client.envelope(ENVELOPE.sender, ENVELOPE.recipients) == []
            assert client.command(b"DATA").startswith("354")
            arrive(client, pieces, other)
            assert [client.read()[:3] for _ in range(4)] == ["250"] * 4
            first, second = receiver.files()
            assert first.read_bytes() == encode(ENVELOPE, [FIRST + b"\r\n"])
            assert second.read_bytes() == encode(Envelope(b"x@y", (b"z@y",)), [b"hi"])
            first.unlink()
            second.unlink()
