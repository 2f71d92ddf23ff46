"""Replies to commands that came together go out together; nobody waits for one that is held back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import receiver_daemon
from benno_smtp.connection import Connection
from benno_smtp.replies import MAX_GATHERED, Replies, in_our_words
from receiver_daemon import Receiver
from smtp import Client

# What a client says, each with the beginning of its reply; nothing is said to a line's first half.
SESSION = [
    (b"EHLO client.test\r\n", "250"),
    (b"MAIL FROM:<a@b>\r\n", "250 2.1.0"),
    (b"RCPT TO:<c@d>\r\n", "250 2.1.5"),
    (b"RCPT TO:<>\r\n", "501 5.1.3"),
    (b"DATA\r\n", "354"),
    (b"Subject: one\r\n\r\nNOOP\r\n.\r\n", "250 2.0.0 Stored"),
    (b"NOOP\r\n", "250 2.0.0 OK"),
    (b"WHAT\r\n", "500 5.5.2"),
    (b"MAIL FROM:<e@f>\r\n", "250 2.1.0"),
    (b"RCPT TO:<g@h>\r\n", "250 2.1.5"),
    (b"BDAT 6\r\nRSET\r\n", "250 2.0.0 6"),
    (b"BDAT 0 LAST\r\n", "250 2.0.0 Stored"),
    (b"BDAT 4\r\nQUIT", "503 5.5.1"),
    (b"QUIT\r\n", "221 2.0.0"),
]
WIRE = b"".join(said for said, _ in SESSION)
REPLIES = [reply for _, reply in SESSION]
MAILS = [(b"a@b", (b"c@d",), b"Subject: one\r\n\r\nNOOP\r\n"), (b"e@f", (b"g@h",), b"RSET\r\n")]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver_daemon.running(tmp_path_factory.mktemp("replies") / "inbox") as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "unexpected" not in receiver.log


def due(sent: int) -> int:
    """How many of the replies must have come when so many octets were sent."""
    ends = [len(b"".join(said for said, _ in SESSION[: number + 1])) for number in range(len(SESSION))]
    return sum(end <= sent for end in ends)


@pytest.mark.slow
@settings(
    derandomize=True,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cuts=st.sets(st.integers(1, len(WIRE) - 1), max_size=12))
@example(cuts=set())
@example(cuts=set(range(1, len(WIRE))))
def test_who_waits_for_replies_gets_them(receiver: Receiver, cuts: set[int]) -> None:
    """Before it sends the next piece a client waits for the replies to all that it has sent."""
    with Client(receiver.port, timeout=20, greeting=b"") as client:
        heard: list[str] = []
        places = [0, *sorted(cuts), len(WIRE)]
        for begin, end in pairwise(places):
            client.socket.sendall(WIRE[begin:end])
            while len(heard) < due(end):
                heard.append(client.read())
        assert client.hung_up()
    assert [reply[: len(begin)] for reply, begin in zip(heard, REPLIES, strict=True)] == REPLIES
    assert receiver.mails()[-2:] == MAILS
    for path in receiver.files():
        path.unlink()


@pytest.mark.slow
def test_replies_do_not_wait_for_the_disk(tmp_path: Path) -> None:
    """All of a mail comes at once, and the disk hangs: what was said before is heard."""
    marker = tmp_path / "hangs"
    hanging = (
        "import os, time; real = os.fdatasync",
        f"os.fdatasync = lambda fd: time.sleep(600) if os.path.exists({str(marker)!r}) else real(fd)",
    )
    with receiver_daemon.running(tmp_path / "inbox", prelude="\n".join(hanging)) as receiver:
        marker.touch()
        with Client(receiver.port, timeout=20, greeting=b"") as client:
            client.socket.sendall(b"".join(said for said, _ in SESSION[:6]))
            heard = [client.read() for _ in SESSION[:5]]
            assert [said[:3] for said in heard] == [reply[:3] for reply in REPLIES[:5]]
        receiver.process.kill()
        receiver.process.wait()


class Stream:
    """Stands for a StreamWriter: the writes, and what else was asked for."""

    def __init__(self) -> None:
        self.did: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.did.append(bytes(data))

    def close(self) -> None:
        self.did.append("close")

    def write_eof(self) -> None:
        self.did.append("end")

    async def drain(self) -> None:
        self.did.append("drain")

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True


def replies_to(stream: Stream) -> Replies:
    return Replies(cast(asyncio.StreamWriter, stream), asyncio.get_running_loop())


def test_one_write_in_a_turn() -> None:
    async def session() -> list[bytes | str]:
        stream = Stream()
        replies = replies_to(stream)
        replies.write(b"one")
        replies.write(b"two")
        assert stream.did == []
        await asyncio.sleep(0)
        replies.write(b"three")
        await asyncio.sleep(0)
        return stream.did

    assert asyncio.run(session()) == [b"onetwo", b"three"]


@pytest.mark.parametrize("last", ["close", "end", "drain"])
def test_nothing_is_left_behind(last: str) -> None:
    """What is said goes out before the end, and once."""

    async def session() -> list[bytes | str]:
        stream = Stream()
        replies = replies_to(stream)
        replies.write(b"one")
        if last == "drain":
            await replies.drain()
        else:
            {"close": replies.close, "end": replies.write_eof}[last]()
        await asyncio.sleep(0)
        return stream.did

    assert asyncio.run(session()) == [b"one", last]


def test_so_many_are_too_many() -> None:
    async def session() -> None:
        replies = replies_to(Stream())
        replies.write(b"x" * (MAX_GATHERED - 1))
        assert not replies.are_many
        replies.write(b"x")
        assert replies.are_many
        replies.flush()
        assert not replies.are_many

    asyncio.run(session())


def test_words() -> None:
    assert in_our_words('500 Error: command "X" not recognized') == "500 5.5.2 Unknown command"
    assert in_our_words("502 5.5.1 EXPN is not offered") == "502 5.5.1 EXPN is not offered"
    assert in_our_words("250 OK") == "250 OK"


@pytest.mark.parametrize(
    ("reply", "stuck", "did"),
    [
        ("250 OK", False, []),
        ("250 OK", True, [b"250 OK\r\n", "drain"]),
        ("x" * MAX_GATHERED, False, [b"x" * MAX_GATHERED + b"\r\n", "drain"]),
    ],
    ids=["has room", "has none", "many replies"],
)
def test_who_reads_nothing_is_waited_for(reply: str, stuck: bool, did: list[bytes | str]) -> None:
    """Else its replies would be kept, as many as it likes."""

    async def session() -> list[bytes | str]:
        stream = Stream()
        session = SimpleNamespace(
            _writer=replies_to(stream), is_stuck=stuck, _draining=False, busy=False
        )
        await Connection.push(cast(Connection, session), reply)
        return [*stream.did]  # before the turn ends

    assert asyncio.run(session()) == did
