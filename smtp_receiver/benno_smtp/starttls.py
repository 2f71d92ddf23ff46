"""TLS on a connection: by STARTTLS (RFC 3207), or from the first octet on.

Of aiosmtpd's own STARTTLS nothing is used: it rests on internals that asyncio has changed, and older
versions execute what came in plain text behind the command. The rules here:

* STARTTLS is the last command before its reply. If anything follows, somebody may have put it there,
  and the connection ends; what was read and not handled is not looked at.
* Nothing of the session before it survives: neither the greeting nor a mail under way.
* Where TLS is required, all that has to do with mail is answered 530 before it. A BDAT chunk is read
  and thrown away, as it would be taken for commands. So it is where a certificate is required of the
  client, and there is none. One that does not hold good ends the handshake.
* A handshake that fails ends the connection, and is logged.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any, NamedTuple, NoReturn, cast

from benno_common import log
from benno_common.visible import quoted
from benno_smtp import events
from benno_smtp.shared import Shared
from benno_smtp.watch import Watched

HANDSHAKE_SECONDS = 30.0

# RFC 3207 4, and BDAT for its chunk.
BEFORE_TLS = frozenset({"EHLO", "NOOP", "QUIT", "STARTTLS", "BDAT"})


class Need(NamedTuple):
    """What a session lacks before any mail. reply: to all commands but those that are allowed.

    setting: that asks for it.
    """

    reply: str
    allowed: frozenset[str]
    setting: str


_SHORT = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU"}

NEEDS_TLS = Need("530 5.7.0 STARTTLS comes first", BEFORE_TLS, "tls_required")
NEEDS_CERTIFICATE = Need(
    "530 5.7.0 A certificate of yours is required", BEFORE_TLS | {"HELO", "RSET"}, "client_ca_file"
)


class Secured(Watched):
    """A connection with TLS.

    tls: the version that was agreed on, None in plain text. certificate: whose the client has shown.
    about: what the log says of each mail.
    """

    def __init__(self, shared: Shared) -> None:
        self.tls: str | None = None
        self.certificate: str | None = None
        self.about = ""
        self._shaking_hands = False
        super().__init__(shared)
        self._methods = self._smtp_methods
        self.admit()

    @property
    def need(self) -> Need | None:
        """What the session lacks; None: mail may come."""
        offered = self.shared.tls
        if offered is None:
            return None
        if offered.required and self.tls is None:
            return NEEDS_TLS
        return NEEDS_CERTIFICATE if offered.certified and self.certificate is None else None

    def admit(self) -> None:
        """Let those commands in that nothing is in the way of now."""
        self._smtp_methods = self._methods
        if lacking := self.need:

            async def refuse(_: str | None) -> None:
                others = self.shared.lacking.others(self.client, time.monotonic())
                if others is not None:
                    events.mail_lacks(self.client, lacking.reply, lacking.setting, others)
                await self.push(lacking.reply)

            self._smtp_methods = {
                verb: method if verb in lacking.allowed else refuse
                for verb, method in self._methods.items()
            }

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

    async def _secure(self) -> None:
        """The handshake; then the session begins anew."""
        assert self.shared.tls is not None
        plain = cast(asyncio.Transport, self.transport)
        plain.pause_reading()
        self._writer.flush()  # in plain text
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
            self._fail(_reason(error))
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
        self._writer.begin_anew(transport)
        self._transport = transport
        self._over_ssl = True
        secured = transport.get_extra_info("ssl_object")
        self.tls = secured.version()
        self.certificate = _subject(secured.getpeercert())
        shown = f" certificate={self.certificate}" if self.certificate else ""
        self.about = f"tls={self.tls}{shown}"
        self.session = self._create_session()
        self._set_post_data_state()
        self.admit()
        self._reset_timeout()

    def _say_goodbye(self) -> None:
        if self._shaking_hands:
            self._writer.close()  # in plain text nothing can be said
        else:
            super()._say_goodbye()


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the client: {error.verify_message}; see client_ca_file"
    return getattr(error, "reason", None) or str(error) or type(error).__name__


def _subject(certificate: dict[str, Any] | None) -> str | None:
    """Whose it is: `CN=mail.example.org,O=Example`. Without a subject, its other names."""
    if not certificate:
        return None
    parts = [pair for names in certificate.get("subject", ()) for pair in names]
    parts = parts or certificate.get("subjectAltName", ())
    words = [f"{_SHORT.get(kind, kind)}={value}" for kind, value in reversed(parts)]
    return quoted(",".join(words) or f"serial={certificate.get('serialNumber')}")
