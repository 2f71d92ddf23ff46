"""A scripted SMTP server: does at each phase what it is told, and remembers every octet it was sent.

    with serving(offers=("PIPELINING", "CHUNKING"), script={"RCPT": ["250 ok", "550 no"]}) as server:
        ... connect to 127.0.0.1:server.port ...
    assert server.mails == [...]

With `secured` it does TLS too, and AUTH PLAIN and LOGIN, if it offers them:

    secured = Secured(context, offers=("PIPELINING", "AUTH PLAIN LOGIN"), users={b"me": b"secret"})
    with serving(offers=("STARTTLS",), secured=secured) as server:

A script names phases: GREETING, EHLO, HELO, STARTTLS, HELLO (EHLO under TLS), AUTH, MAIL, RCPT, DATA,
CHUNK (BDAT without LAST), LAST (BDAT with it), END (after the dot), RSET, QUIT. For each it has a list
of actions, taken one after another over all connections, the last of them for ever; phases that are not
named do what a good server does.
Actions:

    "550 5.1.1 no"     this reply; several lines with newlines between
    CLOSE              hang up without a word
    STALL              never answer, and keep the connection open
    Then("250 x")      this reply, then hang up
    STORE_AND_CLOSE    take the mail (LAST, END), then hang up without a word
    Stored(b"25")      take the mail, then write these octets and hang up
    WaitFor("250 x")   this reply, when its event `go` is set
    After("250 x", f)  this reply, when f() was called
    Behind("2", b"x")  this reply and then these octets, in one write; CLOSE or STALL may follow
    Deaf("2", b"x")    this reply; to whatever then comes, these octets, and hang up
    Where(b"a@b", x)   the action x where the command has these octets, else what a good server does
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

CLOSE = "close"
STALL = "stall"
EVERYTHING = ("PIPELINING", "CHUNKING", "BINARYMIME", "8BITMIME", "SMTPUTF8", "SIZE 0", "XBENNO")


@dataclass(frozen=True)
class Then:
    """A reply after which the server hangs up."""

    reply: str


@dataclass(frozen=True)
class Stored:
    """The mail is taken, and its answer cut off after these octets."""

    octets: bytes


@dataclass(frozen=True)
class WaitFor:
    """A reply that is given when somebody sets `go`."""

    reply: str
    go: threading.Event = field(default_factory=threading.Event)


STORE_AND_CLOSE = Stored(b"")


@dataclass(frozen=True)
class After:
    """A reply that is given when something was done."""

    reply: str
    act: Callable[[], object]


@dataclass(frozen=True)
class Where:
    """What is done to some commands only."""

    octets: bytes
    action: str | Then | Stored


@dataclass(frozen=True)
class Behind:
    """A reply, octets that belong to none, and what then happens; the session goes on if nothing."""

    reply: str
    octets: bytes
    end: str = ""


@dataclass(frozen=True)
class Deaf:
    """A reply, and octets as the answer to whatever the client then says."""

    reply: str
    octets: bytes


@dataclass(frozen=True)
class Secured:
    """implicit: TLS before the greeting. offers: under TLS. users: with their passwords.

    unasked: what is said at once when TLS begins.
    """

    context: ssl.SSLContext
    implicit: bool = False
    offers: Sequence[str] = ()
    users: Mapping[bytes, bytes] = field(default_factory=dict)
    unasked: bytes = b""


Action = str | Then | Stored | WaitFor | After | Behind | Deaf | Where
Script = Mapping[str, Sequence[Action]]

_GOOD = {
    "GREETING": "220 scripted.test ESMTP",
    "HELO": "250 scripted.test",
    "DATA": "354 go on",
    "STARTTLS": "220 go on",
    "QUIT": "221 bye",
}


@dataclass(frozen=True)
class Mail:
    """What was stored: MAIL and RCPT as they came, without CRLF; the message, dots taken off."""

    mail: bytes
    rcpts: tuple[bytes, ...]
    message: bytes

    @property
    def parameters(self) -> list[bytes]:
        """Those of MAIL."""
        return self.mail[self.mail.rindex(b">") + 1 :].split()


class _HungUp(Exception):
    """The server ends the connection, or the client did."""


@dataclass
class Server:
    """port: on 127.0.0.1. mails: stored so far. dialogues: of each connection, lines `C: …` and `S: …`.

    Content shows as one line, `C: (14 octets)`, a handshake as `TLS`. received: the octets of each
    connection, those under TLS as they were before.
    """

    port: int
    offers: tuple[str, ...]
    script: Script
    esmtp: bool
    limit: int
    secured: Secured | None = None
    mails: list[Mail] = field(default_factory=list)
    dialogues: list[list[str]] = field(default_factory=list)
    received: list[bytearray] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    _open: int = 0
    _taken: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def action(self, phase: str) -> Action:
        with self._lock:
            actions = self.script.get(phase, ())
            number = self._taken.get(phase, 0)
            self._taken[phase] = number + 1
        if not actions:
            return _GOOD.get(phase, "250 ok")
        return actions[min(number, len(actions) - 1)]

    def count(self, phase: str) -> int:
        """How often this phase was reached."""
        with self._lock:
            return self._taken.get(phase, 0)

    @contextlib.contextmanager
    def admission(self) -> Iterator[bool]:
        """Whether one connection more is within the limit, as long as it is open."""
        with self._lock:
            self._open += 1
            admitted = not self.limit or self._open <= self.limit
        try:
            yield admitted
        finally:
            with self._lock:
                self._open -= 1

    def dialogue(self) -> list[str]:
        """That of the only connection."""
        assert len(self.dialogues) == 1, self.dialogues
        return self.dialogues[0]


class _Session:
    """One connection, in a thread of its own."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        self._server = server
        self._socket = connection
        self._buffer = b""
        self._said: list[str] = []
        self._octets = bytearray()
        server.dialogues.append(self._said)
        server.received.append(self._octets)
        self._last = b""  # command
        self._mail: bytes | None = None
        self._rcpts: list[bytes] = []
        self._chunks: list[bytes] = []
        self._offered = server.offers

    def run(self) -> None:
        try:
            self._serve()
        finally:
            self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(_HungUp, OSError), self._server.admission() as admitted:
            if self._server.secured and self._server.secured.implicit:
                self._secure(self._server.secured)
            if not admitted:
                self._do(Then("421 4.7.0 too many connections"))
            self._act("GREETING")
            while True:
                self._command(self._line())

    def _command(self, line: bytes) -> None:
        self._said.append("C: " + line.decode("ascii", "backslashreplace"))
        self._last = line
        verb = line.split(b":")[0].split(b" ")[0].upper().decode("ascii", "replace")
        if verb in {"EHLO", "HELO"}:
            self._hello(verb)
        elif verb == "STARTTLS" and self._server.secured:
            if self._act("STARTTLS"):
                self._secure(self._server.secured)
        elif verb == "AUTH" and self._server.secured:
            self._authenticate(line, self._server.secured)
        elif verb == "MAIL":
            if self._act("MAIL"):
                self._mail = line
        elif verb == "RCPT":
            if self._mail is None:
                self._say("503 5.5.1 MAIL first")
            elif self._act("RCPT"):
                self._rcpts.append(line)
        elif verb == "DATA":
            self._data()
        elif verb == "BDAT" and self._offers("CHUNKING"):
            self._bdat(line)
        elif verb in {"RSET", "NOOP"}:
            self._forget()
            self._act(verb)
        elif verb == "QUIT":
            self._act("QUIT")
            raise _HungUp
        else:
            self._say("500 5.5.2 what?")

    def _secure(self, secured: Secured) -> None:
        self._socket = wrapped = secured.context.wrap_socket(
            self._socket, server_side=True, do_handshake_on_connect=False
        )
        try:
            wrapped.do_handshake()
        except ssl.SSLError:
            wrapped.shutdown(socket.SHUT_WR)
            while os.read(wrapped.fileno(), 65536):  # else a reset would overtake what was said
                pass
            raise
        self._said.append("TLS")
        wrapped.sendall(secured.unasked)
        self._buffer = b""
        self._offered = tuple(secured.offers)

    def _authenticate(self, line: bytes, secured: Secured) -> None:
        _, mechanism, *initial = line.split(b" ")
        if "AUTH" in self._server.script:
            self._act("AUTH")
            return
        if mechanism.upper() == b"PLAIN":
            _, user, password = base64.b64decode(initial[0]).split(b"\0")
        else:
            user = base64.b64decode(initial[0] if initial else self._ask("334 VXNlcm5hbWU6"))
            password = base64.b64decode(self._ask("334 UGFzc3dvcmQ6"))
        good = secured.users.get(user) == password
        self._say("235 2.7.0 welcome" if good else "535 5.7.8 who are you?")

    def _ask(self, challenge: str) -> bytes:
        self._say(challenge)
        line = self._line()
        self._said.append("C: " + line.decode("ascii", "backslashreplace"))
        return line

    def _hello(self, verb: str) -> None:
        if isinstance(self._socket, ssl.SSLSocket) and "HELLO" in self._server.script:
            self._act("HELLO")
            return
        if verb == "EHLO" and not self._server.esmtp:
            self._say("500 5.5.1 what?")
        elif verb == "EHLO" and "EHLO" not in self._server.script:
            lines = ("scripted.test", *self._offered)
            self._say("\n".join(f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines))
        else:
            self._act(verb)

    def _data(self) -> None:
        if not self._rcpts:
            self._say("503 5.5.1 RCPT first")
            return
        if not self._act("DATA"):
            return
        message = self._until_dot()
        self._said.append(f"C: ({len(message)} octets)")
        self._end("END", message)

    def _bdat(self, line: bytes) -> None:
        words = line.split()
        chunk = self._read(int(words[1]))
        if chunk:
            self._said.append(f"C: ({len(chunk)} octets)")
        last = len(words) == 3
        if not self._rcpts:
            self._say("503 5.5.1 RCPT first")
        elif last:
            self._end("LAST", b"".join([*self._chunks, chunk]))
        elif self._act("CHUNK"):
            self._chunks.append(chunk)

    def _end(self, phase: str, message: bytes) -> None:
        action = self._server.action(phase)
        assert self._mail is not None
        assert not isinstance(action, (Behind, Deaf, Where))
        reply = action.reply if isinstance(action, (Then, WaitFor, After)) else action
        if isinstance(reply, Stored) or reply.startswith("250"):
            self._server.mails.append(Mail(self._mail, tuple(self._rcpts), message))
        self._forget()
        self._do(action)

    def _forget(self) -> None:
        self._mail, self._rcpts, self._chunks = None, [], []

    def _act(self, phase: str) -> bool:
        """Do what the script says; whether the client may go on."""
        return self._do(self._server.action(phase))

    def _do(self, action: Action) -> bool:
        if isinstance(action, Where):
            action = action.action if action.octets in self._last else "250 ok"
        if isinstance(action, Then):
            self._say(action.reply)
            raise _HungUp
        if isinstance(action, Deaf):
            self._say(action.reply)
            self._receive()
            action = Stored(action.octets)
        if isinstance(action, Stored):
            self._socket.sendall(action.octets)
            raise _HungUp
        if isinstance(action, WaitFor):
            action.go.wait(60)
            action = action.reply
        if isinstance(action, After):
            action.act()
            action = action.reply
        if isinstance(action, Behind):
            self._said += [f"S: {action.reply}", f"S: ({len(action.octets)} octets)"]
            self._socket.sendall(action.reply.encode() + b"\r\n" + action.octets)
            if not action.end:
                return True
            action = action.end
        if action == CLOSE:
            raise _HungUp
        if action == STALL:
            self._server.stopping.wait()
            raise _HungUp
        self._say(action)
        return action[0] in "23"

    def _say(self, reply: str) -> None:
        self._said += [f"S: {line}" for line in reply.split("\n")]
        self._socket.sendall(reply.replace("\n", "\r\n").encode() + b"\r\n")

    def _offers(self, keyword: str) -> bool:
        return any(offer.split()[0] == keyword for offer in self._offered)

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _until_dot(self) -> bytes:
        """The message before CRLF.CRLF, with the dots of stuffing taken off."""
        self._buffer = b"\r\n" + self._buffer
        while b"\r\n.\r\n" not in self._buffer:
            self._receive()
        message, _, self._buffer = self._buffer.partition(b"\r\n.\r\n")
        return re.sub(rb"\r\n\.", b"\r\n", message + b"\r\n")[2:]

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _receive(self) -> None:
        data = self._socket.recv(1 << 20)
        if not data:
            raise _HungUp
        self._octets += data
        self._buffer += data


@contextlib.contextmanager
def serving(
    *,
    offers: Sequence[str] = EVERYTHING,
    script: Script | None = None,
    esmtp: bool = True,
    limit: int = 0,
    buffers: int = 0,
    secured: Secured | None = None,
) -> Iterator[Server]:
    """A server that runs until the end of the block.

    esmtp: it knows EHLO. limit: of connections at once. buffers: octets that its system holds for it.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    if buffers:
        for direction in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            listener.setsockopt(socket.SOL_SOCKET, direction, buffers)
    server = Server(listener.getsockname()[1], tuple(offers), script or {}, esmtp, limit, secured)
    connections: list[socket.socket] = []
    sessions: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections.append(connection)
            session = threading.Thread(target=_Session(server, connection).run, daemon=True)
            sessions.append(session)
            session.start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield server
    finally:
        server.stopping.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(10)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for session in sessions:
            session.join(10)
