"""A daemon that fills a MailDrop, from its start to its last mail; what milter and receiver share.

It accepts connections until SIGTERM, then lets the mails under way end within DRAIN_SECONDS. Where the
committer thread has died it ends at once: every connection would wait for it in vain.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from benno_common import VERSION, descriptors, listener, log, passed, service
from benno_common.durable import DirectoryUnusable
from benno_common.envelope import Envelope
from benno_common.maildrop import MailDrop
from benno_common.networks import origin
from benno_common.seldom import Seldom
from benno_common.statistics import Statistics

# systemd kills after 90 s (TimeoutStopSec); a client that loses us comes again.
DRAIN_SECONDS = 30.0
TICK_SECONDS = 1.0


class Session(Protocol):
    """One connection, as its daemon sees it."""

    def tick(self, now: float) -> None:
        """Called once in a while with the monotonic clock's time."""

    def drain(self) -> None:
        """End as soon as no mail is under way."""

    def close(self) -> None:
        """End now: a mail whose end has come is still kept, but nobody hears of it."""


@dataclass
class Sessions:
    """The connections of a daemon, and what they share."""

    drop: MailDrop
    statistics: Statistics = field(default_factory=Statistics)
    connections: set[Session] = field(default_factory=set)
    draining: bool = False  # the daemon ends
    empty: asyncio.Event = field(default_factory=asyncio.Event)  # there are no connections
    strangers: Seldom = field(default_factory=Seldom)
    crowds: Seldom = field(default_factory=Seldom)

    def join(self, session: Session) -> None:
        self.connections.add(session)
        self.empty.clear()

    def leave(self, session: Session) -> None:
        self.connections.discard(session)
        if not self.connections:
            self.empty.set()

    def stranger_refused(self, peer: str, reason: str) -> None:
        """Log that a client may not connect; anybody can cause it, and as often as he likes."""
        others = self.strangers.others(origin(peer), time.monotonic())
        if others is not None:
            log.peer_refused(peer, reason, others)

    def crowd_refused(self, peer: str, limit: str, reason: str) -> None:
        """Log that there are too many connections for one more. limit: which one is reached."""
        others = self.crowds.others(limit, time.monotonic())
        if others is not None:
            log.peer_refused(peer, reason, others)

    def stored(
        self,
        queue_id: str | None,
        envelope: Envelope,
        stored: log.Stored,
        seconds: float,
        *,
        answered: bool,
        client: str | None = None,
        about: str = "",
    ) -> None:
        """Count a mail that is durable, log it, and tell whoever waits for it."""
        self.statistics.stored(stored.size, seconds)
        log.mail_stored(
            queue_id, envelope, stored, seconds, answered=answered, client=client, about=about
        )
        self.announce()

    def announce(self) -> None:
        """There is a new mail. Nobody waits, unless a daemon knows of one."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a daemon needs to run.

    directory: where mail is written. role: what the settings call it. sessions: made of its MailDrop.
    protocol: makes the protocol of one connection. shown: the effective settings, for the log.
    """

    directory: str
    role: str
    min_free: int
    label_names: bool = False
    with_envelope: bool = True
    addresses: Sequence[listener.UnixAddress | listener.InetAddress]
    socket_mode: int = 0o660
    pidfile: str | None = None
    sessions: Callable[[MailDrop], Sessions]
    protocol: Callable[[Any], asyncio.BaseProtocol]
    shown: dict[str, object]


async def run(settings: Service) -> None:
    """Serve until a signal. Raises Exit where it cannot start."""
    service.raise_descriptor_limit()
    given = passed.take(settings.addresses)
    stop = service.stop_signal()
    failures: list[BaseException] = []

    def died(error: BaseException) -> None:
        failures.append(error)
        stop.set()

    drop = MailDrop(
        settings.directory,
        min_free=settings.min_free,
        label_names=settings.label_names,
        with_envelope=settings.with_envelope,
        died=died,
    )
    open_directory(settings.role, drop.open)
    if refusal := drop.refusal():
        log.short_of_space(settings.directory, refusal[1])
    sessions = settings.sessions(drop)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(descriptors.complaints())
    loop.add_signal_handler(signal.SIGUSR1, sessions.statistics.log)
    ticking = loop.create_task(_tick(sessions))
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = [stack.enter_context(sock) for sock in given]
        sockets += [
            sock
            for address in passed.missing(settings.addresses, given)
            for sock in stack.enter_context(listener.listening(address, settings.socket_mode))
        ]
        stack.enter_context(service.pidfile(settings.pidfile))
        await _serve(sessions, sockets, stop, settings)
        if failures:
            log.fatal(f"the committer ended, no mail can be kept: {failures[0]!r}")
            os._exit(os.EX_SOFTWARE)  # at once: every connection waits for it
        await _finish(sessions)
    ticking.cancel()


async def _serve(
    sessions: Sessions, sockets: list[socket.socket], stop: asyncio.Event, settings: Service
) -> None:
    """Accept connections until `stop`."""
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(
            lambda: settings.protocol(sessions), sock=sock, backlog=descriptors.ACCEPTS
        )
        for sock in sockets
    ]
    for sock in sockets:
        sock.listen(listener.BACKLOG)  # asyncio has made the queue as short
    gc.freeze()  # what was imported stays; collections need not look at it again
    log.lifecycle("started", version=VERSION, **_shown(settings, sockets))
    service.notify("READY=1")
    await stop.wait()
    service.notify("STOPPING=1")
    for server in servers:
        server.close()


async def _finish(sessions: Sessions) -> None:
    """Let the mails under way end, within a limit."""
    deadline = time.monotonic() + DRAIN_SECONDS
    log.lifecycle("stopping", connections=len(sessions.connections))
    sessions.draining = True
    for session in list(sessions.connections):
        session.drain()
    if sessions.connections:
        await _within(deadline, sessions.empty.wait())
    if sessions.connections:
        log.cut_off(len(sessions.connections), DRAIN_SECONDS)
    for session in list(sessions.connections):
        session.close()
    if not await _within(deadline, sessions.drop.close()):
        log.fatal("the disk did not answer in time; mails under way were not answered")
        os._exit(os.EX_TEMPFAIL)  # threads that wait for the disk cannot be waited for
    sessions.statistics.log()
    log.lifecycle("stopped")


async def _within(deadline: float, work: Coroutine[Any, Any, object]) -> bool:
    """Whether `work` ended before the deadline; it gets a second at least."""
    try:
        await asyncio.wait_for(work, max(1.0, deadline - time.monotonic()))
    except asyncio.TimeoutError:
        return False
    return True


async def _tick(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        now = time.monotonic()
        for session in list(sessions.connections):
            try:
                session.tick(now)
            except Exception as error:  # noqa: BLE001 - the others' clock goes on; this one has none
                log.unexpected(None, error)
                session.close()
        sessions.drop.recheck()  # no mail is judged by an old look at the disk


def open_directory(role: str, opening: Callable[[], None]) -> None:
    """Open the directory, or say why not. Raises Exit."""
    try:
        opening()
    except DirectoryUnusable as error:
        forbidden = error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}
        code = os.EX_NOPERM if forbidden else os.EX_CONFIG
        user = f"as user {os.geteuid()}, group {os.getegid()}"
        raise service.Exit(code, f"{role}: {error.strerror} ({user})") from error


def _shown(settings: Service, sockets: list[socket.socket]) -> dict[str, object]:
    """The settings that hold, with the port, which the system chose where 0 asked it to."""
    shown = dict(settings.shown)
    if sockets[0].family != socket.AF_UNIX:
        shown["port"] = sockets[0].getsockname()[1]
    if count := sum(isinstance(sock, passed.PassedSocket) for sock in sockets):
        shown["passed"] = count
    if count == len(sockets):
        shown.pop("socket_mode", None)  # theirs is as it was
    return shown
