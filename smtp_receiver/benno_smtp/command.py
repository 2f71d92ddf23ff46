"""What follows the verbs MAIL, RCPT and BDAT (RFC 5321 4.1.2, 3461, 3030), read on octets.

An address is what stands between the angle brackets, octet for octet: quotes, source routes, UTF-8
and every other octet stay. It is never decoded, completed or judged by what a mail header allows, for
what is read here is what will be archived. Only CR, LF and NUL are refused: no mail file can hold them.

Where an address in brackets ends is said in `path`. Without brackets it goes up to the first blank; it
holds no quotes and no brackets, and does not look like a parameter.

Blanks are SP and TAB. They may stand around the colon and at the end.

Parameters of DSN (RFC 3461) and AUTH (RFC 4954) are accepted whatever their values: they are not about
the archive. XBENNO-GW and XBENNO-ID are our own, from the forwarder. This module does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from benno_common.envelope import Envelope, EnvelopeError, is_storable
from benno_common.path import split_path
from benno_common.xtext import XtextError, decode_xtext

_BLANK = rb"[ \t]"
_END = rb"(?=[ \t]|\Z)"
_KEYWORD = rb"[A-Za-z0-9][A-Za-z0-9-]*"
_BARE = re.compile(rb'[^ \t"<>]+' + _END)
_A_PARAMETER = re.compile(
    rb"SMTPUTF8" + _END + rb"|(?:SIZE|BODY|RET|ENVID|AUTH|XBENNO-GW|XBENNO-ID|NOTIFY|ORCPT)=",
    re.IGNORECASE,
)
_PARAMETER = re.compile(rb"(" + _KEYWORD + rb")(?:=(.*))?", re.DOTALL)
_BLANKS = re.compile(_BLANK + rb"+")
_FROM = re.compile(rb"FROM[ \t]*:[ \t]*", re.IGNORECASE)
_TO = re.compile(rb"TO[ \t]*:[ \t]*", re.IGNORECASE)
_BDAT = re.compile(rb"([0-9]{1,20})(?:[ \t]+(LAST))?", re.IGNORECASE)
_SIZE = re.compile(rb"[0-9]{1,20}")  # RFC 1870 3
_BODY = re.compile(rb"7BIT|8BITMIME|BINARYMIME", re.IGNORECASE)  # RFC 6152, 3030

_MAIL_PARAMETERS = frozenset(
    {b"SIZE", b"BODY", b"SMTPUTF8", b"RET", b"ENVID", b"AUTH", b"XBENNO-GW", b"XBENNO-ID"}
)
_RCPT_PARAMETERS = frozenset({b"NOTIFY", b"ORCPT"})
# Values by upper-case name; None where a parameter has no "=".
_Given = Mapping[bytes, bytes | None]


class CommandError(ValueError):
    """The command is not accepted. reply: the answer to it, with both codes and without CR LF."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


@dataclass(frozen=True)
class MailCommand:
    """MAIL: the reverse-path without brackets, empty for the null sender, and what is said of the mail.

    size: octets that the client announces. body: 7BIT, 8BITMIME or BINARYMIME. gateway: name of the
    gateway that the mail came by, which only a trusted client may give. ident: the name that the
    client has for the mail, any octets; None where it gives none.
    """

    sender: bytes
    size: int | None = None
    body: bytes | None = None
    smtputf8: bool = False
    gateway: bytes | None = None
    ident: bytes | None = None


@dataclass(frozen=True)
class RcptCommand:
    """RCPT: the forward-path without brackets, never empty."""

    recipient: bytes


@dataclass(frozen=True)
class BdatCommand:
    """BDAT: octets of the chunk that follows, and whether it is the last one of the mail."""

    size: int
    last: bool


def parse_mail(argument: bytes) -> MailCommand:
    """What follows MAIL on its line, without CR LF. Raises CommandError."""
    path, rest = _split(_after(_FROM, argument, "MAIL FROM:<address>"), "5.1.7", "sender")
    given = _parameters(rest, _MAIL_PARAMETERS)
    size = _value(given, b"SIZE", _SIZE)
    return MailCommand(
        sender=path,
        size=None if size is None else int(size),
        body=_value(given, b"BODY", _BODY),
        smtputf8=_smtputf8(given),
        gateway=_gateway(given),
        ident=_ident(given),
    )


def parse_rcpt(argument: bytes) -> RcptCommand:
    """What follows RCPT on its line, without CR LF. Raises CommandError."""
    path, rest = _split(_after(_TO, argument, "RCPT TO:<address>"), "5.1.3", "recipient")
    if not path:
        raise CommandError("501 5.1.3 A recipient is missing between the brackets")
    _parameters(rest, _RCPT_PARAMETERS)
    return RcptCommand(path)


def parse_bdat(argument: bytes) -> BdatCommand:
    """What follows BDAT on its line, without CR LF. Raises CommandError."""
    command = _BDAT.fullmatch(argument.strip(b" \t"))
    if not command:
        raise CommandError("501 5.5.4 Syntax: BDAT size [LAST]")
    return BdatCommand(int(command[1]), command[2] is not None)


def _after(label: re.Pattern[bytes], argument: bytes, syntax: str) -> bytes:
    argument = argument.strip(b" \t")
    found = label.match(argument)
    if not found:
        raise CommandError(f"501 5.5.2 Syntax: {syntax}")
    return argument[found.end() :]


def _split(text: bytes, status: str, role: str) -> tuple[bytes, bytes]:
    """The address, and the parameters behind it."""
    found = split_path(text) if text.startswith(b"<") else _bare(text)
    if found is None:
        raise CommandError(f"501 {status} Bad {role} address syntax")
    address, end = found
    if not is_storable(address):
        raise CommandError("553 5.1.3 The address contains CR, LF or NUL, or is too long")
    return address, text[end:]


def _bare(text: bytes) -> tuple[bytes, int] | None:
    address = _BARE.match(text)
    if not address or _A_PARAMETER.match(text):
        return None
    return address[0], address.end()


def _parameters(text: bytes, known: frozenset[bytes]) -> _Given:
    given: dict[bytes, bytes | None] = {}
    for word in filter(None, _BLANKS.split(text)):
        parameter = _PARAMETER.fullmatch(word)
        if not parameter:
            raise CommandError("501 5.5.4 Bad syntax of a parameter")
        name = parameter[1].upper()
        shown = name[:40].decode("ascii")
        if name not in known:
            raise CommandError(f"555 5.5.4 Unknown parameter {shown}")
        if name in given:
            raise CommandError(f"501 5.5.4 Parameter {shown} is given twice")
        given[name] = parameter[2]
    return given


def _value(given: _Given, name: bytes, syntax: re.Pattern[bytes]) -> bytes | None:
    if name not in given:
        return None
    value = given[name] or b""
    if not syntax.fullmatch(value):
        raise CommandError(f"501 5.5.4 Bad value of {name.decode()}")
    return value.upper()


def _smtputf8(given: _Given) -> bool:
    if given.get(b"SMTPUTF8") is not None:
        raise CommandError("501 5.5.4 SMTPUTF8 has no value")
    return b"SMTPUTF8" in given


def _gateway(given: _Given) -> bytes | None:
    if b"XBENNO-GW" not in given:
        return None
    gateway = _decoded(given, b"XBENNO-GW")
    try:
        return Envelope(b"", (), gateway).gateway
    except EnvelopeError:
        raise CommandError("501 5.5.4 XBENNO-GW is not printable ASCII without blanks") from None


def _ident(given: _Given) -> bytes | None:
    """From the forwarder, else what the client of any other kind calls the mail (RFC 3461 4.4)."""
    if b"XBENNO-ID" in given:
        return _decoded(given, b"XBENNO-ID")
    envid = given.get(b"ENVID")
    try:
        return decode_xtext(envid) if envid else None
    except XtextError:
        return envid  # nothing hangs on it: no reason to refuse a mail


def _decoded(given: _Given, name: bytes) -> bytes:
    try:
        decoded = decode_xtext(given[name] or b"")
    except XtextError:
        raise CommandError(f"501 5.5.4 The value of {name.decode()} is not xtext") from None
    if not decoded:
        raise CommandError(f"501 5.5.4 {name.decode()} has no value")
    return decoded
