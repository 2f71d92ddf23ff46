"""TLS on a connection: by STARTTLS (RFC 3207), or from the first octet on.

Of aiosmtpd's own STARTTLS nothing is used: it rests on internals that asyncio has changed, and older
versions execute what came in plain text behind the command. The rules here:

* STARTTLS is the last command before its reply. If anything follows, somebody may have put it there,
  and the connection ends; what was read and not handled is not looked at.
* Nothing of the session before it survives: neither the greeting nor a mail under way.
* Where TLS is required, all that has to do with mail is answered 530 before it. A BDAT chunk is read
  and thrown away, as it would be taken for commands.
* A handshake that fails ends the connection, and is logged.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn, cast

from benno_common import log
from benno_smtp.connection import Connection
from benno_smtp.shared import Shared

HANDSHAKE_SECONDS = 30.0

NEEDS_TLS = "530 5.7.0 STARTTLS comes first"

# RFC 3207 4, and BDAT for its chunk.
_BEFORE_TLS = frozenset({"EHLO", "NOOP", "QUIT", "STARTTLS", "BDAT"})


class Secured(Connection):
    """A connection with TLS. tls: the version that was agreed on, None in plain text."""

    def __init__(self, shared: Shared) -> None:
        self.tls: str | None = None
        self._shaking_hands = False
        super().__init__(shared)
        self._methods = self._smtp_methods
        if self.needs_tls:
            self._smtp_methods = {
                verb: method if verb in _BEFORE_TLS else self._refuse
                for verb, method in self._methods.items()
            }

    @property
    def needs_tls(self) -> bool:
        """Whether no mail may come yet."""
        return self.shared.tls is not None and self.shared.tls.required and self.tls is None

    @property
    def offers_tls(self) -> bool:
        return self.shared.tls is not None and self.tls is None

    def eof_received(self) -> bool:
        super().eof_received()
        return self.tls is None  # TLS has no half-closed connection

    async def _handle_client(self) -> None:
        """Called by aiosmtpd: the whole session."""
        if self.shared.tls is not None and self.shared.tls.implicit:
            await self._secure()
        await super()._handle_client()

    async def smtp_STARTTLS(self, argument: str | None) -> None:
        if self.shared.tls is None:
            await self.push("502 5.5.1 STARTTLS is not offered")
        elif argument:
            await self.push("501 5.5.4 Syntax: STARTTLS")
        elif self.tls is not None:
            await self.push("503 5.5.1 TLS is active")
        elif self._reader.has_more:
            log.tls_failed(self.client, "plain text behind STARTTLS")
            await self.part("501 5.5.4 Nothing may follow STARTTLS; closing")
        else:
            cast(asyncio.Transport, self.transport).pause_reading()  # what comes now is TLS
            await self.push("220 2.0.0 Ready to start TLS")
            await self._secure()

    async def _refuse(self, _: str | None) -> None:
        await self.push(NEEDS_TLS)

    async def _secure(self) -> None:
        """The handshake; then the session begins anew."""
        assert self.shared.tls is not None
        plain = cast(asyncio.Transport, self.transport)
        plain.pause_reading()
        if self._reader.has_more:
            self._fail("plain text before the handshake")
        self._shaking_hands = True
        secured = None
        try:
            secured = await self.loop.start_tls(
                plain,
                self,
                self.shared.tls.context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except OSError as error:  # of TLS too
            self._fail(getattr(error, "reason", None) or str(error) or type(error).__name__)
        finally:
            self._shaking_hands = False
            if secured is None or secured.get_extra_info("ssl_object") is None:
                self.connection_lost(None)  # asyncio tells nobody
        if self.transport is None or secured is None:
            self.hang_up()
        self._begin_anew(secured)

    def _fail(self, reason: str) -> NoReturn:
        log.tls_failed(self.client, reason)
        self.hang_up()

    def _begin_anew(self, transport: asyncio.Transport) -> None:
        """The transport is another one, and nothing of what was said in plain text is known."""
        self.transport = transport
        self._reader.begin_anew(transport)
        self._writer._transport = transport  # type: ignore[attr-defined] # noqa: SLF001 - as asyncio does
        self._transport = transport
        self._over_ssl = True
        self.tls = transport.get_extra_info("ssl_object").version()
        self.session = self._create_session()
        self._set_post_data_state()
        self._smtp_methods = self._methods
        self._reset_timeout()

    def _say_goodbye(self) -> None:
        if self._shaking_hands:
            self._writer.close()  # in plain text nothing can be said
        else:
            super()._say_goodbye()
