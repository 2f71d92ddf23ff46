"""The command `benno-milter --check-postfix`: reads Postfix's settings, and prints what is wrong."""

from __future__ import annotations

import os
import shlex
import sys

from benno_common.listener import InetAddress, UnixAddress, parse_address
from benno_common.service import Exit
from benno_milter import finding, postconf
from benno_milter.judgement import judge
from benno_milter.postfix import Socket

_FILE = "/etc/default/benno-milter"
_SOCKET = "/var/spool/postfix/benno-milter/benno-milter.sock"


def check(
    address: UnixAddress | InetAddress | None, directory: str | None, defaults: str = _FILE
) -> int:
    """0: nothing loses or doubles mail, 1: something does. Raises Exit where Postfix is not there.

    address: of benno-milter; else the file `defaults` names it, else it is the package's default.
    directory: of main.cf and master.cf, for another one than Postfix's default.
    """
    given = address or _configured(defaults)
    found, checked = judge(postconf.read(directory), _socket(given, given is not None))
    report = finding.report(found, checked) + "\n"
    sys.stdout.write(report.encode(errors="backslashreplace").decode())  # octets that are no UTF-8
    return 1 if finding.harmful(found) else os.EX_OK


def _socket(address: UnixAddress | InetAddress | None, given: bool) -> Socket:
    if isinstance(address, InetAddress):
        return Socket(host=address.host or "", port=str(address.port), given=given)
    return Socket(path=os.path.abspath(address.path) if address else _SOCKET, given=given)


def _configured(path: str) -> UnixAddress | InetAddress | None:
    """What SOCKET_TYPE and SOCKET in the file say, as the unit puts them together."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Exit(os.EX_NOPERM, f"{path}: {error.strerror}") from error
    values: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.strip().partition("=")
        if equals:
            values[name.removeprefix("export ").strip()] = _unquoted(value)
    if not values.get("SOCKET"):
        return None
    usual = "local" if "/" in values["SOCKET"] else "inet"
    return parse_address(f"{values.get('SOCKET_TYPE') or usual}:{values['SOCKET']}")


def _unquoted(value: str) -> str:
    try:
        return " ".join(shlex.split(value))
    except ValueError:
        return value.strip()
