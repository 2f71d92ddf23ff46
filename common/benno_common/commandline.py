"""What every command does: wrong usage ends it with 64, errors go to the log and to who started it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from benno_common import log, logtarget, service


class Parser(argparse.ArgumentParser):
    """Options are never abbreviated, and wrong usage has the exit code of sysexits.h."""

    def __init__(self, program: str, *, description: str, epilog: str | None = None) -> None:
        super().__init__(program, description=description, epilog=epilog, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}; see --help\n")


def run(
    program: str, target: logtarget.Target, act: Callable[[], int | None], *, quiet: bool = False
) -> int:
    """Begin to log, and do it. Returns the exit code: what `act` returns, 0 for None, or an error's."""
    try:
        found = logtarget.setup(program, target, quiet=quiet)
    except OSError as error:
        print(f"{program}: --log: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return os.EX_CONFIG
    try:
        return act() or os.EX_OK
    except service.Exit as error:
        log.fatal(error.reason)
        if found == "syslog":  # whoever started it looks here
            print(f"{program}: {error.reason}", file=sys.stderr)  # noqa: T201
        return error.code
    except Exception as error:  # noqa: BLE001 - the log is where an administrator looks
        log.unexpected(None, error)
        return os.EX_SOFTWARE
