"""benno-milter: from the command line to the last mail."""

from __future__ import annotations

import asyncio
import errno
import functools
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from benno_common import VERSION, listener, log, logtarget, service
from benno_common.durable import Directory, DirectoryUnusable
from benno_common.maildrop import MailDrop
from benno_milter import options
from benno_milter.connection import Connection
from benno_milter.shared import Shared

# systemd kills after 90 s (TimeoutStopSec); an MTA that loses us defers its mail.
DRAIN_SECONDS = 30.0
TICK_SECONDS = 1.0


def main() -> int:
    """The command. Returns the exit code."""
    try:
        settings = options.parse(sys.argv[1:])
        target = logtarget.setup("benno-milter", settings.log_target)
    except service.Exit as error:
        print(f"benno-milter: {error.reason}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return error.code
    except OSError as error:
        print(f"benno-milter: --log: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return os.EX_CONFIG
    try:
        if settings.check:
            _check(settings)
        else:
            asyncio.run(_run(settings))
    except service.Exit as error:
        log.fatal(error.reason)
        if target == "syslog":  # whoever started it looks here
            print(f"benno-milter: {error.reason}", file=sys.stderr)  # noqa: T201
        return error.code
    except Exception as error:  # noqa: BLE001 - the log is where an administrator looks
        log.unexpected(None, error)
        return os.EX_SOFTWARE
    return os.EX_OK


def _check(settings: options.Settings) -> None:
    directory = Directory(settings.spool)
    _open(directory.open)
    if shortage := directory.shortage(settings.min_free):
        log.short_of_space(settings.spool, shortage)
    directory.close()
    listener.check_address(settings.address)
    service.check_pidfile(settings.pidfile)
    log.lifecycle("checked", **_shown(settings))


async def _run(settings: options.Settings) -> None:
    service.raise_descriptor_limit()
    stop = service.stop_signal()
    failures: list[BaseException] = []

    def died(error: BaseException) -> None:
        failures.append(error)
        stop.set()

    drop = MailDrop(
        settings.spool, min_free=settings.min_free, label_names=settings.label_names, died=died
    )
    _open(drop.open)
    if refusal := drop.refusal():
        log.short_of_space(settings.spool, refusal[1])
    shared = Shared(drop, settings.gateway, settings.allowed)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unexpected)
    loop.add_signal_handler(signal.SIGUSR1, shared.statistics.log)
    ticking = loop.create_task(_tick(shared))
    with (
        listener.listening(settings.address, settings.socket_mode) as sockets,
        service.pidfile(settings.pidfile),
    ):
        await _serve(shared, sockets, stop, settings)
        if failures:
            log.fatal(f"the committer ended, no mail can be kept: {failures[0]!r}")
            os._exit(os.EX_SOFTWARE)  # at once: every connection waits for it
        await _finish(shared)
    ticking.cancel()


async def _serve(
    shared: Shared, sockets: list[socket.socket], stop: asyncio.Event, settings: options.Settings
) -> None:
    """Accept connections until `stop`."""
    loop = asyncio.get_running_loop()
    factory = functools.partial(Connection, shared)
    servers = [
        await loop.create_server(factory, sock=sock, backlog=listener.BACKLOG) for sock in sockets
    ]
    gc.freeze()  # what was imported stays; collections need not look at it again
    log.lifecycle("started", version=VERSION, **_shown(settings), **_ports(sockets))
    service.notify("READY=1")
    await stop.wait()
    service.notify("STOPPING=1")
    for server in servers:
        server.close()


async def _finish(shared: Shared) -> None:
    """Let the mails under way end, within a limit."""
    deadline = time.monotonic() + DRAIN_SECONDS
    log.lifecycle("stopping", connections=len(shared.connections))
    shared.draining = True
    for connection in list(shared.connections):
        connection.drain()
    if shared.connections:
        await _within(deadline, shared.empty.wait())
    if shared.connections:
        log.cut_off(len(shared.connections), DRAIN_SECONDS)
    for connection in list(shared.connections):
        connection.close()
    if not await _within(deadline, shared.drop.close()):
        log.fatal("the disk did not answer in time; mails under way were not answered")
        os._exit(os.EX_TEMPFAIL)  # threads that wait for the disk cannot be waited for
    shared.statistics.log()
    log.lifecycle("stopped")


async def _within(deadline: float, work: Coroutine[Any, Any, object]) -> bool:
    """Whether `work` ended before the deadline; it gets a second at least."""
    try:
        await asyncio.wait_for(work, max(1.0, deadline - time.monotonic()))
    except asyncio.TimeoutError:
        return False
    return True


async def _tick(shared: Shared) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        now = time.monotonic()
        for connection in list(shared.connections):
            connection.tick(now)
        shared.drop.refusal()  # where there is a reason, it is looked at again


def _open(opening: Callable[[], None]) -> None:
    """Open the spool, or say why not."""
    try:
        opening()
    except DirectoryUnusable as error:
        forbidden = error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}
        code = os.EX_NOPERM if forbidden else os.EX_CONFIG
        user = f"as user {os.geteuid()}, group {os.getegid()}"
        raise service.Exit(code, f"spool: {error.strerror} ({user})") from error


def _unexpected(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.unexpected(None, context.get("exception") or RuntimeError(context["message"]))


def _shown(settings: options.Settings) -> dict[str, object]:
    """The effective settings, for the log."""
    shown: dict[str, object] = {"socket": settings.address, "spool": settings.spool}
    if settings.gateway:
        shown["gateway"] = settings.gateway.decode()
    if isinstance(settings.address, listener.InetAddress):
        shown["allow"] = settings.allowed
    else:
        shown["socket_mode"] = f"{settings.socket_mode:03o}"
    return {**shown, "min_free": settings.min_free, "label_names": settings.label_names}


def _ports(sockets: list[socket.socket]) -> dict[str, object]:
    """The port, which the system chose where 0 asked it to."""
    return {"port": sockets[0].getsockname()[1]} if sockets[0].family != socket.AF_UNIX else {}
