"""Memory stays bounded, whatever many clients send at once; measured is the largest resident set."""

from __future__ import annotations

import contextlib
import re
import resource
import selectors
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import receiver_daemon
from receiver_daemon import Receiver
from smtp import Client

pytestmark = pytest.mark.system

MIB = 1 << 20
BOUND = 96 * MIB
SMALL = b"Subject: x\r\n\r\nbody\r\n"


def peak(receiver: Receiver) -> int:
    """VmHWM: the largest resident set that it ever had."""
    match = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{receiver.pid}/status").read_text())
    assert match
    return int(match[1]) * 1024


@contextlib.contextmanager
def bounded(inbox: Path) -> Iterator[Receiver]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        with receiver_daemon.running(inbox) as receiver:
            before = peak(receiver)
            yield receiver
            print(f"VmHWM {peak(receiver) / MIB:.1f} MB, {before / MIB:.1f} MB at the start")
            assert peak(receiver) <= BOUND
            with Client(receiver.port) as client:
                assert client.send(b"a@b", [b"c@d"], SMALL).startswith("250")
            assert "unexpected" not in receiver.log
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Stream:
    """What one client still has to send: a beginning, a block so many times, an end."""

    def __init__(self, client: Client, begin: bytes, block: bytes, count: int, end: bytes) -> None:
        self.client = client
        self._left = iter([begin, *[block] * count, end])
        self._data = memoryview(b"")

    def send(self) -> bool:
        """As much as the socket takes now. False: that was all."""
        try:
            while True:
                if not self._data:
                    self._data = memoryview(next(self._left))
                self._data = self._data[self.client.socket.send(self._data) :]
        except BlockingIOError:
            return True
        except StopIteration:
            return False


def pour(streams: list[Stream]) -> None:
    """Send all streams at once, from one thread, whoever takes something."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            stream.client.socket.setblocking(False)
            selector.register(stream.client.socket, selectors.EVENT_WRITE, stream)
        while selector.get_map():
            for key, _ in selector.select(60):
                if not key.data.send():
                    selector.unregister(key.fileobj)
                    key.data.client.socket.settimeout(240)


COUNT = 100
BLOCK = b"x" * 65_534 + b"\r\n"
SIZE = 8 * MIB
BLOCKS = SIZE // len(BLOCK)
LINES = b"..\r\n" * 16_384  # all of them in the header section, and looked at

WAYS = {
    "DATA": (b"DATA\r\n", BLOCK, BLOCKS, b".\r\n"),
    "DATA of dots": (b"DATA\r\n", LINES, BLOCKS // 32, b".\r\n"),
    "one line": (b"DATA\r\n", b"x" * 65_536, BLOCKS // 8, b"\r\n.\r\n"),
    "one chunk": (b"BDAT %d LAST\r\n" % SIZE, BLOCK, BLOCKS, b""),
}


@pytest.mark.parametrize(("begin", "block", "count", "end"), WAYS.values(), ids=WAYS)
def test_a_hundred_mails_at_once(
    tmp_path: Path, begin: bytes, block: bytes, count: int, end: bytes
) -> None:
    with bounded(tmp_path / "inbox") as receiver, ExitStack() as stack:
        clients = [stack.enter_context(Client(receiver.port)) for _ in range(COUNT)]
        for client in clients:
            assert client.envelope(b"a@b", [b"c@d"]) == []
        pour([Stream(client, begin, block, count, end) for client in clients])
        for client in clients:
            if begin.startswith(b"DATA"):
                assert client.read().startswith("354")
            assert client.read().startswith("250 2.0.0 Stored")
        sizes = {path.stat().st_size for path in receiver.files()}
        assert len(receiver.files()) == COUNT
        assert len(sizes) == 1
        for path in receiver.files():
            path.unlink()


def test_a_mail_of_many_small_chunks(tmp_path: Path) -> None:
    """Fifty thousand of one octet each: a piece takes memory besides its octets."""
    commands = b"".join(b"BDAT 1\r\n%c" % (number % 256) for number in range(1000))
    with bounded(tmp_path / "inbox") as receiver, Client(receiver.port) as client:
        assert client.envelope(b"a@b", [b"c@d"]) == []
        for _ in range(50):
            client.socket.sendall(commands)
            assert {client.read() for _ in range(1000)} == {"250 2.0.0 1 octets"}
        assert client.bdat(b"", last=True).startswith("250")
        assert receiver.mails()[0][2] == bytes(number % 256 for number in range(1000)) * 50


def test_a_hundred_thousand_recipients(tmp_path: Path) -> None:
    """In one mail: none is lost, and their order is kept."""
    recipients = tuple(b"recipient%d@example.net" % number for number in range(100_000))
    with bounded(tmp_path / "inbox") as receiver, Client(receiver.port) as client:
        assert client.command(b"MAIL FROM:<a@b>").startswith("250")
        for start in range(0, len(recipients), 1000):
            piece = recipients[start : start + 1000]
            client.socket.sendall(b"".join(b"RCPT TO:<" + address + b">\r\n" for address in piece))
            assert {client.read()[:9] for _ in piece} == {"250 2.1.5"}
        assert client.bdat(SMALL, last=True).startswith("250")
        assert receiver.mails() == [(b"a@b", recipients, SMALL)]


def test_recipients_have_an_end(tmp_path: Path) -> None:
    """Long addresses fill what a mail may hold of them: the rest is told to come again."""
    with bounded(tmp_path / "inbox") as receiver, Client(receiver.port) as client:
        assert client.command(b"MAIL FROM:<a@b>").startswith("250")
        replies = [client.command(b"RCPT TO:<%d" % n + b"x" * 60_000 + b">")[:9] for n in range(300)]
        taken = replies.count("250 2.1.5")
        assert replies == ["250 2.1.5"] * taken + ["452 4.5.3"] * (300 - taken)
        assert 250 < taken < 300
        assert client.bdat(SMALL, last=True).startswith("250")
        assert [len(mail[1]) for mail in receiver.mails()] == [taken]


def test_a_thousand_idle_connections(tmp_path: Path) -> None:
    """A third has only connected, a third has said EHLO, a third is in the middle of a mail."""
    with bounded(tmp_path / "inbox") as receiver, ExitStack() as stack:
        clients = [stack.enter_context(Client(receiver.port, greeting=b"")) for _ in range(900)]
        for client in clients[300:]:
            client.command(b"EHLO c")
        for client in clients[600:]:
            assert client.envelope(b"a@b", [b"c@d"]) == []
            assert client.bdat(b"x" * 20_000).startswith("250")
        with Client(receiver.port) as other:
            assert other.send(b"a@b", [b"c@d"], SMALL).startswith("250")
        for client in clients[600:]:
            assert client.bdat(b"", last=True).startswith("250")
        assert len(receiver.files()) == 301
