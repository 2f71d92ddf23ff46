"""The command `benno-milter --check-postfix`: reads Postfix's settings, and prints what is wrong."""

from __future__ import annotations

import glob
import os
import shlex
import socket
import sys
from collections.abc import Iterable, Iterator

from benno_common.listener import InetAddress, UnixAddress, parse_address
from benno_common.service import Exit
from benno_milter import finding, postconf
from benno_milter.judgement import judge
from benno_milter.postfix import Socket

_FILE = "/etc/default/benno-milter"
_UNIT = "/etc/systemd/system/benno-milter.service"  # the administrator's, and with .d the drop-ins
_SOCKET = "/var/spool/postfix/benno-milter/benno-milter.sock"


def check(
    address: UnixAddress | InetAddress | None,
    directory: str | None,
    defaults: str = _FILE,
    unit: str = _UNIT,
) -> int:
    """0: nothing loses or doubles mail, 1: something does. Raises Exit where Postfix is not there.

    address: of benno-milter; else the file `defaults` names it, else `unit` or a drop-in of it, else it
    is the package's default, and it is looked whether somebody listens there.
    directory: of main.cf and master.cf, for another one than Postfix's default.
    """
    place = _socket(address) if address else _configured(defaults, unit)
    found, checked = judge(postconf.read(directory), place)
    report = finding.report(found, checked) + "\n"
    sys.stdout.write(report.encode(errors="backslashreplace").decode())  # octets that are no UTF-8
    return 1 if finding.harmful(found) else os.EX_OK


def _socket(address: UnixAddress | InetAddress, source: str = "") -> Socket:
    if isinstance(address, InetAddress):
        return Socket(host=address.host or "", port=str(address.port), given=True, source=source)
    return Socket(path=os.path.abspath(address.path), given=True, source=source)


def _configured(defaults: str, unit: str) -> Socket:
    """What SOCKET_TYPE and SOCKET say, as the unit puts them together; the file `defaults` beats it."""
    values: dict[str, str] = {}
    source = ""
    dropins = sorted(glob.glob(f"{glob.escape(unit)}.d/*.conf"))
    found = [(path, _assigned(_environment(_read(path)))) for path in [unit, *dropins]]
    for path, own in [*found, ("", _assigned(_read(defaults).splitlines()))]:
        source = path if own.get("SOCKET") else source
        values |= own
    if not values.get("SOCKET"):
        return Socket(path=_SOCKET, answers=_answers(_SOCKET))
    usual = "local" if "/" in values["SOCKET"] else "inet"
    return _socket(parse_address(f"{values.get('SOCKET_TYPE') or usual}:{values['SOCKET']}"), source)


def _read(path: str) -> str:
    """Empty if the file is not there."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Exit(os.EX_NOPERM, f"{path}: {error.strerror}") from error


def _environment(text: str) -> Iterator[str]:
    """The NAME=VALUE of each Environment= of a unit (systemd.exec(5)); each may have several."""
    for line in text.replace("\\\n", " ").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "Environment":
            yield from _words(value)


def _assigned(lines: Iterable[str]) -> dict[str, str]:
    pairs = (line.strip().removeprefix("export ").partition("=") for line in lines)
    return {name.strip(): " ".join(_words(value)) for name, equals, value in pairs if equals}


def _words(value: str) -> list[str]:
    """Without the quotes around them."""
    try:
        return shlex.split(value)
    except ValueError:
        return [value.strip()]


def _answers(path: str) -> bool:
    """False if nobody listens there; True also if this user may not look."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a Unix socket answers at once, or its queue is full
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            pass
    return True
