"""benno-smtp in this process, with import directories in memory: one dialogue after the other.

archive = MemoryArchive()
stored, replies = archive.converse([b"EHLO a\\r\\nMAIL FROM:<", b"a@b>\\r\\n"])
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from benno_common.durable import DirectoryUnusable
from benno_common.envelope import Envelope
from benno_common.log import Stored
from benno_common.maildrop import MailDrop
from benno_common.networks import DEFAULT, Networks
from benno_smtp.session import Session
from benno_smtp.shared import Shared

SECONDS = 20.0  # for a dialogue; then it hangs
FLUSH = 1000  # octets after which a mail wants to be flushed
Archived = tuple[bytes, tuple[bytes, ...], bytes]  # sender, recipients, message


@dataclass(frozen=True)
class Dialogue:
    """stored: the mails. replies: octets. whole: all replies are there.

    They are not where the server closes while the client still sends: its system throws them away.
    """

    stored: list[Archived]
    replies: bytes
    whole: bool


class _Mail:
    def __init__(self, drop: _Drop, envelope: Envelope) -> None:
        self._drop = drop
        self._envelope = envelope
        self._message = b""
        self._held = 0

    def write(self, data: bytes) -> bool:
        self._message += data
        self._held += len(data)
        return self._held > FLUSH

    def flush(self, then: Callable[[], None]) -> None:
        self._held = 0
        asyncio.get_running_loop().call_soon(then)

    def commit(self, then: Callable[[Stored | Exception], None]) -> None:
        self._drop.kept.append((self._envelope.sender, self._envelope.recipients, self._message))
        stored = Stored(f"{len(self._drop.kept)}.eml", len(self._message), "0" * 64, 0)
        asyncio.get_running_loop().call_soon(then, stored)

    def abort(self) -> None:
        self._message = b""


class _Drop:
    """What a session needs of a MailDrop."""

    def __init__(self) -> None:
        self.kept: list[Archived] = []

    @property
    def directory(self) -> None:
        raise DirectoryUnusable("there is none")

    def begin(self, envelope: Envelope) -> _Mail:
        return _Mail(self, envelope)

    def refusal(self, size: int = 0) -> None:
        return None

    def recheck(self) -> None:
        pass


class MemoryArchive:
    """Takes dialogues, each on a connection of its own. It lives as long as the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._drop = _Drop()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=8)
        self._address = self._listener.getsockname()
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        drop = cast(MailDrop, self._drop)
        shared = Shared(drop, hostname="archive.test", allowed=Networks(DEFAULT))
        await self._loop.create_server(lambda: Session(shared), sock=self._listener)

    def converse(self, pieces: Sequence[bytes]) -> Dialogue:
        """A client sends these, and closes its side then."""
        self._drop.kept = []
        replies, whole = self._loop.run_until_complete(
            asyncio.wait_for(self._converse(pieces), SECONDS)
        )
        return Dialogue(self._drop.kept, replies, whole)

    async def _converse(self, pieces: Sequence[bytes]) -> tuple[bytes, bool]:
        reader, writer = await asyncio.open_connection(*self._address)
        replies, whole = b"", True
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            writer.write_eof()
            while data := await reader.read(65536):
                replies += data
        except OSError:
            whole = False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return replies, whole
