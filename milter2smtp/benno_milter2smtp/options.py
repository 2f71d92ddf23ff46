"""The command line of benno-milter2smtp."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from benno_common import VERSION, logtarget
from benno_common.commandline import Parser
from benno_milter2smtp.route import Host, parse_host

_DESCRIPTION = """\
Sends the mail in a spool to the archive host, oldest first, with its true envelope, and removes each
when the archive host has taken it."""

_EPILOG = """\
HOST is a name or an address, an IPv6 address in brackets; the port is 2500 if none is given. Several
hosts are tried in turn. See benno-milter2smtp(8)."""


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
    log_target: logtarget.Target


def parse(arguments: Sequence[str]) -> Settings:
    """Raises SystemExit for --help, --version and wrong usage, Exit for values that cannot be used."""
    given = _parser().parse_args(arguments)
    return Settings(
        spool=given.spool,
        hosts=list(dict.fromkeys(parse_host(host) for host in given.hosts)),
        connections=given.connections,
        timeout=given.timeout,
        keep_sent=given.keep_sent,
        dry_run=given.dry_run,
        quiet=given.quiet,
        normalize=given.normalize,
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
    add("--log", choices=logtarget.TARGETS, default="auto", help="where to log to")
    add("--version", action="version", version=f"benno-milter2smtp {VERSION}")
    add("hosts", nargs="+", metavar="HOST[:PORT]", help="the archive host, and others if it fails")
    return parser


def _path(text: str) -> str:
    """An empty one would be the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("the directory has no name")
    return text


def _connections(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 100):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100")
    return int(text)


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 86400):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 1 to 86400")
    return float(text)
