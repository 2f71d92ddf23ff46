"""Any order of commands on one connection, against a model of what must be stored and answered.

The model knows nothing of files and decoders: it keeps a sender, recipients and content, and says for
each command whether it is accepted. Replies are read at once or later, so that commands are pipelined.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

import receiver_daemon
from receiver_daemon import Receiver
from smtp import Client, stuffed

pytestmark = pytest.mark.slow

MAX_SIZE = 100

addresses = st.sampled_from([b"a@b", b"c@d", b'"e f"@g', b"@h:i@j", b""])
bad = st.sampled_from([b"<a\0@b>", b"<a\r@b>", b"<a", b"<a@b> FOO=1"])
content = st.binary(max_size=60) | st.sampled_from([b"RSET\r\n", b".\r\n", b"\r\n.\r\n", b"QUIT\r\n"])


class Model:
    """What a session is worth. stored: the mails so far."""

    def __init__(self) -> None:
        self.stored: list[tuple[bytes, tuple[bytes, ...], bytes]] = []
        self.greeted = False
        self.forget()

    def forget(self) -> None:
        self.sender: bytes | None = None
        self.recipients: list[bytes] = []
        self.content: bytes | None = None
        self.refused = False

    def mail(self, address: bytes | None) -> str:
        if not self.greeted or self.sender is not None:
            return "503"
        if address is None:
            return "5"
        self.sender = address
        return "250"

    def rcpt(self, address: bytes | None) -> str:
        if self.sender is None or self.content is not None or self.refused:
            return "503"
        if not address:
            return "5"
        self.recipients.append(address)
        return "250"

    def chunk(self, data: bytes, *, last: bool) -> str:
        if not self.recipients or self.refused:
            self.refused = self.sender is not None  # until RSET
            return "503"
        self.content = (self.content or b"") + data
        self.refused = len(self.content) > MAX_SIZE
        if last:
            return self.end()
        return "552" if self.refused else "250"

    def end(self) -> str:
        refused = len(self.content or b"") > MAX_SIZE
        if not refused:
            assert self.sender is not None
            self.stored.append((self.sender, tuple(self.recipients), self.content or b""))
        self.forget()
        return "552" if refused else "250"


class Running:
    """One receiver for all examples; stopped with the tests."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        directory = self.stack.enter_context(TemporaryDirectory())
        limit = f"max_message_size = {MAX_SIZE}"
        running = receiver_daemon.running(Path(directory, "inbox"), limit)
        self.receiver = self.stack.enter_context(running)


@cache
def running() -> Running:
    return Running()


@pytest.fixture(scope="module", autouse=True)
def stopped() -> Iterator[None]:
    yield
    with running().stack:
        assert running().receiver.stop() == 0
        assert "unexpected" not in running().receiver.log


class OneSession(RuleBasedStateMachine):
    """Commands in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.receiver: Receiver = running().receiver
        self.before = set(self.receiver.files())
        self.client = Client(self.receiver.port, greeting=b"")
        self.model = Model()
        self.expected: list[str] = []

    def send(self, data: bytes, *expected: str) -> None:
        self.client.socket.sendall(data)
        self.expected += expected

    def teardown(self) -> None:
        self.read_all()
        self.client.close()
        new = [path for path in self.receiver.files() if path not in self.before]
        assert [receiver_daemon.read(path) for path in new] == self.model.stored
        for path in new:
            path.unlink()

    @rule()
    def read_all(self) -> None:
        for expected in self.expected:
            reply = self.client.read()
            assert reply.startswith(expected), f"{expected} was expected: {self.client.replies}"
        self.expected = []

    @rule(verb=st.sampled_from([b"EHLO c", b"HELO c"]))
    def greet(self, verb: bytes) -> None:
        self.send(verb + b"\r\n", "250")
        self.model.forget()
        self.model.greeted = True

    @rule(address=addresses)
    def mail(self, address: bytes) -> None:
        self.send(b"MAIL FROM:<" + address + b">\r\n", self.model.mail(address))

    @rule(address=addresses)
    def rcpt(self, address: bytes) -> None:
        self.send(b"RCPT TO:<" + address + b">\r\n", self.model.rcpt(address))

    @rule(address=bad)
    def bad_mail(self, address: bytes) -> None:
        self.send(b"MAIL FROM:" + address + b"\r\n", self.model.mail(None))

    @rule(address=bad)
    def bad_rcpt(self, address: bytes) -> None:
        self.send(b"RCPT TO:" + address + b"\r\n", self.model.rcpt(None))

    @rule(address=addresses, message=content)
    def whole_mail(self, address: bytes, message: bytes) -> None:
        """So that most examples have some."""
        self.rset()
        self.greet(b"EHLO c")
        self.mail(address)
        self.rcpt(b"x@y")
        self.chunk(message, last=True)

    @rule(data=content, last=st.booleans())
    def chunk(self, data: bytes, *, last: bool) -> None:
        command = b"BDAT %d%s\r\n" % (len(data), b" LAST" if last else b"")
        self.send(command + data, self.model.chunk(data, last=last))

    @rule(data=content)
    def data(self, data: bytes) -> None:
        """The content is only sent where it was asked for."""
        if not self.model.recipients or self.model.content is not None:
            self.send(b"DATA\r\n", "503")
            return
        message = data + b"\r\n"
        self.model.content = message
        self.send(b"DATA\r\n" + stuffed(message), "354", self.model.end())

    @rule()
    def rset(self) -> None:
        self.send(b"RSET\r\n", "250")
        self.model.forget()

    @rule(
        command=st.sampled_from([b"NOOP", b"HELP", b"VRFY a", b"vrfy", b"EXPN", b"RSET x", b"DATA x"])
    )
    def other(self, command: bytes) -> None:
        self.send(command + b"\r\n", "")


OneSession.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
TestOneSession = OneSession.TestCase
