"""The command line of benno-milter2smtp."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benno_common import VERSION, logtarget
from benno_common.commandline import Parser
from benno_milter2smtp.route import DEFAULT_PORT, Host, parse_host
from benno_milter2smtp.security import MODES, Security, wrong

_DESCRIPTION = """\
Sends the mail in a spool to the archive host, oldest first, with its true envelope, and removes each
when the archive host has taken it."""

_EPILOG = """\
HOST is a name or an address, an IPv6 address in brackets. Several hosts are tried in turn. See
benno-milter2smtp(8)."""


@dataclass(frozen=True)
class Settings:
    """The effective settings. timeout in seconds."""

    spool: str
    hosts: list[Host]
    connections: int
    timeout: float
    keep_sent: str | None
    dry_run: bool
    quiet: bool
    normalize: bool
    security: Security
    log_target: logtarget.Target


def parse(arguments: Sequence[str]) -> Settings:
    """Raises SystemExit for --help, --version and wrong usage, Exit for values that cannot be used."""
    given = _parser().parse_args(arguments)
    port = _port(given.port)
    return Settings(
        spool=given.spool,
        hosts=list(dict.fromkeys(parse_host(host, port) for host in given.hosts)),
        connections=given.connections,
        timeout=given.timeout,
        keep_sent=given.keep_sent,
        dry_run=given.dry_run,
        quiet=given.quiet,
        normalize=given.normalize,
        security=Security(
            mode=given.tls,
            implicit=given.tls_implicit,
            ca_file=given.ca_file,
            cert_file=given.cert_file,
            key_file=given.key_file,
            auth_file=given.auth_file,
        ),
        log_target="stderr" if given.dry_run and given.log == "auto" else given.log,
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser("benno-milter2smtp", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("--spool", required=True, type=_path, metavar="DIR", help="where the mail files lie")
    add("--connections", type=_connections, default=4, metavar="N", help="at most so many at once (4)")
    add("--timeout", type=_seconds, default=300, metavar="S", help="to wait for each reply (300)")
    add(
        "--keep-sent",
        type=_path,
        metavar="DIR",
        help="move mail there that was sent, instead of removing it",
    )
    add("--dry-run", action="store_true", help="list what would be sent; connect to nobody")
    add("--quiet", action="store_true", help="log warnings and errors only")
    add("--normalize", action="store_true", help="alter line ends that the archive host cannot take")
    _add_security(add)
    add("--log", choices=logtarget.TARGETS, default="auto", help="where to log to")
    add("--version", action="version", version=f"benno-milter2smtp {VERSION}")
    add("hosts", nargs="+", metavar="HOST[:PORT]", help="the archive host, and others if it fails")
    return parser


def _add_security(add: Callable[..., object]) -> None:
    """Values are looked at later: most come from the file of settings, which has its own exit code."""
    add("--port", default=str(DEFAULT_PORT), metavar="N", help="of hosts without one (2500)")
    add("--tls", default="off", metavar="MODE", help=f"{', '.join(MODES)} (off)")
    add("--tls-implicit", action="store_true", help="TLS from the first octet on, without STARTTLS")
    add("--ca-file", type=_file, metavar="FILE", help="whom to believe, instead of the system's CAs")
    add("--cert-file", type=_file, metavar="FILE", help="the certificate to show")
    add("--key-file", type=_file, metavar="FILE", help="its key, if that is another file")
    add("--auth-file", type=_file, metavar="FILE", help="user and password, for its owner's eyes only")


def _path(text: str) -> str:
    """An empty one would be the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("the directory has no name")
    return text


def _file(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the file has no name")
    return text


def _port(text: str) -> int:
    """Raises Exit."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) < 1 << 16):
        raise wrong("--port", f"{text!r} is no number from 1 to 65535")
    return int(text)


def _connections(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 100):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100")
    return int(text)


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 86400):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 1 to 86400")
    return float(text)
