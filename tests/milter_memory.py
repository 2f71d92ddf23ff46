"""A milter in memory: wire, assembly, and an archive that carries out what the assembly says.

Also the model of what must be archived, which knows nothing of packets, events and steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from benno_common.envelope import Envelope
from benno_milter.message import Append, Assembly, Begin, Cancel, Finish, Refuse, Step
from benno_milter.wire import Wire

Archived = tuple[bytes, tuple[bytes, ...], bytes]  # sender, recipients, message


class Archive:
    """Carries out steps, and sees that no mail gets anything of another one.

    kept, refused: the mails so far. open: whether one has begun.
    """

    def __init__(self) -> None:
        self.kept: list[Archived] = []
        self.refused: list[Refuse] = []
        self._envelope: Envelope | None = None
        self._message = b""

    @property
    def open(self) -> bool:
        return self._envelope is not None

    def do(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Begin):
                assert self._envelope is None, "a mail begins within another"
                self._envelope, self._message = step.envelope, b""
            elif isinstance(step, Refuse):
                assert self._envelope is None, "a mail that has begun is refused and not cancelled"
                self.refused.append(step)
            else:
                assert self._envelope is not None, f"{step} without a mail"
                self._advance(step, self._envelope)

    def _advance(self, step: Append | Finish | Cancel, envelope: Envelope) -> None:
        if isinstance(step, Append):
            self._message += step.data
            return
        if isinstance(step, Finish):
            self.kept.append((envelope.sender, envelope.recipients, self._message))
        self._envelope = None


class MemoryMilter:
    """One connection, without a socket and a disk."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.assembly = Assembly()
        self.archive = Archive()

    def receive(self, *pieces: bytes) -> None:
        """Octets from the MTA. Raises ProtocolError."""
        for piece in pieces:
            self.wire.receive(piece)
            while (event := self.wire.next_event()) is not None:
                self.archive.do(self.assembly.handle(event))


class Model:
    """What must be archived. A mail is kept if it has a sender and nothing in it is wrong."""

    def __init__(self) -> None:
        self.kept: list[Archived] = []
        self.forget()

    def forget(self) -> None:
        """ABORT, a new session, or the connection has gone."""
        self._sender: bytes | None = None
        self._recipients: list[bytes] = []
        self._message = b""
        self._wrong = False

    def mail(self, address: bytes) -> None:
        self.forget()
        self._sender = address
        self._wrong = _is_bad(address)

    def rcpt(self, address: bytes) -> None:
        self._recipients.append(address)
        self._wrong |= _is_bad(address) or self._message != b""

    def content(self, data: bytes) -> None:
        """Some octets; none at all are no content."""
        self._message += data

    def end(self) -> bool:
        """Whether the mail must be accepted."""
        accepted = self._sender is not None and not self._wrong
        if self._sender is not None and accepted:
            recipients = tuple(map(_bare, self._recipients))
            self.kept.append((_bare(self._sender), recipients, self._message))
        self.forget()
        return accepted


def _is_bad(address: bytes) -> bool:
    return any(octet in address for octet in b"\r\n\0")


def _bare(address: bytes) -> bytes:
    match = re.fullmatch(rb"<(.*)>", address, re.DOTALL)
    return match[1] if match else address
