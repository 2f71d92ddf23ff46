"""benno-smtp: from the command line and the configuration file to a running daemon."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence

from benno_common import VERSION, commandline, config, daemon, log, logtarget, service
from benno_common.identity import Mark
from benno_common.listener import InetAddress
from benno_common.maildrop import MailDrop
from benno_smtp import properties
from benno_smtp.keystore import TlsError
from benno_smtp.properties import Converted
from benno_smtp.session import Session
from benno_smtp.settings import EVERYWHERE, OLDER, Settings
from benno_smtp.shared import Shared
from benno_smtp.tls import Tls

CONFIG = "/etc/benno-smtp/benno-smtp.conf"

_OPEN = f"allowed_networks = {json.dumps(EVERYWHERE)}"

_DESCRIPTION = """\
Takes mail by SMTP and stores it, each with its envelope, in the archiver's import directory. A mail is
answered with 250 only when it is safe on disk."""


def main() -> int:
    """The command. Returns the exit code."""
    given = _parser().parse_args()
    if given.check_config:
        return _check(given)
    return commandline.run("benno-smtp", given.log, functools.partial(_start, given))


def _parser() -> argparse.ArgumentParser:
    parser = commandline.Parser("benno-smtp", description=_DESCRIPTION)
    add = parser.add_argument
    add("-c", "--config", metavar="FILE", default=CONFIG, help=f"configuration file ({CONFIG})")
    add("-p", "--port", type=int, metavar="PORT", help="listen there, instead of `port`")
    add(
        "-d",
        "--directory",
        type=_path,
        metavar="DIRECTORY",
        help="store there, instead of `import_directory`",
    )
    add("--check-config", action="store_true", help="check the file and print it as TOML, then exit")
    add("--log", choices=logtarget.TARGETS, default="auto", help="where to log to")
    add("--version", action="version", version=f"benno-smtp {VERSION}")
    return parser


def _path(text: str) -> str:
    return os.path.abspath(text) if text else text


def _check(given: argparse.Namespace) -> int:
    """Print the file as it should be written."""
    try:
        _, converted, tls = _read(given.config, given.directory)
    except config.ConfigError as error:
        print(f"benno-smtp: {error}", file=sys.stderr)  # noqa: T201 - who checks looks here
        return os.EX_CONFIG
    if tls is not None and tls.doubt:
        print(f"benno-smtp: cert_file: clients may refuse it: {tls.doubt}", file=sys.stderr)  # noqa: T201
    sys.stdout.buffer.write(converted.text.encode())  # TOML is UTF-8, whatever the locale
    return os.EX_OK


def _start(given: argparse.Namespace) -> None:
    settings, tls = _load(given)
    if not settings.envelope_header:
        log.envelope_lost(settings.import_directory)
    asyncio.run(daemon.run(_service(settings, tls)))


def _load(given: argparse.Namespace) -> tuple[Settings, Tls | None]:
    """The effective settings. Raises Exit."""
    try:
        settings, converted, tls = _read(given.config, given.directory)
    except config.ConfigError as error:
        raise service.Exit(os.EX_CONFIG, str(error)) from error
    if converted.lines:
        log.config_outdated(given.config, converted.lines)
    if not converted.utf8:
        log.config_not_utf8(given.config)
    if _OPEN in converted.lines:
        log.open_to_all(given.config)
    changes = {"port": given.port, "import_directory": given.directory}
    try:
        changed = {key: value for key, value in changes.items() if value is not None}
        return dataclasses.replace(settings, **changed), tls
    except ValueError as error:
        raise service.Exit(os.EX_USAGE, str(error)) from error


def _read(path: str, directory: str | None) -> tuple[Settings, Converted, Tls | None]:
    """The settings, the file as it should be written, and its certificate. Raises ConfigError.

    directory: stands for an `import_directory` that the file does not have. The older program took
    connections from everywhere, and its file goes on saying so.
    """
    converted = properties.read(path, Settings)
    missing = {"import_directory": directory} if directory else {}
    settings = config.parse(converted.text, path, Settings, missing)
    try:
        tls = settings.make_tls()
    except TlsError as error:
        raise config.located(error, converted.text, path) from error
    if settings.allowed_networks is not None or not _is_older(converted):
        return settings, converted, tls
    opened = dataclasses.replace(settings, allowed_networks=EVERYWHERE)
    # First of all: behind a table it would be a part of it.
    text, lines = f"{_OPEN}\n{converted.text}", (_OPEN, *converted.lines)
    return opened, dataclasses.replace(converted, text=text, lines=lines), tls


def _is_older(converted: Converted) -> bool:
    """Whether a file is the older program's, and not one of today's in which a quote was forgotten.

    Today's says `allowed_networks`, as it was installed in a comment.
    """
    without_quotes = any(line.startswith("import_directory = ") for line in converted.lines)
    return (
        without_quotes
        and config.keys(converted.text) <= OLDER
        and "allowed_networks" not in converted.text
    )


def _renew(tls: Tls | None) -> None:
    """SIGHUP: certificates are often new, and sessions go on."""
    if tls is None:
        log.lifecycle("nothing to read again")
        return
    try:
        tls.renew()
    except TlsError as error:
        log.tls_kept(str(error))
        return
    log.lifecycle("certificate read again")
    _warn(tls)


def _warn(tls: Tls) -> None:
    if tls.doubt:
        log.tls_doubted(tls.doubt)


def _service(settings: Settings, tls: Tls | None) -> daemon.Service:
    def sessions(drop: MailDrop) -> Shared:
        shared = Shared(
            drop,
            hostname=settings.effective_hostname(),
            allowed=settings.make_allowed(),
            gateways=settings.make_gateways(),
            max_message_size=settings.max_message_size,
            tls=tls,
            mark=Mark(f"{socket.gethostname()} {settings.listen} {settings.port}"),
        )
        shared.identity()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _renew, tls)
        if tls is not None:
            _warn(tls)
        return shared

    return daemon.Service(
        directory=settings.import_directory,
        role="import_directory",
        min_free=settings.min_free,
        with_envelope=settings.envelope_header,
        addresses=_addresses(settings.listen, settings.port),
        sessions=sessions,
        protocol=Session,
        shown=settings.shown(),
    )


def _addresses(hosts: Sequence[str], port: int) -> list[InetAddress]:
    if not hosts:
        return [InetAddress(None, port, socket.AF_UNSPEC)]
    return [
        InetAddress(host.strip("[]"), port, socket.AF_INET6 if ":" in host else socket.AF_INET)
        for host in hosts
    ]
