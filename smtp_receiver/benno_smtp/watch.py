"""Who comes in, and who stays too long: a connection between its client and the `limits`.

A client that is not allowed, or for which there is no place, is told so in place of the greeting
(RFC 5321 3.1). One that takes too long is told so and hung up on; it has 10 seconds to read it. Whoever
is refused can come again: nothing here is said of a mail.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

from benno_smtp import events
from benno_smtp.connection import PARTING_SECONDS, Connection
from benno_smtp.limits import COMMAND, CONTENT, IDLE, Phase
from benno_smtp.shared import Shared

NOT_ALLOWED = "554 5.7.1 The mail archive does not take mail from your address"
NO_PLACE = "421 4.7.0 Too many connections; come again later"

TIMED_OUT = {
    COMMAND: "421 4.4.2 Nothing came for too long",
    IDLE: "421 4.4.2 No mail came for too long",
    CONTENT: "421 4.4.2 The mail came too slowly",
}


class _NoTimer:
    """For aiosmtpd, which wants to stop one in the end."""

    def cancel(self) -> None:
        pass


_NO_TIMER = cast(asyncio.TimerHandle, _NoTimer())


class Watched(Connection):
    """A connection that has a place, and is looked at once in a while."""

    def __init__(self, shared: Shared) -> None:
        self._has_place = False
        self._ticked = time.monotonic()
        self._closing = 0.0  # seconds since it was hung up on
        super().__init__(shared)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self.shared.admits(self.client):
            self._turn_away(NOT_ALLOWED)
        elif not self.shared.has_place(self.client):
            self._turn_away(NO_PLACE)
        else:
            self._has_place = True
            if self.shared.draining:
                self.drain()

    def connection_lost(self, error: Exception | None) -> None:
        if self._has_place:
            self._has_place = False
            self.shared.places.leave(self.client)
        super().connection_lost(error)

    def tick(self, now: float) -> None:
        """Look at how long the client has been waited for; Reception looks at the disk."""
        seconds, self._ticked = now - self._ticked, now
        if self._writer.is_closing():
            self._closing += seconds
            if self._closing >= PARTING_SECONDS:  # it does not read what was said
                self.close()
            return
        if self.parting:
            return
        phase = self._awaited()
        setting = self.patience.tick(seconds, phase)
        if setting is not None and phase is not None:
            events.timed_out(self.client, setting, phase.value, under_way=self.busy)
            self._writer.write(f"{TIMED_OUT[setting]}\r\n".encode())
            self._writer.close()

    def _awaited(self) -> Phase | None:
        """What the client is waited for."""
        if self.is_stuck:
            return Phase.REPLIES
        if not self._reader.is_waiting:
            return None
        return Phase.CONTENT if self._reader.in_content else Phase.COMMAND

    def _turn_away(self, reply: str) -> None:
        assert self._handler_coroutine is not None
        self._handler_coroutine.cancel()  # it has not begun yet
        self._writer.write(f"{reply}\r\n".encode())
        self._writer.close()

    def _reset_timeout(self, duration: float | None = None) -> None:  # noqa: ARG002
        """Called by aiosmtpd for each command that it knows."""
        self.patience.command()
        self._timeout_handle = _NO_TIMER
