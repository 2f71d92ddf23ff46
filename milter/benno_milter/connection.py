"""One connection from the MTA: socket -> wire -> message -> maildrop -> reply.

The callbacks only translate. While a piece of a mail is being flushed, or a mail is being made durable,
reading goes on: the next piece is there when it is wanted, and it is seen if the MTA leaves. But
nothing of what comes is looked at before, and no more is kept than a piece. A mail whose end has come
is kept, whoever is still there.

A fault of our own is logged and answered 451 at the end of the message. Nothing is ever answered
positively but a mail that is durable.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from typing import cast

from benno_common import log
from benno_common.envelope import Envelope
from benno_common.mail import Mail
from benno_common.maildrop import LARGEST_PIECE
from benno_common.networks import plain
from benno_milter import event as events
from benno_milter import message, protocol, wire
from benno_milter.shared import Pending, Shared, log_refusal, refusal_of

ANSWER_SECONDS = 240.0  # Postfix waits 300 s (milter_content_timeout), Sendmail 5 min (E:5m)
PROGRESS_SECONDS = 10.0

# One buffer for all connections: what the loop read is taken out of it before it reads again.
_BUFFER = memoryview(bytearray(LARGEST_PIECE))


class Connection(asyncio.BufferedProtocol):
    """One connection from the MTA."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._wire = wire.Wire()
        self._assembly = message.Assembly(shared.gateway)
        self._mail: Mail | None = None  # begun, and its end has not come
        self._envelope = Envelope(b"", ())  # of that mail
        self._flushing: float | None = None  # since when
        self._clogged = False  # the MTA does not read its replies
        self._pending: Pending | None = None
        self._draining = False
        self._peer = "MTA"
        self._tcp: socket.socket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._peer = plain(peer[0])
            self._tcp = transport.get_extra_info("socket")
        if not self._shared.admits(self._peer, by_tcp=self._tcp is not None):
            self._transport.abort()
            return
        self._shared.join(self)
        if self._shared.draining:
            self._transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's interface
        return _BUFFER[: self._shared.drop.piece]

    def buffer_updated(self, nbytes: int) -> None:
        self._wire.receive(_BUFFER[:nbytes])
        if self._tcp is not None:
            # Sendmail writes a packet in pieces, each of which would wait 40 ms for a delayed ACK of
            # the one before. The option does not last, tcp(7).
            self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._advance()

    def pause_writing(self) -> None:
        self._clogged = True

    def resume_writing(self) -> None:
        self._clogged = False
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's interface
        self._drop_mail()
        self._pending = None
        self._shared.leave(self)

    def drain(self) -> None:
        """End as soon as no mail is under way."""
        self._draining = True
        self._throttle()

    def close(self) -> None:
        """End now: a mail whose end has come is still kept, but nobody hears of it."""
        self._transport.abort()

    def tick(self, now: float) -> None:
        """Once in a while: keep the MTA waiting for a slow disk, but not for ever."""
        pending = self._pending
        if pending is None:
            if self._flushing and now - self._flushing > ANSWER_SECONDS:
                self._drop_mail()
                reason = f"a piece was not written after {ANSWER_SECONDS:.0f} s"
                self._assembly.fail(message.TOO_SLOW, reason)
                self._advance()
        elif now - pending.began > ANSWER_SECONDS:
            self._pending = None
            reason = f"not durable after {ANSWER_SECONDS:.0f} s; if it will be, it comes twice"
            self._refuse(pending.queue_id, refusal_of(pending.envelope, message.TOO_SLOW, reason))
            self._advance()
        elif now - pending.told > PROGRESS_SECONDS:
            pending.told = now
            self._transport.write(protocol.PROGRESS)

    def _advance(self) -> None:
        """Handle what has arrived, up to where something must be waited for."""
        try:
            while not (
                self._flushing or self._clogged or self._pending or self._transport.is_closing()
            ):
                event = self._wire.next_event()
                if event is None:
                    break
                self._handle(event)
                self._reply(event)
        except events.ProtocolError as error:
            log.protocol_violated(self._peer, str(error))
            self._transport.abort()
        except Exception as error:  # noqa: BLE001 - the MTA takes a lost connection for a temporary failure
            log.unexpected(self._wire.queue_id, error)
            self._transport.abort()
        self._throttle()

    def _throttle(self) -> None:
        busy = self._pending is not None or self._flushing is not None
        if self._clogged or (busy and self._wire.waiting > self._shared.drop.piece):
            self._transport.pause_reading()
            return
        self._transport.resume_reading()
        if self._draining and self._pending is None and self._assembly.idle:
            self._transport.close()

    def _handle(self, event: events.Event) -> None:
        try:
            for step in self._assembly.handle(event):
                if isinstance(event, events.EndOfMessage):
                    self._end(step, event.queue_id)
                else:
                    self._do(step)
        except Exception as error:  # noqa: BLE001 - whatever it is, the mail must come again
            self._drop_mail()
            fault = f"unexpected {type(error).__name__}"
            if isinstance(event, events.EndOfMessage):
                log.unexpected(event.queue_id, error)
                self._pending = None
                self._refuse(event.queue_id, refusal_of(self._envelope, message.NOT_STORED, fault))
            else:
                log.unexpected(self._wire.queue_id, error)
                self._assembly.fail(message.NOT_STORED, fault)

    def _do(self, step: message.Step) -> None:
        if isinstance(step, message.Append):
            assert self._mail is not None
            if self._mail.write(step.data):
                self._flushing = time.monotonic()
                self._mail.flush(self._flushed)
        elif isinstance(step, message.Begin):
            self._envelope = step.envelope
            self._mail = self._shared.drop.begin(step.envelope)
        else:
            self._drop_mail()

    def _end(self, step: message.Step, queue_id: str | None) -> None:
        """A step at the end of the message; the last of them is answered, now or later."""
        if isinstance(step, message.Refuse):
            self._refuse(queue_id, step)
        elif isinstance(step, message.Finish):
            assert self._mail is not None
            now = time.monotonic()
            pending = Pending(queue_id, self._envelope, began=now, told=now)
            self._mail.commit(functools.partial(self._committed, pending), queue_id)
            self._mail, self._pending = None, pending
        else:
            self._do(step)

    def _reply(self, event: events.Event) -> None:
        if isinstance(event, events.Mail):
            self._reply_to_mail()
        elif isinstance(event, events.Negotiation):
            self._transport.write(event.reply)
            if not self._wire.exact:
                log.inexact(self._peer)
        elif isinstance(event, (events.Rcpt, events.Content, events.Ignored)):
            if event.owed:
                self._transport.write(protocol.CONTINUE)
        elif isinstance(event, events.Quit):
            self._transport.close()

    def _reply_to_mail(self) -> None:
        refusal = self._shared.drop.refusal()
        if refusal is None:
            self._transport.write(protocol.CONTINUE)
            return
        self._assembly.fail(*refusal)
        for step in self._assembly.handle(events.EndOfMessage(None)):
            self._end(step, self._wire.queue_id)

    def _refuse(self, queue_id: str | None, refusal: message.Refuse) -> None:
        self._transport.write(protocol.refusal(refusal.reply))
        self._shared.statistics.refused += 1
        log_refusal(queue_id, refusal)

    def _flushed(self) -> None:
        self._flushing = None
        self._advance()

    def _committed(self, pending: Pending, outcome: log.Stored | Exception) -> None:
        """The mail is durable, or never will be."""
        waiting = self._pending is pending and not self._transport.is_closing()
        if waiting:
            self._pending = None
        if isinstance(outcome, log.Stored):
            if waiting:
                self._transport.write(protocol.CONTINUE)
            seconds = time.monotonic() - pending.began
            self._shared.stored(pending.queue_id, pending.envelope, outcome, seconds, answered=waiting)
        elif waiting:
            self._refuse(
                pending.queue_id, refusal_of(pending.envelope, message.NOT_STORED, str(outcome))
            )
        else:
            unheard = refusal_of(pending.envelope, "none, the MTA has gone", str(outcome))
            log_refusal(pending.queue_id, unheard)
        if waiting:
            self._advance()

    def _drop_mail(self) -> None:
        if self._mail is not None:
            mail, self._mail = self._mail, None
            mail.abort()
            self._flushing = None
        self._envelope = Envelope(b"", ())
