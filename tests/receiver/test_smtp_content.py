"""Content, octet for octet: what was sent is what lies in the file, by DATA and by BDAT.

Every file is compared with encode(envelope, message) of the mail file's own tests, so that also the
escaping is seen to be that of the message, and no octet stands behind it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import receiver_daemon
from benno_common.envelope import Envelope
from corpus import corpus
from hostile import HOSTILE, random_message
from mailfile_streams import encode
from receiver_daemon import Receiver
from smtp import Client, stuffed

pytestmark = pytest.mark.slow

Send = Callable[[Client, bytes], str]

ENVELOPE = Envelope(b"a@b", (b"c@d", b"e@f"))
OCTETS = st.lists(st.sampled_from(b"\r\n.a\0\xff"), max_size=60).map(bytes)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver_daemon.running(tmp_path_factory.mktemp("content") / "inbox") as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "ERROR" not in receiver.log


@pytest.fixture
def client(receiver: Receiver) -> Iterator[Client]:
    with Client(receiver.port) as client:
        yield client


def by_data(client: Client, message: bytes) -> str:
    assert client.command(b"DATA").startswith("354")
    return client.raw(stuffed(message))


def by_one_chunk(client: Client, message: bytes) -> str:
    return client.bdat(message, last=True)


def by_many_chunks(client: Client, message: bytes) -> str:
    """Of 0 to 40,000 octets, and all in one write; the last one is empty."""
    rng = random.Random(len(message))
    commands, place, count = [b"BDAT 0\r\n"], 0, 1
    while place < len(message):
        chunk = message[place : place + rng.choice([0, 1, 2, 100, 40_000])]
        commands.append(b"BDAT %d\r\n" % len(chunk) + chunk)
        place += len(chunk)
        count += 1
    client.socket.sendall(b"".join(commands))
    for _ in range(count):
        assert client.read().startswith("250 2.0.0")
    return client.command(b"BDAT 0 LAST")


WAYS = {"DATA": by_data, "one chunk": by_one_chunk, "many chunks": by_many_chunks}
EACH_WAY = pytest.mark.parametrize("send", WAYS.values(), ids=WAYS)


def check(
    receiver: Receiver, client: Client, send: Send, message: bytes, envelope: Envelope = ENVELOPE
) -> None:
    """Send a mail, see what is stored, and remove it."""
    assert client.envelope(envelope.sender, envelope.recipients) == []
    reply = send(client, message)
    assert reply.startswith("250 2.0.0 Stored as "), reply
    (path,) = receiver.files()
    assert path.name == reply.removeprefix("250 2.0.0 Stored as ")
    content = path.read_bytes()
    assert content == encode(envelope, [message]), f"{message[:200]!r} became {content[:400]!r}"
    assert path.name.endswith(f".S={len(content)}.eml")
    path.unlink()


@EACH_WAY
def test_corpus(receiver: Receiver, client: Client, send: Send) -> None:
    for case in corpus(150):
        check(receiver, client, send, case.message, Envelope(case.sender, case.recipients))


@EACH_WAY
def test_hostile_messages(receiver: Receiver, client: Client, send: Send) -> None:
    rng = random.Random(7)
    messages = [hostile.message for hostile in HOSTILE.values()]
    for message in messages + [random_message(rng) for _ in range(100)]:
        ending = b"\r\n" if send is by_data else b""  # DATA can carry no other end
        check(receiver, client, send, message + ending)


@pytest.mark.parametrize("send", [by_one_chunk, by_many_chunks], ids=["one chunk", "many chunks"])
@settings(deadline=None, max_examples=60)
@given(message=st.binary(max_size=300) | OCTETS)
def test_any_octets_in_chunks(receiver: Receiver, send: Send, message: bytes) -> None:
    with Client(receiver.port) as client:
        check(receiver, client, send, message)


@settings(deadline=None, max_examples=100)
@given(message=OCTETS)
def test_any_octets_by_data(receiver: Receiver, message: bytes) -> None:
    """A client that doubles the dots of lines that end at CR LF can send whatever it wants."""
    with Client(receiver.port) as client:
        check(receiver, client, by_data, message + b"\r\n")


@EACH_WAY
@pytest.mark.parametrize("size", [1, 2, 65_533, 65_534, 65_535, 65_536, 65_537, 131_072, 3_000_001])
def test_sizes(receiver: Receiver, client: Client, send: Send, size: int) -> None:
    """One line without a blank or a dot; of octets that a text would not survive."""
    message = bytes(octet for octet in range(128, 256)) * (size // 128 + 1)
    check(receiver, client, send, message[:size] + b"\r\n")


@EACH_WAY
@pytest.mark.parametrize("line", [b".", b".\r\n", b"\r\n", b"\n", b"\r", b"\r\n.\n", b"a\r\n..\r\n"])
def test_the_same_short_line_again_and_again(
    receiver: Receiver, client: Client, send: Send, line: bytes
) -> None:
    """Half a megabyte of it, so that every place falls on the border of a piece."""
    check(receiver, client, send, line * (500_000 // len(line)) + b"\r\n")


def test_a_chunk_for_each_octet(receiver: Receiver, client: Client) -> None:
    message = b"Subject: x\r\n\r\n.\r\n" * 100
    assert client.envelope(ENVELOPE.sender, ENVELOPE.recipients) == []
    client.socket.sendall(b"".join(b"BDAT 1\r\n%c" % octet for octet in message))
    assert {client.read() for _ in message} == {"250 2.0.0 1 octets"}
    assert client.command(b"BDAT 0 LAST").startswith("250")
    (path,) = receiver.files()
    assert path.read_bytes() == encode(ENVELOPE, [message])
    path.unlink()


@pytest.mark.parametrize("content", [b".\r\n", b"\r\n.\r\n"], ids=["at once", "a blank line"])
def test_the_shortest_mails(receiver: Receiver, client: Client, content: bytes) -> None:
    assert client.envelope(b"", [b"c@d"]) == []
    assert client.command(b"DATA").startswith("354")
    assert client.raw(content).startswith("250")
    (path,) = receiver.files()
    assert path.read_bytes() == encode(Envelope(b"", (b"c@d",)), [content[:-3]])
    path.unlink()
