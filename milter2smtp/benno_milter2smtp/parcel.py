"""A mail of the spool made ready to be sent: its envelope, what its content needs, its octets.

A message is looked at wholly before its first command goes out: how it travels depends on it. Small
files are then held in memory, and are read once; larger ones are read a second time while they are
sent. If that time another envelope or other octets come, MailFileError is raised before the end of the
message was sent, so that nobody stores it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

from benno_common.mailfile import MailFileError
from benno_common.spool import Spool, Stamp
from benno_milter2smtp.content import END_OF_DATA, Content, Inspector, Normalizer, Stuffer
from benno_milter2smtp.plan import AddressError, Letter, Plan, check_envelope

SMALL = 1 << 20  # octets of a file that is held in memory


class Parcel:
    """name, stamp: of the file. letter: what a plan is made of."""

    def __init__(
        self, spool: Spool, name: str, stamp: Stamp, letter: Letter, pieces: list[bytes] | None
    ) -> None:
        self.name = name
        self.stamp = stamp
        self.letter = letter
        self._spool = spool
        self._pieces = pieces

    def octets(self, plan: Plan) -> Iterator[bytes]:
        """What goes over the wire, with the dot at its end where DATA carries it.

        Raises MailFileError if the file changed since it was looked at, OSError if the disk fails.
        """
        stream = self._message()
        if plan.normalized:
            stream = _normalized(stream)
        if plan.header:
            stream = _preceded(plan.header, stream)
        return stream if plan.chunked else _stuffed(stream)

    def _message(self) -> Iterator[bytes]:
        if self._pieces is not None:
            yield from self._pieces
            return
        mail = self._spool.read(self.name)
        if mail.envelope != self.letter.envelope:
            raise MailFileError("the envelope changed while the mail was sent")
        size, hashed = 0, hashlib.sha256()
        for piece in mail.pieces:
            size += len(piece)
            # A piece beyond the announced size would be taken for commands.
            if size > self.letter.content.size:
                break
            hashed.update(piece)
            yield piece
        # The same octets: all else that was found in them needs no second look.
        if (size, hashed.hexdigest()) != (self.letter.content.size, self.letter.content.sha256):
            raise MailFileError("the message changed while it was sent")


def open_parcel(spool: Spool, name: str) -> Parcel:
    """Read a mail file. Raises MailFileError if it is none or cannot be sent; OSError from the disk."""
    mail = spool.read(name)
    try:
        check_envelope(mail.envelope)
    except AddressError as error:
        raise MailFileError(str(error)) from error
    small = mail.stamp.size <= SMALL
    pieces = list(mail.pieces) if small else None
    content = _inspect(mail.pieces if pieces is None else pieces)
    letter = Letter(os.fsencode(name), mail.envelope, content, small)
    return Parcel(spool, name, mail.stamp, letter, pieces)


def _inspect(pieces: Iterable[bytes]) -> Content:
    inspector = Inspector()
    for piece in pieces:
        inspector.feed(piece)
    return inspector.content()


def _normalized(stream: Iterator[bytes]) -> Iterator[bytes]:
    normalizer = Normalizer()
    for piece in stream:
        yield normalizer.feed(piece)
    yield normalizer.finish()


def _preceded(header: bytes, stream: Iterator[bytes]) -> Iterator[bytes]:
    yield header
    yield from stream


def _stuffed(stream: Iterator[bytes]) -> Iterator[bytes]:
    stuffer = Stuffer()
    for piece in stream:
        yield stuffer.feed(piece)
    yield END_OF_DATA
