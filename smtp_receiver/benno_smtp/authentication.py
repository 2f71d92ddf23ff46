"""SMTP AUTH (RFC 4954): what is said until user and password are known. PLAIN (RFC 4616) and LOGIN.

    AUTH PLAIN                 334                        base64(authorization NUL user NUL password)
    AUTH PLAIN <all of it>
    AUTH LOGIN [<user>]        334 base64("Username:")    base64(user)
                               334 base64("Password:")    base64(password)

LOGIN has no standard; it is what mail programs have sent for long. An initial response of `=` is an
empty one. A client that wants to stop sends `*`. Nobody may act for somebody else: where an
authorization identity is given, it is the user's own.

Whatever is wrong is answered 501, and the session goes on; no answer shows what was sent. This module
does no I/O.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Generator
from typing import NamedTuple

# Octets of a line with its end: of the command, and of each response (RFC 4954 4).
MAX_LINE = 12_288

MECHANISMS = ("PLAIN", "LOGIN")

SYNTAX = "501 5.5.4 Syntax: AUTH PLAIN|LOGIN [response]"
UNKNOWN = f"504 5.5.4 AUTH knows {' and '.join(MECHANISMS)}"
NO_BASE64 = "501 5.5.2 This is not base64"
NO_PLAIN = "501 5.5.2 PLAIN is an identity, NUL, a user, NUL and a password"
TOO_LONG = f"501 5.5.6 A line of AUTH has {MAX_LINE} octets at the most"
CANCELLED = "501 5.5.0 AUTH was cancelled"

_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_EMPTY = b"="


class AuthError(ValueError):
    """The exchange has failed before anybody was asked. reply: the answer to it."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


class Credentials(NamedTuple):
    """What a client says it is, octet for octet."""

    user: bytes
    password: bytes

    def __repr__(self) -> str:
        return "Credentials(...)"  # in no log


# Yields what to ask the client for, in clear; gets what it answered, decoded; returns what it says.
_Steps = Generator[bytes, bytes, Credentials]


class Exchange:
    """One AUTH command and what follows it. argument: what stands behind the verb.

    challenge: the line to send now, None when `credentials` are known. Raises AuthError.
    """

    def __init__(self, argument: bytes) -> None:
        words = argument.strip(b" ").split(b" ")
        if not words[0] or len(words) > 2:
            raise AuthError(SYNTAX)
        mechanism = words[0].upper()
        if mechanism not in _MECHANISMS:
            raise AuthError(UNKNOWN)
        self.challenge: str | None = None
        self.credentials: Credentials | None = None
        self._steps = _MECHANISMS[mechanism]()
        asked = next(self._steps)
        if len(words) == 2:
            self._go_on(b"" if words[1] == _EMPTY else _decoded(words[1]))
        else:
            self._ask(asked)

    def respond(self, line: bytes | None) -> None:
        """What the client answered, without its line end; None: the line was too long.

        Raises AuthError.
        """
        if line is None or len(line) > MAX_LINE - len(b"\r\n"):
            raise AuthError(TOO_LONG)
        if line == b"*":
            raise AuthError(CANCELLED)
        self._go_on(_decoded(line))

    def _go_on(self, response: bytes) -> None:
        try:
            self._ask(self._steps.send(response))
        except StopIteration as stop:
            self.challenge = None
            self.credentials = stop.value

    def _ask(self, question: bytes) -> None:
        self.challenge = f"334 {base64.b64encode(question).decode()}"


def _plain() -> _Steps:
    parts = (yield b"").split(b"\0")
    if len(parts) != 3:
        raise AuthError(NO_PLAIN)
    identity, user, password = parts
    if identity not in (b"", user):
        password = b"\0"  # which nobody has
    return Credentials(user, password)


def _login() -> _Steps:
    user = yield b"Username:"
    password = yield b"Password:"
    return Credentials(user, password)


_MECHANISMS = {b"PLAIN": _plain, b"LOGIN": _login}


def _decoded(text: bytes) -> bytes:
    if not _BASE64.fullmatch(text):
        raise AuthError(NO_BASE64)
    return base64.b64decode(text)
