"""AUTH on a connection: who may, what it takes, and what is refused before it.

AUTH is offered under TLS, or where `auth_without_tls` says so in plain text too. Where there are users,
all that has to do with mail is answered 530 until one has logged in. A login that fails is answered
535, later each time (`guard`); the third one ends the session. A line that cannot be read is not a
failure, and is answered 501. Who has logged in stays so until the session ends, or TLS begins.

Passwords are checked by threads: bcrypt takes its time. They are in no log.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from benno_smtp import events
from benno_smtp.authentication import MAX_LINE, MECHANISMS, TOO_LONG, AuthError, Credentials, Exchange
from benno_smtp.shared import Shared
from benno_smtp.starttls import BEFORE_TLS, Need, Secured

MAX_FAILURES = 3

NEEDS_LOGIN = Need(
    "530 5.7.0 AUTH comes first", BEFORE_TLS | {"HELO", "RSET", "AUTH"}, "auth_user or auth_file"
)

LOGGED_IN = "235 2.7.0 Logged in"
FAILED = "535 5.7.8 User name or password is wrong"
ENOUGH = "535 5.7.8 User name or password is wrong; closing, as it was the third time"
TOO_OFTEN = "421 4.7.0 Too many logins from your address have failed; come again later"

# Two at a time: checking leaves a processor for mail, and one slow hash does not keep another waiting.
_checking = ThreadPoolExecutor(2, thread_name_prefix="login")


class Authenticated(Secured):
    """A connection with AUTH. user: who has logged in, None if nobody has."""

    def __init__(self, shared: Shared) -> None:
        self.user: str | None = None
        self._failures = 0
        super().__init__(shared)

    @property
    def need(self) -> Need | None:
        lacking = super().need
        if lacking is None and self.shared.users is not None and self.user is None:
            return NEEDS_LOGIN
        return lacking

    @property
    def offers_login(self) -> bool:
        return self.shared.users is not None and self._may_be_heard

    @property
    def login_keyword(self) -> str:
        return f"AUTH {' '.join(MECHANISMS)}"

    async def smtp_AUTH(self, _: str | None) -> None:
        if reply := self._out_of_place():
            await self.push(reply)
            return
        try:
            credentials = await self._ask()
        except AuthError as error:
            await self.push(error.reply)
            return
        await self._judge(credentials)

    def _out_of_place(self) -> str | None:
        """Why there can be no AUTH now: the reply."""
        assert self.session is not None
        if self.shared.users is None:
            return "502 5.5.1 AUTH is not offered"
        if not self._may_be_heard:
            return "538 5.7.11 AUTH needs TLS; STARTTLS comes first"
        if not self.greeted or not self.session.extended_smtp:
            return "503 5.5.1 EHLO comes first"
        if self.busy:
            return "503 5.5.1 There is a mail under way; AUTH comes before it"
        return "503 5.5.1 You are logged in" if self.user is not None else None

    @property
    def _may_be_heard(self) -> bool:
        """Whether a password may come: in plain text everybody on the way reads it."""
        return self.tls is not None or self.shared.auth_without_tls

    async def _ask(self) -> Credentials:
        """Until user and password are known. Raises AuthError."""
        if len(self.line) > MAX_LINE - len(b"\r\n"):
            raise AuthError(TOO_LONG)
        exchange = Exchange(self.argument)
        while exchange.credentials is None:
            await self.push(exchange.challenge)
            exchange.respond(await self._reader.response())
        return exchange.credentials

    async def _judge(self, credentials: Credentials) -> None:
        assert self.shared.users is not None
        now = time.monotonic()
        delay = self.shared.guard.delay(self.client, now)
        if delay is None:
            others = self.shared.guesses.others("", now)
            if others is not None:
                events.login_refused(self.client, others)
            await self.part(TOO_OFTEN)
        await asyncio.sleep(delay)
        check = self.shared.users.check
        if await self.loop.run_in_executor(_checking, check, *credentials):
            self._succeed(credentials.user)
            await self.push(LOGGED_IN)
        else:
            await self._fail_login(credentials.user)

    def _succeed(self, user: bytes) -> None:
        self.shared.guard.succeeded(self.client)
        self.user = events.name(user)
        self.about = f"{self.about} user={self.user}".lstrip()
        self.admit()

    async def _fail_login(self, user: bytes) -> None:
        in_a_row = self.shared.guard.failed(self.client, time.monotonic())
        events.login_failed(self.client, user, in_a_row)
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            await self.part(ENOUGH)
        await self.push(FAILED)

    def _begin_anew(self, transport: asyncio.Transport) -> None:
        self.user = None
        super()._begin_anew(transport)
