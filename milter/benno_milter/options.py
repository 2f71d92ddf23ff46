"""The command line of benno-milter, drop-in for the one of the C milter."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from benno_common import VERSION, logtarget
from benno_common.commandline import Parser
from benno_common.listener import InetAddress, UnixAddress, parse_address
from benno_common.networks import DEFAULT, Networks
from benno_common.quantity import parse_size
from benno_common.service import Exit

_DESCRIPTION = """\
Writes each mail that Postfix or Sendmail accepts into a spool directory, with its true envelope, and
answers the mail server only when the mail is safe on disk."""

_EPILOG = """\
Postfix: smtpd_milters = { unix:benno-milter/benno-milter.sock, default_action=tempfail } and
non_smtpd_milters = $smtpd_milters. See benno-milter(8)."""

# `-t -g gw1`, `--gateway=gw1 -t`, ` -t`, ` `; but not `--output=/a path`, nor the value of an option.
_SEVERAL = re.compile(r"\s*-[^\s=]*\s|\s*-\S+\s.*(?<=\s)-|\s+-|\s+\Z", re.DOTALL)


@dataclass(frozen=True)
class Settings:
    """The effective settings. min_free in octets."""

    address: UnixAddress | InetAddress
    spool: str
    pidfile: str | None
    gateway: bytes | None
    socket_mode: int
    label_names: bool
    allowed: Networks
    min_free: int
    check: bool
    pending: str | None
    log_target: logtarget.Target


@dataclass(frozen=True)
class PostfixCheck:
    """--check-postfix. address: with -p, else None. directory: with --postfix-config, else None."""

    address: UnixAddress | InetAddress | None
    directory: str | None


def parse_postfix_check(arguments: Sequence[str]) -> PostfixCheck | None:
    """None without --check-postfix; it makes -p and -o optional. Raises as parse()."""
    split = _split(arguments)
    if "--check-postfix" not in split:
        return None
    given = _parser(required=False).parse_args(split)
    return PostfixCheck(parse_address(given.socket) if given.socket else None, given.postfix_config)


def parse(arguments: Sequence[str]) -> Settings:
    """Raises SystemExit for --help, --version and wrong usage, Exit for values that cannot be used."""
    given = _parser().parse_args(list(_split(arguments)))
    return Settings(
        address=parse_address(given.socket),
        spool=given.output,
        pidfile=given.pidfile,
        gateway=given.gateway,
        socket_mode=given.socket_mode,
        label_names=given.label_names,
        allowed=_networks(given.allow),
        min_free=given.min_free,
        check=given.check,
        pending=given.pending,
        log_target="stderr" if given.check and given.log == "auto" else given.log,
    )


def _parser(*, required: bool = True) -> argparse.ArgumentParser:
    parser = Parser("benno-milter", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("-p", "--socket", required=required, metavar="ADDRESS", help="unix:PATH, inet:PORT[@HOST], …")
    add("-o", "--output", required=required, metavar="DIR", help="spool, or the archiver's inbox")
    add("-l", "--pidfile", metavar="FILE", help="write the process id there")
    add("-g", "--gateway", type=_gateway, metavar="NAME", help="write X-BENNO-GW: NAME into each file")
    add("-m", "--socket-mode", type=_mode, default=0o660, metavar="MODE", help="of a Unix socket (660)")
    add("-i", "--foreground", action="store_true", help="accepted; it always stays in the foreground")
    add("-t", "--label-names", action="store_true", help="put time and sender into the file names")
    add(
        "--allow",
        nargs="+",
        action="extend",
        metavar="NETWORK",
        help="who may connect over TCP, instead of loopback and private networks",
    )
    add("--min-free", type=_size, default="100M", metavar="SIZE", help="space to keep free (100M)")
    add("--pending", metavar="FILE", help="make this empty file after each mail")
    add("--check", action="store_true", help="do all checks of the start, then exit")
    add("--check-postfix", action="store_true", help="say what in Postfix would lose or double mail")
    add("--postfix-config", metavar="DIR", help="of --check-postfix: the directory of main.cf")
    add("--log", choices=logtarget.TARGETS, default="auto", help="where to log to")
    add("--version", action="version", version=f"benno-milter {VERSION}")
    return parser


def _split(arguments: Sequence[str]) -> list[str]:
    """Old unit files pass all of `${MILTERARGS}` as one argument, or as an empty one."""
    split: list[str] = []
    for argument in arguments:
        several = _SEVERAL.match(argument)
        try:
            split += shlex.split(argument) if several else [argument] if argument else []
        except ValueError as error:
            raise Exit(os.EX_USAGE, f"{argument}: {error}") from error
    return split


def _networks(given: list[str] | None) -> Networks:
    try:
        return Networks(DEFAULT if given is None else ",".join(given).split(","))
    except ValueError as error:
        raise Exit(os.EX_USAGE, f"--allow: {error}") from error


def _gateway(text: str) -> bytes:
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise argparse.ArgumentTypeError(f"{text!r}: write a name of printable ASCII without blanks")
    return text.encode()


def _mode(text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no octal mode like 660")
    return int(text, 8)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
