"""Receivers that know little: the older benno-smtp (Java), and a server with nothing but HELO.

Neither knows PIPELINING: what comes before a command was answered is thrown away, as servers do that
begin each command with an empty buffer. A mail ends at CRLF.CRLF and nowhere else.
"""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benno_common.envelope import Envelope
from corpus import corpus
from forwarding import MESSAGE, forward, names, put

pytestmark = pytest.mark.slow

# The reply to EHLO; None: it is not known.
OLDER = "250-archive.test\r\n250-8BITMIME\r\n250 Ok"
SERVERS = pytest.mark.parametrize("hello", [OLDER, None], ids=["older benno-smtp", "HELO only"])

BINARY = {"bare-cr", "bare-lf", "nul"}


@dataclass
class Server:
    """commands: all but those of the mails. mails: MAIL and RCPT as they came, and the message."""

    hello: str | None
    port: int = 0
    commands: list[bytes] = field(default_factory=list)
    mails: list[tuple[bytes, list[bytes], bytes]] = field(default_factory=list)


class _Session:
    def __init__(self, server: Server, connection: socket.socket) -> None:
        self._server = server
        self._socket = connection
        self._mail = b""
        self._rcpts: list[bytes] = []

    def run(self) -> None:
        self._say("220 archive.test ESMTP SubEthaSMTP 3.1.6")
        while line := self._line():
            verb = line.split(b":")[0].split(b" ")[0]
            if verb == b"MAIL":
                self._mail, self._rcpts = line, []
                self._say("250 Ok")
            elif verb == b"RCPT":
                self._rcpts.append(line)
                self._say("250 Ok")
            elif verb == b"DATA":
                self._say("354 End data with <CR><LF>.<CR><LF>")
                self._server.mails.append((self._mail, self._rcpts, self._content()))
                self._say("250 Ok")
            else:
                self._server.commands.append(line)
                self._other(verb)

    def _other(self, verb: bytes) -> None:
        if verb == b"EHLO" and self._server.hello:
            self._say(self._server.hello)
        elif verb in {b"HELO", b"RSET", b"NOOP"}:
            self._say("250 archive.test")
        elif verb == b"QUIT":
            self._say("221 Bye")
        else:
            self._say("500 Error: command not implemented")

    def _say(self, reply: str) -> None:
        self._socket.sendall(reply.encode() + b"\r\n")

    def _line(self) -> bytes:
        """The next command; what comes with it is lost."""
        data = b""
        while b"\r\n" not in data:
            if not (piece := self._socket.recv(65536)):
                return b""
            data += piece
        return data.partition(b"\r\n")[0]

    def _content(self) -> bytes:
        data = b"\r\n"
        while not data.endswith(b"\r\n.\r\n"):
            piece = self._socket.recv(1 << 20)
            assert piece, "the client went away in the middle of a mail"
            data += piece
        assert data.index(b"\r\n.\r\n") == len(data) - 5, "text after the end of a mail"
        return re.sub(rb"\r\n\.", b"\r\n", data[:-3])[2:]


@contextmanager
def serving(hello: str | None) -> Iterator[Server]:
    server = Server(hello)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            _Session(server, self.request).run()

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server.port = listener.server_address[1]
        threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        listener.shutdown()


def spoken(mail: bytes, rcpts: list[bytes]) -> Envelope:
    """The envelope without parameters."""
    sender = re.fullmatch(rb"MAIL FROM:<(.*)>(?: BODY=8BITMIME)?", mail)
    recipients = [re.fullmatch(rb"RCPT TO:<(.*)>", rcpt) for rcpt in rcpts]
    assert sender and all(recipients), (mail, rcpts)
    return Envelope(sender[1], tuple(recipient[1] for recipient in recipients if recipient))


@SERVERS
def test_corpus(spool: Path, hello: str | None) -> None:
    """Octet for octet and envelope for envelope; what DATA cannot carry is held, and unaltered."""
    cases = corpus(120)
    files = {put(spool, case.message, Envelope(case.sender, case.recipients)): case for case in cases}
    with serving(hello) as server:
        run = forward(spool, server.port, options=["--connections", "1"])
    held = [file for file, case in files.items() if case.name in BINARY]
    assert (run.code, run.summary) == (65, f"sent={120 - len(held)} kept=0 held={len(held)}")
    assert names(spool) == sorted(f"{file}.err" for file in held)
    sent = [case for case in cases if case.name not in BINARY]
    for case, (mail, rcpts, message) in zip(sent, server.mails, strict=True):
        assert spoken(mail, rcpts) == Envelope(case.sender, case.recipients), case.name
        assert message == case.message, case.name


@SERVERS
def test_parameters(spool: Path, hello: str | None) -> None:
    """None but BODY=8BITMIME, and that only for mail that needs it where it is known."""
    put(spool, b"\r\nascii\r\n")
    put(spool, b"\r\nGr\xfc\xdfe\r\n")
    with serving(hello) as server:
        assert forward(spool, server.port, options=["--connections", "1"]).code == 0
    body = b" BODY=8BITMIME" if hello else b""
    assert [mail for mail, _, _ in server.mails] == [
        b"MAIL FROM:<sender@example.org>",
        b"MAIL FROM:<sender@example.org>" + body,
    ]
    greetings = [command.split(b" ")[0] for command in server.commands]
    assert greetings == ([b"EHLO", b"QUIT"] if hello else [b"EHLO", b"HELO", b"QUIT"])


@SERVERS
def test_gateway_is_the_first_header_line(spool: Path, hello: str | None) -> None:
    """As the older tools hand it over; a forged one stays where it was, behind it."""
    message = b"X-BENNO-GW: forged\r\n" + MESSAGE
    put(spool, message, Envelope(b"a@b.example", (b"c@d.example",), b"mx1"))
    with serving(hello) as server:
        assert forward(spool, server.port).code == 0
    ((_, _, arrived),) = server.mails
    assert arrived == b"X-BENNO-GW: mx1\r\n" + message


@SERVERS
def test_large_mail_with_dots_everywhere(spool: Path, hello: str | None) -> None:
    """Streamed from the file, every cut between two pieces beside a dot."""
    message = MESSAGE + b".\r\n" * 700_001 + b".." * 500_000 + b"\r\n"
    put(spool, message)
    with serving(hello) as server:
        assert forward(spool, server.port).code == 0
    assert server.mails[0][2] == message


@SERVERS
def test_a_thousand_recipients(spool: Path, hello: str | None) -> None:
    """One after another, in one transaction."""
    envelope = Envelope(b"", tuple(b"user%d@example.net" % number for number in range(1000)))
    put(spool, MESSAGE, envelope)
    with serving(hello) as server:
        assert forward(spool, server.port).code == 0
    ((mail, rcpts, _),) = server.mails
    assert spoken(mail, rcpts) == envelope


@SERVERS
def test_normalize(spool: Path, hello: str | None) -> None:
    """The alteration that was allowed, and no other: the end of no mail can be smuggled in."""
    put(spool, b"Subject: x\r\n\r\none\n.\ntwo\r.\rthree")
    nul = put(spool, b"Subject: x\r\n\r\n\0\n")
    with serving(hello) as server:
        run = forward(spool, server.port, options=["--normalize"])
    assert (run.code, names(spool)) == (65, [f"{nul}.err"])
    ((_, _, message),) = server.mails
    assert message == b"Subject: x\r\n\r\none\r\n.\r\ntwo\r\n.\r\nthree\r\n"


@SERVERS
def test_address_beyond_ascii_is_held(spool: Path, hello: str | None) -> None:
    odd = put(spool, MESSAGE, Envelope(b"a@b.example", ("müller@example.net".encode(),)))
    put(spool)
    with serving(hello) as server:
        run = forward(spool, server.port)
    assert (run.code, run.summary) == (65, "sent=1 kept=0 held=1")
    assert names(spool) == [f"{odd}.err"]
    assert "does not offer SMTPUTF8" in run.log
