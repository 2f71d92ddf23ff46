"""benno-milter2smtp: from the command line to the summary.

Exit codes are those of sysexits.h: 0 all sent, or another run is at work; 65 some mail was held, and
all else was sent; 75 some mail was kept for the next run; 64 usage, 70 a fault of this program, 78
configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator

from benno_common import VERSION, commandline, log, service
from benno_common.durable import Directory, DirectoryUnusable
from benno_common.identity import is_marked
from benno_common.spool import Spool
from benno_milter2smtp import listing, options
from benno_milter2smtp.credentials import read_credentials
from benno_milter2smtp.greeting import Access
from benno_milter2smtp.lock import locked
from benno_milter2smtp.queue_run import QueueRun
from benno_milter2smtp.removal import Removal
from benno_milter2smtp.route import Route
from benno_milter2smtp.tls import Tls


def main() -> int:
    """The command. Returns the exit code."""
    try:
        settings = options.parse(sys.argv[1:])
    except service.Exit as error:
        print(f"benno-milter2smtp: {error.reason}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return error.code
    act = functools.partial(_empty, settings)
    return commandline.run("benno-milter2smtp", settings.log_target, act, quiet=settings.quiet)


def _empty(settings: options.Settings) -> int:
    with _opened("spool", settings.spool, changing=not settings.dry_run) as spool:
        if settings.dry_run:
            return _list(Spool(spool))
        return _run_alone(settings, spool)


def _access(settings: options.Settings) -> Access:
    """Raises Exit where certificates, key or password cannot be used."""
    security = settings.security
    return Access(
        settings.timeout,
        Tls(security) if security.mode != "off" else None,
        read_credentials(security.auth_file) if security.auth_file else None,
    )


def _list(spool: Spool) -> int:
    try:
        return listing.write(spool, sys.stdout)
    except BrokenPipeError:  # whoever reads it has seen enough; the interpreter must not try again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_OK


def _run_alone(settings: options.Settings, directory: Directory) -> int:
    access = _access(settings)
    with contextlib.ExitStack() as stack:
        try:
            alone = stack.enter_context(locked(directory.place.fd))
        except OSError as error:
            reason = f"spool: {settings.spool} cannot be locked: {error.strerror}"
            raise service.Exit(os.EX_CONFIG, reason) from error
        if alone:
            return asyncio.run(_run(settings, access, directory, _taker(settings, directory, stack)))
    if os.isatty(2):
        log.lifecycle("another run is at work", spool=settings.spool)
    return os.EX_OK


def _taker(
    settings: options.Settings, directory: Directory, stack: contextlib.ExitStack
) -> Callable[[list[str]], None]:
    """What becomes of mails that were sent. Raises Exit if they cannot be moved."""
    if settings.keep_sent is None:
        return directory.remove
    kept = stack.enter_context(_opened("--keep-sent", settings.keep_sent))
    try:
        directory.check_move(kept)
    except OSError as error:
        raise service.Exit(os.EX_CONFIG, f"--keep-sent: {error.strerror}") from error
    return functools.partial(directory.move, other=kept)


async def _run(
    settings: options.Settings,
    access: Access,
    directory: Directory,
    take_out: Callable[[list[str]], None],
) -> int:
    stop = service.stop_signal()
    begin = time.monotonic()

    def failed(error: Exception) -> None:
        reason = f"spool: mail that was sent stays there and will be sent again: {_reason(error)}"
        run.fail(service.Exit(os.EX_TEMPFAIL, reason))

    spool = Spool(directory)
    run = QueueRun(
        spool,
        Route(settings.hosts, access, functools.partial(is_marked, directory.place.fd)),
        Removal(spool, take_out, failed),
        connections=settings.connections,
        normalize=settings.normalize,
    )
    log.lifecycle("started", version=VERSION, **_shown(settings))
    stopping = asyncio.get_running_loop().create_task(_stop(run, stop))
    try:
        await run.run()
    finally:
        stopping.cancel()
        tally = run.tally
        seconds = time.monotonic() - begin
        log.run_ended(
            sent=tally.sent, kept=tally.kept, held=tally.held, size=tally.size, seconds=seconds
        )
    if tally.kept or stop.is_set():
        return os.EX_TEMPFAIL
    return os.EX_DATAERR if tally.held else os.EX_OK


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or repr(error)


async def _stop(run: QueueRun, stop: asyncio.Event) -> None:
    await stop.wait()
    log.lifecycle("stopping")
    await run.stop()


@contextlib.contextmanager
def _opened(what: str, path: str, *, changing: bool = True) -> Iterator[Directory]:
    """A directory, open to take files out or in. Raises Exit."""
    directory = Directory(path)
    try:
        directory.open_to_empty(changing=changing)
    except DirectoryUnusable as error:
        user = f"as user {os.geteuid()}, group {os.getegid()}"
        raise service.Exit(os.EX_CONFIG, f"{what}: {error.strerror} ({user})") from error
    try:
        yield directory
    finally:
        directory.close()


def _shown(settings: options.Settings) -> dict[str, object]:
    """The effective settings, for the log."""
    return {
        "spool": settings.spool,
        "hosts": ",".join(map(str, settings.hosts)),
        "connections": settings.connections,
        "timeout": f"{settings.timeout:g}",
        **({"keep_sent": settings.keep_sent} if settings.keep_sent else {}),
        **({"normalize": "yes"} if settings.normalize else {}),
        **({"tls": settings.security.mode} if settings.security.mode != "off" else {}),
        **({"auth_file": settings.security.auth_file} if settings.security.auth_file else {}),
    }
