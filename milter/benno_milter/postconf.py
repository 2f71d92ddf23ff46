"""Reads the settings of the Postfix on this host: runs postconf(1), and parses what it prints.

`postconf -M` prints master.cf, a service a line. The settings in force for a service are those that
`postconf -x` prints with the service's own -o: so Postfix itself expands `$name`, `${name?value}` and
the rest. Nothing of Postfix needs to run, and nothing is changed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from benno_common.service import Exit
from benno_milter.postfix import PARAMETERS, Configuration, Service, bare, items

_SECONDS = 60
_COMMANDS = {"smtpd", "pickup", "qmqpd", "cleanup", "pipe"}


def read(directory: str | None) -> Configuration:
    """The configuration in `directory`, or Postfix's default one. Raises Exit (69) without Postfix."""
    main = parse_settings(_postconf(directory, "-x", *PARAMETERS))
    services: list[Service] = []
    unread: list[str] = []
    for line in _postconf(directory, "-M").splitlines():
        name, kind, _, _, chroot, _, _, command, *rest = [*line.split(None, 8), ""]
        if command not in _COMMANDS:
            continue
        options, strange = parse_options(rest[0])
        if strange:
            unread.append(f"{name} {kind}: {' '.join(strange)}")
        own = dict(option.split("=", 1) for option in options)
        settings = main
        if own and command != "pipe":
            over = [word for pair in own.items() for word in ("-o", "=".join(pair))]
            asked = (*PARAMETERS, *(own.keys() & {"mynetworks"}))  # its default asks the interfaces
            settings = parse_settings(_postconf(directory, "-x", *over, *asked))
        inside = chrooted(chroot, main.get("compatibility_level", ""))
        services.append(Service(name, kind, command, inside, settings, frozenset(own)))
    return Configuration(main, tuple(services), tuple(unread))


def parse_settings(output: str) -> dict[str, str]:
    """`name = value` lines."""
    pairs = (line.partition("=") for line in output.splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def parse_options(arguments: str) -> tuple[list[str], list[str]]:
    """The `name=value` of each -o; and what stands behind an -o but is none.

    `-oname=value`, without a blank, is in force, but postconf 3.7 prints it in pieces.
    """
    options: list[str] = []
    strange: list[str] = []
    words = iter(items(arguments, separators=" \t"))  # a comma belongs to the value
    for word in words:
        if word == "-o":
            option = bare(next(words, ""))
            name, equals, value = option.partition("=")
            if equals and name.strip():
                options.append(f"{name.strip()}={value.strip()}")
            else:
                strange.append(f"-o {option}")
    return options, strange


def chrooted(column: str, compatibility_level: str) -> bool:
    """What master.cf's fifth column means; `-` meant yes before compatibility level 1 (master(5))."""
    if column == "-":
        major = compatibility_level.partition(".")[0]
        return not major.isdecimal() or int(major) < 1
    return column == "y"


def _postconf(directory: str | None, *arguments: str) -> str:
    command: Sequence[str] = ("postconf", *(("-c", directory) if directory else ()), *arguments)
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
    try:
        done = subprocess.run(  # noqa: S603 - no shell; Postfix's own command
            command, env=environment, capture_output=True, check=False, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Exit(
            os.EX_UNAVAILABLE, f"cannot run postconf; is this the mail server? ({error})"
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise Exit(os.EX_UNAVAILABLE, f"postconf failed: {said or done.returncode}")
    return os.fsdecode(done.stdout)
