"""The command line: every option, and what is said about values that cannot be used."""

from __future__ import annotations

import os
from socket import AF_INET, AF_INET6, AF_UNSPEC

import pytest

from benno_common.listener import InetAddress, UnixAddress
from benno_common.service import Exit
from benno_milter.options import Settings, parse

REQUIRED = ("-p", "unix:/run/milter", "-o", "/srv/inbox")
DEFAULTS: dict[str, object] = {
    "address": UnixAddress("/run/milter"),
    "spool": "/srv/inbox",
    "pidfile": None,
    "gateway": None,
    "socket_mode": 0o660,
    "label_names": False,
    "min_free": 100 << 20,
    "check": False,
    "pending": None,
    "log_target": "auto",
}


def shown(settings: Settings) -> dict[str, object]:
    return {**vars(settings), "allowed": str(settings.allowed)}


# Arguments behind the required ones, and the settings that are not the default.
OPTIONS: dict[str, tuple[list[str], dict[str, object]]] = {
    "none": ([], {}),
    "PID file": (["-l", "/run/pid"], {"pidfile": "/run/pid"}),
    "PID file, long": (["--pidfile", "/run/pid"], {"pidfile": "/run/pid"}),
    "PID file, long with =": (["--pidfile=/run/pid"], {"pidfile": "/run/pid"}),
    "PID file, in one": (["-l/run/pid"], {"pidfile": "/run/pid"}),
    "gateway": (["-g", "gw1"], {"gateway": b"gw1"}),
    "gateway, long": (["--gateway", "gw1.example.org"], {"gateway": b"gw1.example.org"}),
    "foreground": (["-i"], {}),
    "foreground, long": (["--foreground"], {}),
    "labels": (["-t"], {"label_names": True}),
    "labels, long": (["--label-names"], {"label_names": True}),
    "flags together": (["-it"], {"label_names": True}),
    "socket mode": (["-m", "600"], {"socket_mode": 0o600}),
    "socket mode with 0": (["--socket-mode", "0666"], {"socket_mode": 0o666}),
    "socket mode 000": (["-m", "000"], {"socket_mode": 0}),
    "pending": (["--pending", "/run/p"], {"pending": "/run/p"}),
    "check": (["--check"], {"check": True, "log_target": "stderr"}),
    "check, with a log": (["--check", "--log", "journal"], {"check": True, "log_target": "journal"}),
    "log to the journal": (["--log", "journal"], {"log_target": "journal"}),
    "log to syslog": (["--log=syslog"], {"log_target": "syslog"}),
    "log to standard error": (["--log", "stderr"], {"log_target": "stderr"}),
    "socket again": (["--socket", "local:/b"], {"address": UnixAddress("/b")}),
    "spool again": (["--output", "/b"], {"spool": "/b"}),
    "reserve: none": (["--min-free", "0"], {"min_free": 0}),
    "reserve: octets": (["--min-free", "4711"], {"min_free": 4711}),
    "reserve: K": (["--min-free", "7K"], {"min_free": 7 << 10}),
    "reserve: M": (["--min-free", "500M"], {"min_free": 500 << 20}),
    "reserve: GB": (["--min-free", "2GB"], {"min_free": 2 << 30}),
    "reserve: GiB": (["--min-free", "2GiB"], {"min_free": 2 << 30}),
    "reserve: T, small letter": (["--min-free", "1t"], {"min_free": 1 << 40}),
    "reserve: blanks around": (["--min-free", " 1M "], {"min_free": 1 << 20}),
    "allow": (["--allow", "10.0.0.0/8"], {"allowed": "10.0.0.0/8"}),
    "allow an address": (["--allow", "192.0.2.7"], {"allowed": "192.0.2.7/32"}),
    "allow several, with a comma": (["--allow", "10.0.0.0/8,::1"], {"allowed": "10.0.0.0/8,::1/128"}),
    "allow several": (["--allow", "10.0.0.0/8", "::1"], {"allowed": "10.0.0.0/8,::1/128"}),
    "allow, then a flag": (["--allow", "::1", "-t"], {"allowed": "::1/128", "label_names": True}),
    "allow twice": (["--allow", "10.0.0.0/8", "--allow", "::/0"], {"allowed": "10.0.0.0/8,::/0"}),
    "allow all": (["--allow", "0.0.0.0/0", "::/0"], {"allowed": "0.0.0.0/0,::/0"}),
    # As old unit files pass ${MILTERARGS}.
    "empty argument": ([""], {}),
    "empty arguments": (["", "-t", ""], {"label_names": True}),
    "blanks alone": (["  "], {}),
    "blank before": ([" -t -g gw1"], {"label_names": True, "gateway": b"gw1"}),
    "blank before one": ([" -t"], {"label_names": True}),
    "several, the first with =": (["--gateway=gw1 -t"], {"label_names": True, "gateway": b"gw1"}),
    "several in one argument": (["-t -g gw1"], {"label_names": True, "gateway": b"gw1"}),
    "several, quoted": (["-t -l '/run/my pid'"], {"label_names": True, "pidfile": "/run/my pid"}),
    "several, blanks around": (["-i  -t "], {"label_names": True}),
    "several, long ones": (["--label-names --min-free 1K"], {"label_names": True, "min_free": 1024}),
    "a value with a blank is not split": (["--pidfile=/run/my pid"], {"pidfile": "/run/my pid"}),
    "a separate value with a blank is not split": (["-l", "/run/my pid"], {"pidfile": "/run/my pid"}),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "changed"), OPTIONS.values(), ids=OPTIONS)
def test_option(arguments: list[str], changed: dict[str, object]) -> None:
    defaults = {**DEFAULTS, "allowed": shown(parse(REQUIRED))["allowed"]}
    assert shown(parse([*REQUIRED, *arguments])) == {**defaults, **changed}


def test_networks_that_may_connect_by_default() -> None:
    allowed = parse(REQUIRED).allowed
    for peer in (
        "127.0.0.1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.0.1",
        "::1",
        "fd00::1",
        "fe80::1%eth0",
    ):
        assert peer in allowed
    for peer in ("198.51.100.7", "172.32.0.1", "2001:db8::1", "0.0.0.0"):
        assert peer not in allowed


def test_options_of_the_older_version() -> None:
    """As its systemd unit passes them."""
    old = ["-l", "/run/pid", "-p", "local:/run/sock", "-o", "/srv/benno/inbox", ""]
    assert shown(parse(old))["address"] == UnixAddress("/run/sock")


ADDRESSES: dict[str, object] = {
    "unix:/run/sock": UnixAddress("/run/sock"),
    "local:/run/sock": UnixAddress("/run/sock"),
    "unix:sock": UnixAddress("sock"),
    "unix:/run/a:b@c": UnixAddress("/run/a:b@c"),
    "inet:22500@127.0.0.1": InetAddress("127.0.0.1", 22500, AF_INET),
    "inet:22500@localhost": InetAddress("localhost", 22500, AF_INET),
    "inet:22500": InetAddress(None, 22500, AF_UNSPEC),
    "inet:0@127.0.0.1": InetAddress("127.0.0.1", 0, AF_INET),
    "inet6:22500@::1": InetAddress("::1", 22500, AF_INET6),
    "inet6:22500@[::1]": InetAddress("::1", 22500, AF_INET6),
    "inet6:22500": InetAddress(None, 22500, AF_INET6),
}


@pytest.mark.parametrize(("text", "expected"), ADDRESSES.items(), ids=ADDRESSES)
def test_address(text: str, expected: object) -> None:
    assert parse(["-p", text, "-o", "/srv/inbox"]).address == expected


# Wrong addresses, and what the administrator is told.
WRONG_ADDRESSES = {
    "/run/sock": "'/run/sock' is none of unix:PATH",
    "unix": "is none of unix:PATH, local:PATH, inet:PORT@HOST or inet6:PORT@HOST",
    "unix:": "is none of",
    "tcp:22500@localhost": "is none of",
    "inet:": "is none of",
    "inet:mail": "is none of",
    "inet:-1": "is none of",
    "inet:²": "is none of",
    "inet:22500@": "is none of",
    "inet:127.0.0.1:22500": "write inet:22500@127.0.0.1",
    "inet6:[::1]:22500": "write inet6:22500@::1",
    "inet:22500@::1": "write inet6:22500@::1",
    "inet:65536": "65535",
    "unix:/" + "x" * 107: "107 octets",
}


@pytest.mark.parametrize(("text", "reason"), WRONG_ADDRESSES.items(), ids=lambda text: text[:30])
def test_wrong_address(text: str, reason: str) -> None:
    with pytest.raises(Exit) as error:
        parse(["-p", text, "-o", "/srv/inbox"])
    assert error.value.code == os.EX_CONFIG
    assert reason in error.value.reason


# Wrong arguments behind the required ones, and what is said about them.
WRONG = {
    "unknown option": (["-x"], "unrecognized arguments: -x"),
    "an argument too much": (["junk"], "unrecognized arguments: junk"),
    "an abbreviation": (["--gate", "gw1"], "unrecognized arguments: --gate gw1"),
    "a value is missing": (["-l"], "-l/--pidfile: expected one argument"),
    "gateway with a blank": (["-g", "my gateway"], "write a name of printable ASCII without blanks"),
    "gateway not ASCII": (["-g", "gw\u00e4"], "write a name of printable ASCII"),
    "gateway with line end": (["-g", "gw\nX: y"], "write a name of printable ASCII"),
    "no gateway": (["-g", ""], "expected one argument"),
    "mode not octal": (["-m", "888"], "'888' is no octal mode like 660"),
    "mode too long": (["-m", "1777"], "'1777' is no octal mode like 660"),
    "mode in letters": (["-m", "u=rw"], "'u=rw' is no octal mode like 660"),
    "size in words": (["--min-free", "much"], "'much' is no size like 500M, 2G or 0"),
    "negative size": (["--min-free=-1"], "'-1' is no size like 500M, 2G or 0"),
    "size with a fraction": (["--min-free", "1.5G"], "'1.5G' is no size"),
    "size per cent": (["--min-free", "5%"], "'5%' is no size"),
    "unknown log": (["--log", "file"], "invalid choice: 'file'"),
    "no network": (["--allow"], "--allow: expected at least one argument"),
}


@pytest.mark.parametrize(("arguments", "reason"), WRONG.values(), ids=WRONG)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str) -> None:
    with pytest.raises(SystemExit) as error:
        parse([*REQUIRED, *arguments])
    assert error.value.code == 64
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["-p", "-o"])
def test_required_option(capsys: pytest.CaptureFixture[str], missing: str) -> None:
    place = REQUIRED.index(missing)
    with pytest.raises(SystemExit) as error:
        parse([*REQUIRED[:place], *REQUIRED[place + 2 :]])
    assert error.value.code == 64
    assert f"the following arguments are required: {missing}/" in capsys.readouterr().err


@pytest.mark.parametrize("network", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "nowhere"])
def test_wrong_network(network: str) -> None:
    with pytest.raises(Exit) as error:
        parse([*REQUIRED, "--allow", network])
    assert error.value.code == os.EX_USAGE
    assert error.value.reason.startswith(f"--allow: {network!r} is no network like 10.1.0.0/16 (")


def test_several_in_one_argument_with_an_open_quote() -> None:
    with pytest.raises(Exit) as error:
        parse([*REQUIRED, "-t -l '/run/pid"])
    assert error.value.code == os.EX_USAGE
    assert error.value.reason == "-t -l '/run/pid: No closing quotation"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help(capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit) as done:
        parse([option])
    assert done.value.code == 0
    assert "benno-milter" in capsys.readouterr().out
