"""What a reply means for the mail, by the phase in which it comes.

    reply   greeting, EHLO, STARTTLS, AUTH, MAIL     RCPT, DATA, BDAT, end of the message
    4xx     temporary                                temporary
    5xx     trouble of the session                   permanent
    5xx that is 530, 534, 535, 538 or 5.7.x: trouble of the session, whenever it comes; with 5.7.x it is
        doubtful, for a filter may have said it about this mail
    552     to a MAIL with SIZE: permanent

Not every 5xx is about the mail: a wrong password or a network that is not allowed refuses all of them
alike, and must not turn a spool into held files. What is about the session keeps every mail.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from benno_milter2smtp.reply import Reply

CLOSING = 421  # the server closes the connection, whatever was asked (RFC 5321 3.8)


class Phase(enum.Enum):
    """Where a transaction stands; the value is the name for people."""

    GREETING = "the greeting"
    HELLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CHUNK = "BDAT"
    END = "the end of the message"


@dataclass(frozen=True)
class Delivered:
    """The server has taken the mail."""

    reply: Reply


@dataclass(frozen=True)
class Temporary:
    """The mail stays for the next run.

    broken: this connection is worth nothing any more. general: it is the host that cannot, and it will
    put off other mails too.
    """

    reason: str
    broken: bool = False
    general: bool = False


@dataclass(frozen=True)
class Permanent:
    """The server will never take this mail: it is held, for a person to look at."""

    reason: str


@dataclass(frozen=True)
class SessionTrouble:
    """The server takes no mail at all from us: everything is kept, and a person must repair it.

    doubtful: content filters say such things about one mail.
    """

    reason: str
    doubtful: bool = False


Outcome = Delivered | Temporary | Permanent | SessionTrouble

_GOOD = {
    Phase.GREETING: {220},
    Phase.HELLO: {250},
    Phase.STARTTLS: {220},
    Phase.AUTH: {235},
    Phase.MAIL: {250},
    Phase.RCPT: {250, 251, 252},
    Phase.DATA: {354},
    Phase.CHUNK: {250},
    Phase.END: {250},
}
_ABOUT_THE_MAIL = {Phase.RCPT, Phase.DATA, Phase.CHUNK, Phase.END}
_SESSION_CODES = {
    530: "it demands authentication or TLS: see BENNO_AUTH_FILE and BENNO_TLS",
    534: "it demands a stronger authentication",
    535: "it does not accept user name and password: see BENNO_AUTH_FILE",
    538: "it demands TLS for authentication",
}
_GENERAL = ("4.3.", "4.4.", "4.7.")  # mail system, network, policy (RFC 3463 3)
_POLICY = "allow this client there, or correct user and password"


def judge(phase: Phase, reply: Reply, *, sized: bool = False) -> Outcome | None:
    """What the reply means; None where the transaction goes on. sized: MAIL said SIZE=."""
    if reply.code in _GOOD[phase]:
        return Delivered(reply) if phase is Phase.END else None
    said = f"{reply} (to {phase.value})"
    if 400 <= reply.code < 500:
        general = phase is Phase.MAIL or reply.status.startswith(_GENERAL)
        return Temporary(said, broken=reply.code == CLOSING, general=general)
    if reply.code < 400:
        return Temporary(f"out of step: {said}", broken=True)
    if is_about_the_session(reply):
        doubtful = phase not in {Phase.GREETING, Phase.HELLO} and reply.code not in _SESSION_CODES
        return SessionTrouble(f"{said}: {_SESSION_CODES.get(reply.code, _POLICY)}", doubtful)
    if phase in _ABOUT_THE_MAIL or (phase is Phase.MAIL and sized and reply.code == 552):
        return Permanent(said)
    return SessionTrouble(f"{said}: see the log there")


def is_about_the_session(reply: Reply) -> bool:
    """Whether a 5xx is about the session by its code alone (RFC 4954 6, RFC 3463 3.8)."""
    return reply.code in _SESSION_CODES or reply.status.startswith("5.7.")
