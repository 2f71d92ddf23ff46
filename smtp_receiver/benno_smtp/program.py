"""benno-smtp: from the command line and the configuration file to a running daemon."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benno_common import VERSION, commandline, config, daemon, descriptors, log, logtarget, service
from benno_common.identity import Mark
from benno_common.listener import InetAddress
from benno_common.maildrop import MailDrop
from benno_smtp import events, older, properties
from benno_smtp.credentials import CredentialsError, Users
from benno_smtp.keystore import TlsError
from benno_smtp.limits import Limits
from benno_smtp.properties import Converted
from benno_smtp.session import Session
from benno_smtp.settings import Settings
from benno_smtp.shared import Shared
from benno_smtp.tls import Tls

CONFIG = "/etc/benno-smtp/benno-smtp.conf"

_DESCRIPTION = """\
Takes mail by SMTP and stores it, each with its envelope, in the archiver's import directory. A mail is
answered with 250 only when it is safe on disk."""


class _Read(NamedTuple):
    """A configuration file, and the files that it names. converted: as it should be written."""

    settings: Settings
    converted: Converted
    tls: Tls | None
    users: Users | None


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
        read = _read(given.config, given.directory)
    except config.ConfigError as error:
        print(f"benno-smtp: {error}", file=sys.stderr)  # noqa: T201 - who checks looks here
        return os.EX_CONFIG
    if read.tls is not None and read.tls.doubt:
        doubt = f"cert_file: clients may refuse it: {read.tls.doubt}"
        print(f"benno-smtp: {doubt}", file=sys.stderr)  # noqa: T201
    for path, what in _readable_by_all(given.config, read.settings):
        print(f"benno-smtp: {events.readable(path, what)}", file=sys.stderr)  # noqa: T201
    sys.stdout.buffer.write(read.converted.text.encode())  # TOML is UTF-8, whatever the locale
    return os.EX_OK


def _start(given: argparse.Namespace) -> None:
    read = _load(given)
    if not read.settings.envelope_header:
        log.envelope_lost(read.settings.import_directory)
    asyncio.run(daemon.run(_service(read)))


def _load(given: argparse.Namespace) -> _Read:
    """The effective settings. Raises Exit."""
    try:
        read = _read(given.config, given.directory)
    except config.ConfigError as error:
        raise service.Exit(os.EX_CONFIG, str(error)) from error
    _warn_of_file(given.config, read)
    changes = {"port": given.port, "import_directory": given.directory}
    try:
        changed = {key: value for key, value in changes.items() if value is not None}
        return read._replace(settings=dataclasses.replace(read.settings, **changed))
    except ValueError as error:
        raise service.Exit(os.EX_USAGE, str(error)) from error


def _warn_of_file(path: str, read: _Read) -> None:
    """What somebody should change soon."""
    if read.converted.lines:
        log.config_outdated(path, read.converted.lines)
    if not read.converted.utf8:
        log.config_not_utf8(path)
    if older.OPEN in read.converted.lines:
        log.open_to_all(path)
    if older.HEARD in read.converted.lines:
        events.heard_by_all(path)
    for readable, what in _readable_by_all(path, read.settings):
        events.readable_by_all(readable, what)


def _readable_by_all(config_file: str, settings: Settings) -> Iterator[tuple[str, str]]:
    """Files with secrets that everybody on this host can read, and what stands there.

    No reason not to start: while the archive stands still, mail does too.
    """
    secrets = {config_file: " and ".join(settings.secrets()), settings.auth_file or "": "auth_file"}
    for path, what in secrets.items():
        if path and what and os.stat(path).st_mode & stat.S_IROTH:
            yield path, what


def _read(path: str, directory: str | None) -> _Read:
    """directory: stands for an `import_directory` that the file does not have. Raises ConfigError."""
    converted = properties.read(path, Settings)
    missing: dict[str, object] = {"import_directory": directory} if directory else {}
    settings, completed = older.parse(converted, path, missing)
    try:
        return _Read(settings, completed, settings.make_tls(), settings.make_users())
    except (TlsError, CredentialsError) as error:
        raise config.located(error, converted.text, path) from error


def _renew(tls: Tls | None, users: Users | None) -> None:
    """SIGHUP: certificates are often new, and sessions go on."""
    if tls is None and users is None:
        log.lifecycle("nothing to read again")
    try:
        if tls is not None:
            tls.renew()
            log.lifecycle("certificate read again")
            _warn(tls)
    except TlsError as error:
        events.kept("the certificate", str(error))
    try:
        if users is not None:
            users.renew()
            log.lifecycle("users read again")
    except CredentialsError as error:
        events.kept("what is known of users", str(error))


def _warn(tls: Tls) -> None:
    if tls.doubt:
        events.tls_doubted(tls.doubt)


def _make_limits(settings: Settings) -> Limits:
    """As many places as there are descriptors for."""
    limits = settings.make_limits()
    places = descriptors.places()
    if 0 < limits.connections <= places:
        return limits
    if limits.connections:
        events.fewer_places(limits.connections, places, descriptors.limit())
    return dataclasses.replace(limits, connections=places)


def _service(read: _Read) -> daemon.Service:
    settings, tls = read.settings, read.tls

    def sessions(drop: MailDrop) -> Shared:
        shared = Shared(
            drop,
            hostname=settings.effective_hostname(),
            allowed=settings.make_allowed(),
            gateways=settings.make_gateways(),
            max_message_size=settings.max_message_size,
            tls=tls,
            users=read.users,
            auth_without_tls=settings.auth_without_tls,
            limits=_make_limits(settings),
            shared_by_many=settings.make_shared_by_many(),
            mark=Mark(f"{socket.gethostname()} {settings.listen} {settings.port}"),
        )
        shared.identity()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _renew, tls, read.users)
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
