"""The mail file: the one on-disk format, written by milter and receiver, read by the forwarder.

A file is a block of trusted headers and the message, escaped:

    X-REAL-MAILFROM: <sender@example.org>CRLF
    X-REAL-RCPTTO: <first@example.net>CRLF        one a recipient, BCC included
    X-BENNO-GW: mailgw1CRLF                       only with a gateway
    ...the message...

The archiver believes every trusted header that it finds, wherever it stands, and a sender can write
such lines into its own mail. So each line of the message's header section that any lenient parser
could read as a trusted name gets PREFIX, and a line that begins with PREFIX gets one more (as mboxrd
does with `>From `). Lenient means what JavaMail, the archiver's reader, was seen to accept: lines end
at CRLF, LF and bare CR; a name is all before the first colon, or the whole line where there is none;
blanks and control characters around it do not count, nor does case; blank-filled lines do not end
the header. The grammar stands in docs/format.md. It makes decode(encode(m)) == m for every message.

Encoder and Decoder are streams: octets in, octets out, and never more than the head of one line (1024
octets) or one address is held, whatever the length of a line. This module does no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from benno_common.envelope import Envelope
from benno_common.section import Section

MAILFROM = b"X-REAL-MAILFROM"
RCPTTO = b"X-REAL-RCPTTO"
GATEWAY = b"X-BENNO-GW"
PREFIX = b"X-Benno-Foreign-"

# What a decoder holds of a block line at the most; no MTA passes on an address of this length.
MAX_BLOCK_LINE = 1 << 20

_UPPER = bytes(range(256)).upper()
_INVISIBLE = bytes(octet for octet in range(256) if not 0x21 <= octet <= 0x7E)
_DOTTED_AND_DOTLESS_I = (b"\xc4\xb0", b"\xc4\xb1")


class MailFileError(ValueError):
    """The octets are not a mail file, and no envelope may be guessed from them."""


@dataclass(frozen=True)
class Grammar:
    """What is escaped and how. Tests use small alphabets; everything else uses GRAMMAR.

    prefix: put before an escaped line. names: trusted header names, upper case. head: octets of a
    line that are looked at.
    """

    prefix: bytes
    names: frozenset[bytes]
    head: int
    # CR or LF and a line that may have to be escaped, for what its first octets are. Few have.
    suspect: re.Pattern[bytes] = field(init=False)

    def __post_init__(self) -> None:
        words = (*self.names, self.prefix.upper())
        length = min(4, self.head, *map(len, words))
        begin = b"|".join(sorted({re.escape(word[:length]) for word in words}))
        first = b"|".join(sorted({re.escape(word[:1]) for word in words}))
        hidden = rb"[^\r\n\x21-\x7e]"
        lines = (
            begin,
            hidden + rb"+(?:" + first + rb")",
            hidden + rb"*\xc4",  # perhaps a letter I
            rb"(?:" + first + rb")[^\r\n]{0,%d}" % max(0, length - 2) + hidden,
            hidden + rb"{%d}" % self.head,  # nothing that is seen
        )
        pattern = rb"[\r\n]((?i:" + b"|".join(lines) + rb")[^\r\n]*)"
        object.__setattr__(self, "suspect", re.compile(pattern))

    def escapes(self, head: bytes, *, first: bool) -> bool:
        """Whether a line must be escaped: ESC(L) of docs/format.md.

        head: the line's first `self.head` octets, or all of it. first: it is the first non-empty
        line of the message, which a leading blank would make a continuation of our block.
        """
        if (first and head[0] <= 0x20) or head.startswith(self.prefix):
            return True
        name, colon, _ = head.partition(b":")
        for letter in _DOTTED_AND_DOTLESS_I:
            name = name.replace(letter, b"I")
        key = name.translate(_UPPER, _INVISIBLE)
        if key in self.names:
            return True
        undecided = len(head) >= self.head and not colon
        return undecided and any(trusted.startswith(key) for trusted in self.names)


GRAMMAR = Grammar(
    PREFIX, frozenset({MAILFROM, RCPTTO, b"RECIPIENT-FROM", b"RECIPIENT-TO", GATEWAY}), 1024
)


class Encoder(Section):
    """Makes a mail file of a message: `start()`, then `feed()` of each piece, then `finish()`.

    `escaped` counts the lines that could have been read as trusted headers.
    """

    def __init__(self, envelope: Envelope | None, grammar: Grammar = GRAMMAR) -> None:
        super().__init__(grammar.head, grammar.suspect)
        self._envelope = envelope
        self._grammar = grammar
        self.escaped = 0

    def start(self) -> bytes:
        """The block of trusted headers; nothing where the envelope is not to be stored."""
        return encode_block(self._envelope) if self._envelope else b""

    def edit(self, head: bytes) -> tuple[bytes, int]:
        if not self._grammar.escapes(head, first=self.first):
            return b"", 0
        self.escaped += 1
        return self._grammar.prefix, 0


class Unescaper(Section):
    """Takes the escaping off a message again. It does not know the trusted names."""

    def __init__(self, prefix: bytes = PREFIX) -> None:
        super().__init__(len(prefix) + 1, re.compile(b"[\r\n](" + re.escape(prefix) + b"[^\r\n]*)"))
        self._prefix = prefix

    def edit(self, head: bytes) -> tuple[bytes, int]:
        escaped = head.startswith(self._prefix) and len(head) > len(self._prefix)
        return b"", len(self._prefix) if escaped else 0


def encode_block(envelope: Envelope) -> bytes:
    """The trusted headers of an envelope, each line with CRLF."""
    lines = [MAILFROM + b": <" + envelope.sender + b">\r\n"]
    lines += [RCPTTO + b": <" + recipient + b">\r\n" for recipient in envelope.recipients]
    if envelope.gateway is not None:
        lines.append(GATEWAY + b": " + envelope.gateway + b"\r\n")
    return b"".join(lines)


class Decoder:
    """Takes a mail file apart: `feed()` pieces of it, then `finish()`; both return message octets.

    `envelope` is None until the block has been read. Raises MailFileError for octets that no encoder
    wrote; the message's own lines are never judged, so that files stay readable for ever.
    """

    # One line of the block; its only group that matched names what it is.
    line = re.compile(
        MAILFROM
        + rb": <(?P<sender>[^\r\n\0]*)>\r\n|"
        + RCPTTO
        + rb": <(?P<recipient>[^\r\n\0]*)>\r\n|"
        + GATEWAY
        + rb": (?P<gateway>[\x21-\x7e]+)\r\n"
    )

    def __init__(self) -> None:
        self.envelope: Envelope | None = None
        self._block = b""  # what was read of a block line that is not complete
        self._sender: bytes | None = None
        self._recipients: list[bytes] = []
        self._gateway: bytes | None = None
        self._message = Unescaper()

    def feed(self, data: bytes) -> bytes:
        if self.envelope is None:
            return self._feed_block(data, last=False)
        return self._message.feed(data)

    def finish(self) -> bytes:
        rest = self._feed_block(b"", last=True) if self.envelope is None else b""
        return rest + self._message.finish()

    def _feed_block(self, data: bytes, *, last: bool) -> bytes:
        data = self._block + data
        position = 0
        while self._goes_on(data[position : position + _LABEL_LENGTH], last=last):
            line = self.line.match(data, position, position + MAX_BLOCK_LINE)
            if not line:
                self._block = data[position:]
                self._expect_rest(last=last)
                return b""
            self._take(line)
            position = line.end()
        if self._sender is None:
            raise MailFileError(f"the file does not begin with {MAILFROM.decode()}")
        self.envelope = Envelope(self._sender, tuple(self._recipients), self._gateway)
        self._block = b""
        return self._message.feed(data[position:])

    def _goes_on(self, begin: bytes, *, last: bool) -> bool:
        """Whether a line that begins so belongs to the block, or could with more octets."""
        if self._gateway is not None:
            return False
        labels = _LABELS_FIRST if self._sender is None else _LABELS_NEXT
        return any(
            begin.startswith(label) or (not last and label.startswith(begin)) for label in labels
        )

    def _expect_rest(self, *, last: bool) -> None:
        """Raises MailFileError where more octets cannot make a line of the block."""
        if last or b"\n" in self._block:
            line = self._block[:80].partition(b"\n")[0]
            raise MailFileError(f"{line!r} is not a line of an envelope")
        if len(self._block) > MAX_BLOCK_LINE:
            raise MailFileError(f"a line of the envelope is longer than {MAX_BLOCK_LINE} octets")

    def _take(self, line: re.Match[bytes]) -> None:
        if line.lastgroup == "recipient":
            self._recipients.append(line["recipient"])
        elif line.lastgroup == "gateway":
            self._gateway = line["gateway"]
        else:
            self._sender = line["sender"]


# No message begins with one of these after a block: the encoder would have escaped the line.
_LABELS_FIRST = (MAILFROM + b":",)
_LABELS_NEXT = (RCPTTO + b":", GATEWAY + b":")
_LABEL_LENGTH = max(map(len, _LABELS_FIRST + _LABELS_NEXT))
