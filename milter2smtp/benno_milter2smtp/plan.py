"""How one mail goes to one server: its MAIL and RCPT commands, and the way its content takes.

The content takes BDAT where the server offers CHUNKING, octet by octet, else DATA. What the way on
offer cannot carry unaltered is not sent at all, unless the alteration was allowed (`normalize`); a NUL
is never altered. Octets above 127 in the content go unannounced where 8BITMIME is not offered, as they
always have; in an address they need SMTPUTF8.

An address that only benno-smtp is sure to read back as it is (blanks within the brackets, say, which
Postfix lets pass) goes to benno-smtp only, which is known by its XBENNODIR.

A gateway travels as a parameter of MAIL to a server that offers XBENNO, else as the first header line
of the message, as the older tools send it. A benno-smtp that does not let us name a gateway would take
that line for a forged one: nothing is sent then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from benno_common.envelope import Envelope
from benno_common.mailfile import GATEWAY
from benno_common.path import split_path
from benno_common.xtext import encode_xtext
from benno_milter2smtp.content import Content
from benno_milter2smtp.offer import Offer
from benno_milter2smtp.outcome import Permanent, SessionTrouble

# What every server reads as one path: nothing may end it early and begin a parameter.
_PATH = re.compile(
    rb"""(?:[^\x00-\x20\x7f"\\<>] | \\[^\x00\r\n] | "(?:[^"\\\x00\r\n] | \\[^\x00\r\n])*" )*""",
    re.VERBOSE,
)


UNTRUSTED = "mail has the name of a gateway, and trusted_gateways there does not have this host: add it"

_LONGEST_ENVID = 100  # RFC 3461 4.4


class AddressError(ValueError):
    """An address that no SMTP command can carry."""


@dataclass(frozen=True)
class Letter:
    """A mail as the planner sees it. name: of its file, in octets. small: it is held in memory."""

    name: bytes
    envelope: Envelope
    content: Content
    small: bool


@dataclass(frozen=True)
class Plan:
    """mail, rcpts: the commands, without CRLF. size: octets that are sent, `header` among them.

    header: goes before the message. chunked: by BDAT, else by DATA. early: the content goes with the
    commands, before they are answered. normalized: line ends are altered. sized: MAIL says SIZE=.
    """

    mail: bytes
    rcpts: tuple[bytes, ...]
    header: bytes
    size: int
    chunked: bool
    pipelined: bool
    early: bool
    normalized: bool
    sized: bool


def check_envelope(envelope: Envelope) -> None:
    """Raises AddressError where the envelope cannot be said in SMTP commands."""
    if not envelope.recipients:
        raise AddressError("the envelope has no recipient")
    for address in _addresses(envelope):
        if not _is_read_back(address):
            raise AddressError(f"address {address[:100]!r} cannot stand in an SMTP command")
    if b"" in envelope.recipients:
        raise AddressError("a recipient is empty")


def make_plan(
    letter: Letter, offer: Offer, *, normalize: bool = False
) -> Plan | Permanent | SessionTrouble:
    """How the letter goes to a server that offers this, or why it cannot."""
    envelope, content = letter.envelope, letter.content
    header = b""
    if envelope.gateway is not None and offer.directory and not offer.xbenno:
        return SessionTrouble(UNTRUSTED)
    if envelope.gateway is not None and not offer.xbenno:
        header = GATEWAY + b": " + envelope.gateway + b"\r\n"
    normalized = normalize and not _is_carried(content, offer) and not content.nul
    size = len(header) + (content.normalized_size if normalized else content.size)
    obstacle = None if normalized else _content_obstacle(content, offer)
    obstacle = obstacle or _other_obstacle(letter, offer, size, header)
    if obstacle:
        return Permanent(obstacle)
    binary = content.binary and not normalized
    return Plan(
        mail=b"MAIL FROM:<" + envelope.sender + b">" + _parameters(letter, offer, size, binary),
        rcpts=tuple(b"RCPT TO:<" + recipient + b">" for recipient in envelope.recipients),
        header=header,
        size=size,
        chunked=offer.chunking,
        pipelined=offer.pipelining,
        early=offer.pipelining and offer.chunking and letter.small and size > 0,
        normalized=normalized,
        sized=offer.size,
    )


def _is_read_back(address: bytes) -> bool:
    """Whether benno-smtp reads this address, and no more or less, from its brackets."""
    path = b"<" + address + b">"
    return split_path(path + b" SIZE=1") == (address, len(path))


def _is_carried(content: Content, offer: Offer) -> bool:
    """Whether the way on offer carries this content unaltered."""
    if offer.chunking and offer.binary:
        return True
    return content.complete and not content.binary  # Postfix appends a CRLF to what lacks one


def _content_obstacle(content: Content, offer: Offer) -> str | None:
    if _is_carried(content, offer):
        return None
    if content.nul:
        what = "a NUL"
    elif content.bare:
        what = "a bare CR or LF"
    else:
        what = "no CRLF at its end"
    missing = (
        "BINARYMIME"
        if offer.chunking
        else "CHUNKING"
        if not content.binary
        else "CHUNKING and BINARYMIME"
    )
    hint = "" if content.nul else "; --normalize would alter it"
    return f"the message has {what}, and the server does not offer {missing}{hint}"


def _other_obstacle(letter: Letter, offer: Offer, size: int, header: bytes) -> str | None:
    if offer.max_size and size > offer.max_size:
        return f"the message has {size} octets, and the server takes {offer.max_size}"
    odd = [address for address in _addresses(letter.envelope) if not _PATH.fullmatch(address)]
    if odd and not offer.directory:
        return f"address {odd[0][:100]!r} could be misread by a server that is no benno-smtp"
    if not offer.utf8 and _is_international(letter.envelope):
        return "an address has non-ASCII octets, and the server does not offer SMTPUTF8"
    if header and letter.content.begin <= b" " and letter.content.begin not in {b"", b"\r", b"\n"}:
        return "the message begins with a blank, which would continue the gateway's header line"
    return None


def _parameters(letter: Letter, offer: Offer, size: int, binary: bool) -> bytes:
    envelope = letter.envelope
    parameters = []
    if offer.size:
        parameters.append(b"SIZE=%d" % size)
    if binary:
        parameters.append(b"BODY=BINARYMIME")
    elif letter.content.eight_bit and offer.eight_bit:
        parameters.append(b"BODY=8BITMIME")
    if _is_international(envelope):
        parameters.append(b"SMTPUTF8")
    if offer.xbenno:
        if envelope.gateway is not None:
            parameters.append(b"XBENNO-GW=" + encode_xtext(envelope.gateway))
        parameters.append(b"XBENNO-ID=" + encode_xtext(letter.name))
    elif offer.dsn and len(letter.name) <= _LONGEST_ENVID:
        parameters.append(b"ENVID=" + encode_xtext(letter.name))  # for the log there
    return b"".join(b" " + parameter for parameter in parameters)


def _is_international(envelope: Envelope) -> bool:
    return not all(address.isascii() for address in _addresses(envelope))


def _addresses(envelope: Envelope) -> tuple[bytes, ...]:
    return (envelope.sender, *envelope.recipients)
