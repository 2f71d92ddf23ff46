"""The grammar of the mail file, word for word, for whole messages: what the streams are measured by.

Nothing here is taken from the production code, and nothing is done for speed. The words (section, line,
head, name, key, ESC) are those of docs/format.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CRLF = b"\r\n"
VISIBLE = range(0x21, 0x7F)
TRUSTED = frozenset(
    {b"X-REAL-MAILFROM", b"X-REAL-RCPTTO", b"RECIPIENT-FROM", b"RECIPIENT-TO", b"X-BENNO-GW"}
)


@dataclass(frozen=True)
class Reference:
    """Encodes and decodes a message, escaped with `prefix` where `names` could be read."""

    prefix: bytes = b"X-Benno-Foreign-"
    names: frozenset[bytes] = TRUSTED
    head: int = 1024

    def encode(self, message: bytes) -> bytes:
        header, body = section(message)
        out: list[bytes] = []
        first = True
        for run in runs(header):
            if is_line(run):
                out += [self.prefix] if self.escapes(run, first=first) else []
                first = False
            out.append(run)
        return b"".join(out) + body

    def decode(self, message: bytes) -> bytes:
        header, body = section(message)
        return b"".join(map(self.unescape, runs(header))) + body

    def unescape(self, run: bytes) -> bytes:
        rest = run[len(self.prefix) :]
        return rest if rest and run.startswith(self.prefix) else run

    def escapes(self, line: bytes, *, first: bool) -> bool:
        head = line[: self.head]
        key = self.key(head.split(b":")[0])
        return (
            line.startswith(self.prefix)
            or (first and line[0] <= 0x20)
            or key in self.names
            or (
                len(head) == self.head
                and b":" not in head
                and any(key == name[: len(key)] for name in self.names)
            )
        )

    @staticmethod
    def key(name: bytes) -> bytes:
        read = name.replace(b"\xc4\xb0", b"I").replace(b"\xc4\xb1", b"I").upper()
        return bytes(octet for octet in read if octet in VISIBLE)


def section(message: bytes) -> tuple[bytes, bytes]:
    """The header section of a message, and the rest."""
    before, end, body = (CRLF + message).partition(CRLF + CRLF)
    return (before + end)[len(CRLF) :], body


def runs(header: bytes) -> list[bytes]:
    """Lines and what stands between them: joined, they are the header again."""
    return [run for run in re.split(rb"([\r\n]+)", header) if run]


def is_line(run: bytes) -> bool:
    return run[0] not in CRLF


def block(sender: bytes, recipients: tuple[bytes, ...], gateway: bytes | None = None) -> bytes:
    """The trusted headers of an envelope."""
    lines = [b"X-REAL-MAILFROM: <%b>\r\n" % sender]
    lines += [b"X-REAL-RCPTTO: <%b>\r\n" % recipient for recipient in recipients]
    lines += [] if gateway is None else [b"X-BENNO-GW: %b\r\n" % gateway]
    return b"".join(lines)
