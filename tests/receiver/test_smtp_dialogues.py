"""Dialogues with the real process: one file each in dialogues/, and how they are played.

    C: what the client sends, with CR LF; `c:` without; escapes as in Python's octet strings
    S: how a line of the server's begins; of a reply with several lines the last one is enough
    =  sender | recipients | message of a mail that is stored in the end; \\x20 is a blank in an address

Each is played three times: step by step; all in one write, so that the server finds its next command
behind each content; and octet by octet. The replies are the same, and so is what is stored.
"""

from __future__ import annotations

import codecs
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import receiver_daemon
from receiver_daemon import Receiver
from smtp import Client

pytestmark = pytest.mark.slow

DIALOGUES = sorted((Path(__file__).parent / "dialogues").glob("*.txt"))

Mail = tuple[bytes, tuple[bytes, ...], bytes]


class Dialogue(NamedTuple):
    """sent: with the replies before. expected: how lines begin, after the last that was sent."""

    steps: list[tuple[list[str], bytes]]
    last: list[str]
    mails: list[Mail]


def octets(text: str) -> bytes:
    return codecs.escape_decode(text.encode())[0]


def parse(text: str) -> Dialogue:
    steps: list[tuple[list[str], bytes]] = []
    expected: list[str] = []
    mails: list[Mail] = []
    for line in text.splitlines():
        kind, content = line[:2], line[3:]
        if kind == "S:":
            expected.append(content)
        elif kind in {"C:", "c:"}:
            steps.append((expected, octets(content) + (b"\r\n" if kind == "C:" else b"")))
            expected = []
        elif kind.startswith("="):
            sender, recipients, message = line[1:].split("|")
            addresses = tuple(map(octets, recipients.split()))
            mails.append((octets(sender.strip()), addresses, octets(message.strip())))
        else:
            assert line.startswith("#"), line
    return Dialogue(steps, expected, mails)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver_daemon.running(tmp_path_factory.mktemp("dialogues") / "inbox") as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "unexpected" not in receiver.log


def listen(client: Client, expected: list[str]) -> None:
    """Read the replies; a reply may have more lines than those that are expected of it."""
    while expected:
        before = len(client.replies)
        client.read()
        reply = client.replies[before:]
        several, expected = (
            (expected[: len(reply)], expected[len(reply) :])
            if "-" in expected[0][3:4]
            else ([expected[0]], expected[1:])
        )
        begins = reply if len(several) > 1 else reply[-1:]
        agree = [line.startswith(begin) for line, begin in zip(begins, several, strict=True)]
        assert all(agree), f"{begins} came, {several} was expected after {client.replies}"


def connect(receiver: Receiver) -> Client:
    """A client that has not read the greeting yet."""
    client = Client.__new__(Client)
    client.socket = socket.create_connection(("127.0.0.1", receiver.port), 60)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.stream = client.socket.makefile("rb")
    client.replies = []
    return client


def step_by_step(client: Client, dialogue: Dialogue) -> None:
    for expected, sent in dialogue.steps:
        listen(client, expected)
        client.socket.sendall(sent)
    listen(client, dialogue.last)


def in_one_write(client: Client, dialogue: Dialogue, pieces: Iterable[bytes] | None = None) -> None:
    whole = b"".join(sent for _, sent in dialogue.steps)
    for piece in [whole] if pieces is None else pieces:
        client.socket.sendall(piece)
    for expected, _ in dialogue.steps:
        listen(client, expected)
    listen(client, dialogue.last)


def octet_by_octet(client: Client, dialogue: Dialogue) -> None:
    whole = b"".join(sent for _, sent in dialogue.steps)
    in_one_write(client, dialogue, (whole[place : place + 1] for place in range(len(whole))))


@pytest.mark.parametrize("play", [step_by_step, in_one_write, octet_by_octet], ids=lambda p: p.__name__)
@pytest.mark.parametrize("file", DIALOGUES, ids=lambda file: file.stem)
def test_dialogue(receiver: Receiver, file: Path, play) -> None:  # type: ignore[no-untyped-def]
    dialogue = parse(file.read_text())
    before = set(receiver.files())
    with connect(receiver) as client:
        play(client, dialogue)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.hung_up()
    new = [path for path in receiver.files() if path not in before]
    assert [receiver_daemon.read(path) for path in new] == dialogue.mails


# Lines that some client may mean as BDAT, and whose size is not clear.
UNCLEAR = {
    "no size": b"BDAT",
    "LAST only": b"BDAT LAST",
    "negative": b"BDAT -1",
    "another word": b"BDAT 1 FIRST",
    "two words": b"BDAT 1 LAST LAST",
    "too many digits": b"BDAT 123456789012345678901",
    "no digit": b"BDAT \xb9",
    "lower case": b"bdat 0x1",
    "TAB": b"BDAT\t66 LAST",
    "TAB, lower case": b"bdat\t66 LAST",
    "NUL": b"BDAT\x0066 LAST",
    "no blank": b"BDAT66 LAST",
    "no blank, then a size": b"BDAT66 5",
    "another verb": b"BDATA 66",
    "not ASCII": b"BDAT\xa066 LAST",
    "half a character": b"BDAT\xc3 66",
    "not ASCII before it": b"\xef\xbb\xbfBDAT 66 LAST",
    "not ASCII before it, lower case": b"\xffbDaT 66",
    "blank before it": b" BDAT 66 LAST",
    "blanks before it": b" \t BDAT 66 LAST",
    "TAB before it": b"\tbdat 66",
    "line end before it": b"\rBDAT 66",
    "line end behind it": b"BDAT 66\r",
    "too long": b"BDAT 66 LAST" + b" " * 66_000,
    "too long, zeros": b"BDAT " + b"0" * 66_000 + b"66 LAST",
    "too long, lower case": b"bdat " + b"x" * 140_000,
    "too long, blank before it": b" BDAT 66 LAST" + b" " * 66_000,
    "too long, blanks before it": b" " * 66_000 + b"BDAT 66 LAST",
    "too long, part of the verb": b" " * 65_535 + b"BDAT 66 LAST" + b" " * 66_000,
    "too long, not ASCII": b"BDAT\xff" + b"\xff" * 66_000,
}


@pytest.mark.parametrize("under_way", [True, False], ids=["mail", "no mail"])
@pytest.mark.parametrize("line", UNCLEAR.values(), ids=UNCLEAR)
def test_a_chunk_of_unknown_size_is_the_end(receiver: Receiver, line: bytes, under_way: bool) -> None:
    """What follows may be the chunk, and is not read."""
    before, logged = receiver.files(), len(receiver.log)
    with Client(receiver.port) as client:
        if under_way:
            client.envelope(b"a@b", [b"c@d"])
        follows = b"RSET\r\nMAIL FROM:<x@y>\r\nRCPT TO:<z@y>\r\nBDAT 1 LAST\r\nx"
        reply = client.raw(line + b"\r\n" + follows)
        assert reply == "501 5.5.4 Syntax: BDAT size [LAST]; closing, as a chunk may follow"
        assert client.hung_up()
    assert receiver.files() == before
    said = receiver.log[logged:]
    assert said.count(f"refused client=127.0.0.1 from=<{'a@b' if under_way else ''}> ") == 1
    assert 'reply="501 5.5.4 Syntax: BDAT size [LAST]; closing' in said


def test_why_is_heard_behind_a_long_chunk(receiver: Receiver) -> None:
    """A client that sends all of it before it reads finds the reply, and no reset."""
    with Client(receiver.port) as client:
        client.envelope(b"a@b", [b"c@d"])
        assert client.raw(b"BDAT\t50000000 LAST\r\n" + b"x" * 50_000_000).startswith("501 5.5.4")
        assert client.hung_up()


def test_long_commands(receiver: Receiver) -> None:
    """An address of 60 KB is stored; a longer line is refused, and nothing of it is a command."""
    long = b"x" * 60_000 + b"@example.org"
    with Client(receiver.port) as client:
        assert client.command(b"MAIL FROM:<" + long + b">").startswith("250 2.1.0")
        assert client.command(b"RCPT TO:<" + b"y" * 65_525 + b">").startswith("250 2.1.5")
        for size in (65_526, 70_000, 131_072, 200_000, 1_000_000):
            reply = client.command(b"RCPT TO:<" + b"y" * size + b">")
            assert reply == "500 5.5.2 A command has 65536 octets at the most", size
        assert client.command(b"x" * 65_000) == "500 5.5.2 Unknown command"
        assert client.command(b"DATA").startswith("354")
        assert client.raw(b".\r\n").startswith("250 2.0.0")
    assert receiver_daemon.read(receiver.files()[-1]) == (long, (b"y" * 65_525,), b"")


def test_nothing_behind_quit_is_read(receiver: Receiver) -> None:
    before = receiver.files()
    with Client(receiver.port) as client:
        assert client.raw(
            b"QUIT\r\nEHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 1 LAST\r\nx"
        ).startswith("221 2.0.0")
        assert client.hung_up()
    assert receiver.files() == before
