"""Rights: of what the packages put onto a machine, of what the programs make, and of the programs."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from machines import sending
from machines.machine import Machine
from machines.site import INBOX, Pair

pytestmark = pytest.mark.system

SOCKET = "/var/spool/postfix/benno-milter/benno-milter.sock"

# Mode, owner and group of all that is not root's. What is root's: nobody else may write it.
ON_BOTH = {
    "/srv/benno": "755 benno:benno",
    INBOX: "2770 benno:benno",
    f"{INBOX}/*.eml": "640 benno:benno",
}
ON_MAIL = ON_BOTH | {
    "/run/benno-milter": "755 benno:postfix",
    "/run/benno-milter/benno-milter.pid": "640 benno:postfix",
    "/run/benno-milter/pending": "640 benno:postfix",
    "/var/spool/postfix/benno-milter": "750 benno:postfix",
    SOCKET: "660 benno:postfix",
}
ON_ARCHIVE = ON_BOTH | {
    "/etc/benno-smtp/benno-smtp.conf": "640 root:benno",
    f"{INBOX}/.benno-smtp.*": "640 benno:benno",
}

# systemd-analyze(1): 0 is a program that can do nothing, 10 one that can do everything.
EXPOSURE = dict.fromkeys(("benno-milter", "benno-smtp", "benno-export2archive"), 2.0)

# Kept out: what the stories have copied there, other programs' records of packages and units, and
# directories that systemd makes for each service within one that is root's alone.
_ELSEWHERE = (
    *("/proc", "/sys", "/dev", "/run/systemd", "/run/credentials"),
    *("/var/tmp", "/var/cache", "/var/log", "/var/lib/dpkg", "/var/lib/apt"),
)
_FIND = [
    *("find", "/", "("),
    *" -o ".join(f"-path {path}" for path in _ELSEWHERE).split(),
    *("-o", "-name", "systemd-private-*", ")", "-prune", "-o"),
    *("(", "-path", "*benno*", "-o", "-user", "benno", "-o", "-group", "benno", ")"),
    *("-printf", "%m %u:%g %y %p\\n"),
]


def test_files_and_directories(pair: Pair) -> None:
    """After a mail has been stored on each."""
    for port, machine in ((sending.SMTP, pair.mail), (sending.RECEIVER, pair.archive)):
        sending.send(pair.story, machine.address, sending.letter(), port=port)
    for machine, expected in ((pair.mail, ON_MAIL), (pair.archive, ON_ARCHIVE)):
        found = machine.run(*_FIND).splitlines()
        assert len(found) > 50, found
        assert _excessive(found) == [], machine
        assert _not_of_root(found) == expected, machine


def _excessive(lines: Iterable[str]) -> list[str]:
    """What everybody can write, or what gives its owner's or group's rights to who runs it."""
    return [
        line
        for line in lines
        for mode, _, kind, path in [line.split(" ", 3)]
        if kind != "l" and (int(mode, 8) & 0o002 or (int(mode, 8) & 0o6000 and path != INBOX))
    ]


def _not_of_root(lines: Iterable[str]) -> dict[str, str]:
    """Those that are not root's, or that others than root may write; or may not be read by all."""
    found = {}
    for line in lines:
        mode, owner, kind, path = line.split(" ", 3)
        if kind != "l" and (owner != "root:root" or int(mode, 8) & 0o022 or not int(mode, 8) & 0o004):
            path = re.sub(r"/[\d.]+[^/]*\.eml$", "/*.eml", path)
            path = re.sub(r"/\.benno-smtp\.[0-9a-f]+$", "/.benno-smtp.*", path)
            found[path] = f"{mode} {owner}"
    return found


def test_another_user(pair: Pair) -> None:
    """Reads no mail and no password, and reaches no socket."""
    sending.send(pair.story, pair.mail.address, sending.letter())
    (stored,) = pair.spool()
    spooled = f"{INBOX}/{stored.name}"
    for machine, command in (
        (pair.mail, f"ls {INBOX}"),
        (pair.mail, f"cat {spooled}"),
        (pair.mail, f"touch {INBOX}/1.eml"),
        (pair.mail, _connect(SOCKET)),
        (pair.archive, f"ls {INBOX}"),
        (pair.archive, "cat /etc/benno-smtp/benno-smtp.conf"),
    ):
        allowed = machine.attempt("sh", "-c", command)
        assert command.startswith("touch") or allowed.returncode == 0, (command, allowed)
        done = machine.attempt("runuser", "-u", "nobody", "--", "sh", "-c", command)
        assert done.returncode != 0, (machine, command, done)
        assert b"ermission denied" in done.stderr, (machine, command, done)
    pair.mail.path(f"{INBOX}/1.eml").unlink()
    as_postfix = pair.mail.attempt("runuser", "-u", "postfix", "--", "sh", "-c", _connect(SOCKET))
    assert as_postfix.returncode == 0, as_postfix


def _connect(path: str) -> str:
    return f"python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{path}\")'"


def test_the_running_programs(pair: Pair) -> None:
    """They are user benno, can never become another, and have no capability."""
    for unit, groups in (("benno-milter", {"benno", "postfix"}), ("benno-smtp", {"benno"})):
        machine = _machine_of(pair, unit)
        pid = machine.run("systemctl", "show", "--value", "--property=MainPID", unit).strip()
        said = machine.run("cat", f"/proc/{pid}/status")
        status = {
            name: value.split()
            for name, _, value in (line.partition(":") for line in said.splitlines())
        }
        assert set(status["Uid"]) == {machine.run("id", "-u", "benno").strip()}
        named = machine.run("getent", "group", *status["Groups"], *status["Gid"]).splitlines()
        assert {line.partition(":")[0] for line in named} == groups
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert status[kind] == ["0" * 16], (unit, kind, status[kind])
        assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"]), unit


def test_what_the_units_leave_open(pair: Pair) -> None:
    """As systemd judges it. The figures are in SECURITY.md."""
    figures = {unit: _exposure(_machine_of(pair, unit), unit) for unit in EXPOSURE}
    print(figures)
    assert {unit: figures[unit] <= most for unit, most in EXPOSURE.items()} == dict.fromkeys(
        EXPOSURE, True
    )


def _machine_of(pair: Pair, unit: str) -> Machine:
    return pair.archive if unit == "benno-smtp" else pair.mail


def _exposure(machine: Machine, unit: str) -> float:
    said = machine.run("systemd-analyze", "security", "--no-pager", f"{unit}.service")
    return float(re.findall(r"Overall exposure level for \S+: ([\d.]+)", said)[0])
