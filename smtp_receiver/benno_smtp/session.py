"""The SMTP dialogue: what each command does, and its reply.

Each `smtp_VERB` gets what stands behind its verb, None if nothing does. One mail at a time is under way
(`Reception`); MAIL begins it, its end or RSET, EHLO, HELO and the end of the connection end it.
"""

from __future__ import annotations

from benno_common import identity
from benno_smtp.command import BdatCommand, CommandError, parse_bdat, parse_mail, parse_rcpt
from benno_smtp.login import Authenticated
from benno_smtp.reception import ADDED, Reception
from benno_smtp.shared import Shared
from benno_smtp.transfer import ChunkDecoder, DataDecoder


class Session(Authenticated):
    """One SMTP session."""

    def __init__(self, shared: Shared) -> None:
        self._reception: Reception | None = None
        self._chunks_refused = False  # until RSET
        super().__init__(shared)

    def eof_received(self) -> bool:
        if self._reception is not None:
            self._reception.doubt()
        return super().eof_received()

    def tick(self, now: float) -> None:
        super().tick(now)
        if self._reception is not None:
            self._reception.tick(now)

    def forget(self) -> None:
        if self._reception is not None:
            self._reception.leave()
        self._keep(None)

    async def smtp_EHLO(self, _: str | None) -> None:
        if not self.argument.strip():
            await self.push("501 5.5.4 Syntax: EHLO hostname")
            return
        self.begin_session(extended=True)
        lines = [self.hostname, *self._keywords()]
        dashed = [f"250-{line}" for line in lines[:-1]]
        await self.push("\r\n".join([*dashed, f"250 {lines[-1]}"]))

    async def smtp_HELO(self, _: str | None) -> None:
        if not self.argument.strip():
            await self.push("501 5.5.4 Syntax: HELO hostname")
            return
        self.begin_session(extended=False)
        await self.push(f"250 {self.hostname}")

    async def smtp_MAIL(self, _: str | None) -> None:
        try:
            reply = self._begin(self.argument)
        except CommandError as error:
            reply = error.reply
            self._log_refused(reply)
        await self.push(reply)

    async def smtp_RCPT(self, _: str | None) -> None:
        try:
            reply = self._add(self.argument)
        except CommandError as error:
            reply = error.reply
            self._log_refused(reply)
        await self.push(reply)

    async def smtp_DATA(self, argument: str | None) -> None:
        reception = self._reception
        if argument:
            await self.push("501 5.5.4 Syntax: DATA")
        elif reception is not None and reception.fault and not reception.has_begun:
            self.forget()
            await self.push(reception.fault)
        elif (
            reception is None
            or not reception.has_recipients
            or reception.has_begun
            or self._chunks_refused
        ):
            await self.push("503 5.5.1 MAIL and RCPT come first, and DATA does not mix with BDAT")
        elif reception.binary:
            await self.push("503 5.5.1 BODY=BINARYMIME needs BDAT")
        else:
            with self.content_follows():
                await self.push("354 End data with <CR><LF>.<CR><LF>")
                await self.receive(DataDecoder(), reception.take)
            await self._finish(reception)

    async def smtp_BDAT(self, _: str | None) -> None:
        reception, under_way = self._reception, self._reception is not None
        if reception is None or not reception.has_recipients or self._chunks_refused:
            reception = None
        with self.content_follows():
            command = await self._chunk()
            take = reception.take if reception is not None else None
            reply = await self.receive(ChunkDecoder(command.size), take)
        if reception is None:
            self._chunks_refused = under_way
            too_early = "503 5.5.1 MAIL and RCPT come first; after a refused chunk RSET"
            await self.push(lacking.reply if (lacking := self.need) else too_early)
        elif command.last:
            await self._finish(reception)
        else:
            self._chunks_refused = reply is not None
            await self.push(reply or f"250 2.0.0 {command.size} octets")

    async def smtp_RSET(self, argument: str | None) -> None:
        if argument:
            await self.push("501 5.5.4 Syntax: RSET")
            return
        self.forget()
        await self.push("250 2.0.0 OK")

    async def smtp_NOOP(self, _: str | None) -> None:
        await self.push("250 2.0.0 OK")

    async def smtp_QUIT(self, argument: str | None) -> None:
        await self.push("501 5.5.4 Syntax: QUIT" if argument else "221 2.0.0 Bye")

    async def smtp_VRFY(self, argument: str | None) -> None:
        known = "252 2.5.2 The archive takes mail for every address"
        await self.push(known if argument else "501 5.5.4 Syntax: VRFY address")

    async def smtp_HELP(self, _: str | None) -> None:
        await self.push("214 2.0.0 See RFC 5321; what is sent here is archived")

    async def smtp_EXPN(self, _: str | None) -> None:
        await self.push("502 5.5.1 EXPN is not offered")

    def _keywords(self) -> list[str]:
        """What EHLO offers."""
        offered = ["PIPELINING", "8BITMIME", "SMTPUTF8", f"SIZE {self.shared.max_message_size}"]
        offered += ["CHUNKING", "BINARYMIME", "DSN", "ENHANCEDSTATUSCODES"]
        offered.append(f"{identity.KEYWORD} {self.shared.identity()}")
        if self.offers_tls:
            offered.append("STARTTLS")
        if self.offers_login:
            offered.append(self.login_keyword)
        if self.shared.gateways.trusts(self.client):
            offered.append("XBENNO")
        return [*offered, "HELP"]

    def _begin(self, argument: bytes) -> str:
        """MAIL."""
        if not self.greeted:
            return "503 5.5.1 EHLO or HELO comes first"
        if self._reception is not None:
            return "503 5.5.1 There is a mail under way; RSET forgets it"
        command = parse_mail(argument)
        gateways = self.shared.gateways
        if command.gateway is not None and not gateways.trusts(self.client):
            return "555 5.5.4 XBENNO-GW is for trusted_gateways only"
        gateway = gateways.name_for(self.client, command.gateway)
        reception = Reception(self.shared, self.client, command, gateway, self.about)
        if reply := reception.refusal(command.size or 0):
            return reply
        if self.half_closed:
            reception.doubt()
        self._keep(reception)
        return "250 2.1.0 OK"

    def _add(self, argument: bytes) -> str:
        """RCPT."""
        if self._reception is None or self._reception.has_begun or self._chunks_refused:
            return "503 5.5.1 MAIL comes first, and content last"
        reply = self._reception.add(parse_rcpt(argument).recipient)
        if reply == ADDED:
            self.patience.recipient()
        return reply

    async def _chunk(self) -> BdatCommand:
        """BDAT's size. Where it cannot be read the next command cannot be found: hang up."""
        try:
            return parse_bdat(self.argument if self.verb == b"BDAT" else b"")
        except CommandError as error:
            reply = f"{error.reply}; closing, as a chunk may follow"
            self._log_refused(reply)
            await self.part(reply)

    def _log_refused(self, reply: str) -> None:
        """A command was not understood; somebody's mail or recipient was refused by it."""
        reason = self.line.decode("ascii", "backslashreplace")
        if self._reception is None:
            self.shared.refused(None, b"", 0, reply=reply, reason=reason, client=self.client)
        else:
            self._reception.log_refusal(reply, reason)

    async def _finish(self, reception: Reception) -> None:
        """The end of the content: answer it, and be ready for the next mail."""
        reply = await reception.finish()
        self.patience.mail()
        self._keep(None)
        await self.push(reply)

    def _keep(self, reception: Reception | None) -> None:
        """The mail under way from now on."""
        self._reception = reception
        self._chunks_refused = False
        self.busy = reception is not None
