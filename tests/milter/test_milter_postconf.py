"""benno-milter --check-postfix: the command, and how it reads what postconf(1) prints."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from socket import AF_INET6

import pytest

from benno_common.listener import InetAddress, UnixAddress
from benno_common.service import Exit
from benno_milter import options, postfixcheck, program
from benno_milter.postconf import chrooted, parse_options, parse_settings
from benno_milter.postfix import Milter, items, milters

LISTS = {
    "": [],
    " ,, ": [],
    "inet:a:1 inet:b:2,unix:c\t,d": ["inet:a:1", "inet:b:2", "unix:c", "d"],
    "{ inet:a:1, x=y z=0 },{unix:b}": ["{ inet:a:1, x=y z=0 }", "{unix:b}"],
    "{a {b, c}} d": ["{a {b, c}}", "d"],
    "{ not closed, ": ["{ not closed, "],
}


@pytest.mark.parametrize(("text", "expected"), LISTS.items(), ids=repr)
def test_list(text: str, expected: list[str]) -> None:
    assert items(text) == expected


MILTERS = {
    "unix:a": Milter("unix:a"),
    "{unix:a}": Milter("unix:a"),
    "{ unix:a, default_action=accept protocol=6 }": Milter(
        "unix:a", {"default_action": "accept", "protocol": "6"}
    ),
    "{ unix:a, { default_action = accept } }": Milter("unix:a", {"default_action": "accept"}),
    "{ }": Milter(""),
}


@pytest.mark.parametrize(("text", "expected"), MILTERS.items(), ids=MILTERS)
def test_milter(text: str, expected: Milter) -> None:
    assert list(milters(text)) == [expected]


OPTIONS = {
    "": ([], []),
    "-v -o a=b -D": (["a=b"], []),
    "-o a= -o b=c,d": (["a=", "b=c,d"], []),
    "-o {a=b, { c, d=e }} -o f=g=h": (["a=b, { c, d=e }", "f=g=h"], []),
    "-o { a = b c }": (["a=b c"], []),
    "-o receive_ -o": ([], ["-o receive_", "-o "]),
}


@pytest.mark.parametrize(("text", "expected"), OPTIONS.items(), ids=OPTIONS)
def test_options_of_a_service(text: str, expected: tuple[list[str], list[str]]) -> None:
    assert parse_options(text) == expected


@pytest.mark.parametrize(
    ("column", "level", "expected"),
    [("y", "3.6", True), ("n", "0", False), ("-", "0", True), ("-", "", True), ("-", "1", False),
     ("-", "3.6", False)],
)  # fmt: skip
def test_chroot(column: str, level: str, expected: bool) -> None:
    assert chrooted(column, level) is expected


def test_settings_as_postconf_prints_them() -> None:
    assert parse_settings("a = b = c\nd =\n") == {"a": "b = c", "d": ""}


# Lines of /etc/default/benno-milter → the socket that is written about.
DEFAULTS = {
    "": "unix:/var/spool/postfix/benno-milter/benno-milter.sock",
    "#SOCKET=/x\nSPOOLDIR=/srv\n": "unix:/var/spool/postfix/benno-milter/benno-milter.sock",
    "SOCKET=/run/benno/sock": "unix:/run/benno/sock",
    ' SOCKET = "/run/benno/sock" \n': "unix:/run/benno/sock",
    "SOCKET_TYPE=inet\nSOCKET=22500@10.0.0.5": "inet:10.0.0.5:22500",
    "SOCKET=2250@10.0.0.5": "inet:10.0.0.5:2250",
}


@pytest.fixture
def postconf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A postconf that is found first, and prints the configuration of an smtpd without milters."""
    main = "echo 'queue_directory = /var/spool/postfix'"
    script = tmp_path / "postconf"
    master = "echo 'smtp inet n - y - - smtpd'"
    script.write_text(f'#!/bin/sh\ncase "$*" in *-M*) {master};; *) {main};; esac\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return script


@pytest.mark.parametrize(("text", "expected"), DEFAULTS.items(), ids=DEFAULTS)
def test_socket_from_the_defaults(
    tmp_path: Path, postconf: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    (tmp_path / "default").write_text(text)
    assert postfixcheck.check(None, None, str(tmp_path / "default"), "/nonexistent") == 1
    assert f"benno-milter at {expected}." in " ".join(capsys.readouterr().out.split())


# The administrator's unit, its drop-ins, /etc/default/benno-milter → the socket that is written about.
TCP = "[Service]\nGroup=benno\nEnvironment=SOCKET_TYPE=inet\nEnvironment=SOCKET=22500\n"
UNITS: dict[str, tuple[str, dict[str, str], str, str]] = {
    "the package's override.conf": ("", {"override": TCP}, "#SOCKET=\n", "inet:127.0.0.1:22500 ({0})"),
    "the settings beat it": (
        "",
        {"override": TCP},
        "SOCKET_TYPE=local\nSOCKET=/run/b",
        "unix:/run/b",
    ),
    "the settings have the type only": (
        "",
        {"override": "Environment=SOCKET=2250@10.0.0.5"},
        "SOCKET_TYPE=inet",
        "inet:10.0.0.5:2250 ({0})",
    ),
    "a unit; several in a line, continued": (
        "Environment=SOCKET_TYPE=local SOCKET=/a \\\n  'SOCKET=/run/b c'\n",
        {},
        "",
        "unix:/run/b c ({unit})",
    ),
    "the last one": (
        "Environment=SOCKET=/a",
        {"b": "Environment=SOCKET=/b", "a": TCP + 'Environment="SOCKET_TYPE=local"'},
        "",
        "unix:/b ({1})",
    ),
    "nothing there": (
        "#Environment=SOCKET=/a",
        {"a": "; Environment=SOCKET=/a\n[Service]\nEnvironment=LANG=C\nEnvironmentFile=/a\n"},
        "",
        "unix:/var/spool/postfix/benno-milter/benno-milter.sock",
    ),
}


@pytest.mark.parametrize(("unit", "dropins", "text", "expected"), UNITS.values(), ids=UNITS)
def test_socket_from_the_unit(
    tmp_path: Path,
    postconf: Path,
    capsys: pytest.CaptureFixture[str],
    unit: str,
    dropins: dict[str, str],
    text: str,
    expected: str,
) -> None:
    (tmp_path / "default").write_text(text)
    path = tmp_path / "b.service"
    path.write_text(unit)
    (tmp_path / "b.service.d").mkdir()
    for name, dropin in dropins.items():
        (tmp_path / "b.service.d" / f"{name}.conf").write_text(dropin)
    paths = sorted(map(str, tmp_path.glob("b.service.d/*")))
    assert postfixcheck.check(None, None, str(tmp_path / "default"), str(path)) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"benno-milter at {expected.format(*paths, unit=path)}." in said


def test_a_type_that_does_not_go_with_the_socket(tmp_path: Path, postconf: Path) -> None:
    """The unit fails so too."""
    (tmp_path / "default").write_text("SOCKET=/run/b\n")
    (tmp_path / "b.service").write_text(TCP)
    with pytest.raises(Exit) as error:
        postfixcheck.check(None, None, str(tmp_path / "default"), str(tmp_path / "b.service"))
    assert error.value.code == os.EX_CONFIG
    assert "'inet:/run/b'" in error.value.reason


@pytest.mark.parametrize("there", ["a listener", "a socket that was left", "nothing"])
def test_whether_somebody_listens(
    tmp_path: Path,
    postconf: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    there: str,
) -> None:
    path = str(tmp_path / "s")
    monkeypatch.setattr(postfixcheck, "_SOCKET", path)
    with socket.socket(socket.AF_UNIX) as listener:
        if there != "nothing":
            listener.bind(path)
        if there == "a listener":
            listener.listen()
        postfixcheck.check(None, None, "/nonexistent", "/nonexistent")
    listens = there == "a listener"
    assert (f"Nobody listens at unix:{path}" in capsys.readouterr().out) is not listens


def test_nobody_looks_at_a_socket_that_is_given(
    postconf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    postfixcheck.check(UnixAddress("/nonexistent/s"), None)
    assert "Nobody listens" not in capsys.readouterr().out


def test_socket_given(postconf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert postfixcheck.check(UnixAddress("/x"), None) == 1
    assert "smtpd_milters = { unix:/x, default_action=tempfail }" in capsys.readouterr().out


def test_postconf_fails(postconf: Path) -> None:
    postconf.write_text("#!/bin/sh\necho 'fatal: no main.cf' >&2; exit 1\n")
    with pytest.raises(Exit) as error:
        postfixcheck.check(None, None, "/nonexistent", "/nonexistent")
    assert (error.value.code, error.value.reason) == (69, "postconf failed: fatal: no main.cf")


def test_without_postfix(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "postconf")

    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(Exit) as error:
        postfixcheck.check(None, None, "/nonexistent", "/nonexistent")
    assert error.value.code == os.EX_UNAVAILABLE
    assert "cannot run postconf; is this the mail server?" in error.value.reason


def test_command(
    postconf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """-p and -o are not required; all comes out at the program's exit."""
    monkeypatch.setattr(sys, "argv", ["benno-milter", "--check-postfix", "-p", "inet:22500@192.0.2.1"])
    assert program.main() == 1
    assert "{ inet:192.0.2.1:22500, default_action=tempfail }" in capsys.readouterr().out
    postconf.write_text("#!/bin/sh\nexit 3\n")
    assert program.main() == 69
    assert capsys.readouterr().err == "benno-milter: postconf failed: 3\n"


GIVEN: dict[str, tuple[list[str], object]] = {
    "alone": (["--check-postfix"], options.PostfixCheck(None, None)),
    "another directory": (
        ["--check-postfix", "--postfix-config", "/etc/postfix-2"],
        options.PostfixCheck(None, "/etc/postfix-2"),
    ),
    "a socket": (
        ["-p", "inet6:1@::1", "--check-postfix"],
        options.PostfixCheck(InetAddress("::1", 1, AF_INET6), None),
    ),
    "in one argument": (["--check-postfix -o /srv"], options.PostfixCheck(None, None)),
    "not at all": (["-p", "unix:/x", "-o", "/srv"], None),
}


@pytest.mark.parametrize(("arguments", "expected"), GIVEN.values(), ids=GIVEN)
def test_option(arguments: list[str], expected: object) -> None:
    assert options.parse_postfix_check(arguments) == expected
