"""benno-milter: from the command line to a running daemon."""

from __future__ import annotations

import asyncio
import functools
import sys

from benno_common import commandline, daemon, descriptors, listener, log, passed, service
from benno_common.durable import Directory
from benno_common.maildrop import MailDrop
from benno_milter import options, postfixcheck
from benno_milter.connection import Connection
from benno_milter.shared import Shared


def main() -> int:
    """The command. Returns the exit code."""
    try:
        if given := options.parse_postfix_check(sys.argv[1:]):
            return postfixcheck.check(given.address, given.directory)
        settings = options.parse(sys.argv[1:])
    except service.Exit as error:
        print(f"benno-milter: {error.reason}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return error.code
    act = _check if settings.check else _run
    return commandline.run("benno-milter", settings.log_target, functools.partial(act, settings))


def _check(settings: options.Settings) -> None:
    directory = Directory(settings.spool)
    daemon.open_directory("spool", directory.open)
    if shortage := directory.reserve(settings.min_free)[0]:
        log.short_of_space(settings.spool, shortage)
    directory.close()
    for address in passed.missing([settings.address], passed.take([settings.address])):
        listener.check_address(address)
    service.check_pidfile(settings.pidfile)
    log.lifecycle("checked", **_shown(settings))


def _run(settings: options.Settings) -> None:
    def shared(drop: MailDrop) -> Shared:
        return Shared(
            drop,
            gateway=settings.gateway,
            allowed=settings.allowed,
            places=descriptors.places(),
            pending=settings.pending,
        )

    asyncio.run(
        daemon.run(
            daemon.Service(
                directory=settings.spool,
                role="spool",
                min_free=settings.min_free,
                label_names=settings.label_names,
                addresses=[settings.address],
                socket_mode=settings.socket_mode,
                pidfile=settings.pidfile,
                sessions=shared,
                protocol=Connection,
                shown=_shown(settings),
            )
        )
    )


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
