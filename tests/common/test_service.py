"""A daemon and its system: readiness, PID file, limits, signals, exit codes, an empty environment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import daemon
from benno_common import log, logtarget, service
from benno_milter import program
from mta import MTA

pytestmark = pytest.mark.slow


class Systemd:
    """What systemd listens on for a service's readiness."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(30)

    def told(self) -> str:
        """The next state that the service told."""
        return self.socket.recv(4096).decode()

    def told_nothing(self) -> bool:
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(30)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    path = str(tmp_path / "notify")
    made = Systemd(path)
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    yield made
    made.socket.close()


# Readiness


def test_notify(systemd: Systemd) -> None:
    service.notify("READY=1")
    service.notify("STATUS=ü")
    assert [systemd.told(), systemd.told()] == ["READY=1", "STATUS=ü"]
    assert systemd.told_nothing()


def test_notify_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    abstract = Systemd(b"")  # the kernel chooses a name
    name = abstract.socket.getsockname()
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + name[1:].decode())
    service.notify("READY=1")
    assert abstract.told() == "READY=1"
    abstract.socket.close()


@pytest.mark.parametrize(
    "address", [None, "", "@", "/nowhere/notify", "@nobody", "x" * 200, "vsock:2:1"]
)
def test_nobody_to_notify(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    service.notify("READY=1")


def test_notified_one_is_gone(systemd: Systemd) -> None:
    systemd.socket.close()
    service.notify("STOPPING=1")


# PID file


def test_pidfile(tmp_path: Path) -> None:
    path = tmp_path / "b.pid"
    path.write_text("an old one that is longer than ours\n")
    with service.pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


@pytest.mark.parametrize("path", [None, ""])
def test_no_pidfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    monkeypatch.chdir(tmp_path)
    with service.pidfile(path):
        assert not list(tmp_path.iterdir())


def test_pidfile_is_removed_whatever_ends_the_program(tmp_path: Path) -> None:
    path = tmp_path / "b.pid"
    with pytest.raises(service.Exit), service.pidfile(str(path)):
        raise service.Exit(70, "fault")
    assert not path.exists()


@pytest.mark.parametrize("content", [b"1\n", b"", b"\xff\xfe"])
def test_pidfile_of_another_one_is_left(tmp_path: Path, content: bytes) -> None:
    """The next instance is there already while this one ends."""
    path = tmp_path / "b.pid"
    with service.pidfile(str(path)):
        path.write_bytes(content)
    assert path.read_bytes() == content


def test_pidfile_is_gone_already(tmp_path: Path) -> None:
    path = tmp_path / "b.pid"
    with service.pidfile(str(path)):
        path.unlink()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("{}/missing/b.pid", "No such file or directory"),
        ("{}", "Is a directory"),
        ("{}/file/b.pid", "Not a directory"),
        ("/dev/full", "No space left on device"),
    ],
)
def test_pidfile_cannot_be_written(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file").touch()
    path = path.format(tmp_path)
    with pytest.raises(service.Exit) as caught, service.pidfile(path):
        pytest.fail("started without")
    assert caught.value.code == 73
    assert caught.value.reason == str(caught.value) == f"PID file {path}: {reason}"


# Limits


@pytest.fixture
def limit() -> Iterator[tuple[int, int]]:
    """The limit of open files is low, and afterwards what it was."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = before[0] // 2, before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, low)
    yield low
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_descriptor_limit(limit: tuple[int, int]) -> None:
    service.raise_descriptor_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit[1], limit[1])


@pytest.mark.parametrize("error", [OSError(1, "no"), ValueError("not allowed to raise")])
def test_descriptor_limit_that_cannot_be_raised(
    limit: tuple[int, int], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Then the daemon works with what it has."""

    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(resource, "setrlimit", refuse)
        service.raise_descriptor_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limit


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal(number: signal.Signals) -> None:
    async def stopped() -> None:
        stop = service.stop_signal()
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 30)

    def missed(*_: object) -> None:
        raise AssertionError(f"{number.name} came through")

    before = signal.signal(number, missed)
    try:
        asyncio.run(stopped())
    finally:
        signal.signal(number, before)


# The daemon


@contextlib.contextmanager
def started(
    tmp_path: Path, *options: str, shell: str = 'exec "$@"', **how: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """benno-milter, as `shell` starts it."""
    (tmp_path / "spööl").mkdir()
    command = [
        *(*daemon.COMMAND, "-p", f"unix:{tmp_path}/b.sock", "-o", f"{tmp_path}/spööl"),
        *("--min-free", "0", "--log", "stderr", *options),
    ]
    process = subprocess.Popen(["/bin/sh", "-c", shell, "sh", *command], stderr=subprocess.PIPE, **how)
    assert process.stderr
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stderr.close()


@contextlib.contextmanager
def mail_under_way(tmp_path: Path) -> Iterator[MTA]:
    """Up to the end of its header."""
    with MTA(f"{tmp_path}/b.sock") as mta:
        mta.negotiate()
        mta.mail(b"<a@example.org>")
        mta.rcpt(b"<b@example.net>")
        mta.header(b"Subject", b" under way")
        mta.end_of_headers()
        yield mta


def written(milter: subprocess.Popen[bytes]) -> str:
    """All of its log, once it ended."""
    assert milter.stderr
    return milter.stderr.read().decode()


def mails(tmp_path: Path) -> int:
    return len(list((tmp_path / "spööl").iterdir()))


def test_life_under_systemd(tmp_path: Path, systemd: Systemd) -> None:
    """READY=1 and a connection is accepted; STOPPING=1 and the mail under way is still answered."""
    pidfile = tmp_path / "b.pid"
    with started(tmp_path, "-l", str(pidfile), shell='ulimit -S -n 64; exec "$@"') as milter:
        assert systemd.told() == "READY=1"
        with mail_under_way(tmp_path) as mta:
            assert pidfile.read_text() == f"{milter.pid}\n"
            limits = Path(f"/proc/{milter.pid}/limits").read_text()
            soft, hard = re.findall(r"Max open files +(\S+) +(\S+)", limits)[0]
            assert soft == hard != "64"
            assert systemd.told_nothing()
            milter.terminate()
            assert systemd.told() == "STOPPING=1"
            assert mta.end_of_message(b"body\r\n") == "accepted"
        assert milter.wait(30) == 0
    assert systemd.told_nothing()
    assert mails(tmp_path) == 1
    assert not pidfile.exists()
    assert not (tmp_path / "b.sock").exists()


def test_nearly_no_environment(tmp_path: Path, systemd: Systemd) -> None:
    """No HOME, no LANG, no PATH, LC_ALL=C, standard input closed; paths are shown all the same."""
    bare = {"LC_ALL": "C", "NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"]}
    with started(tmp_path, shell='exec "$@" <&-', env=bare, cwd="/") as milter:
        assert systemd.told() == "READY=1"
        with mail_under_way(tmp_path) as mta:
            assert mta.end_of_message(b"body\r\n") == "accepted"
        milter.send_signal(signal.SIGINT)
        assert milter.wait(30) == 0
        told = written(milter)
    assert f" spool={tmp_path}/spööl " in told
    assert ": stored file=" in told
    assert mails(tmp_path) == 1


@pytest.mark.parametrize("shell", ["", "<&- >&- 2>&-", "2>/dev/full"], ids=["left", "closed", "full"])
def test_log_that_cannot_be_written(tmp_path: Path, systemd: Systemd, shell: str) -> None:
    """Who read it left, or it is closed, or full: the mail goes on."""
    with started(tmp_path, shell=f'exec "$@" {shell}') as milter:
        assert milter.stderr
        milter.stderr.close()
        assert systemd.told() == "READY=1"
        with mail_under_way(tmp_path) as mta:
            assert mta.end_of_message(b"body\r\n") == "accepted"
        milter.terminate()
        assert milter.wait(30) == 0
    assert mails(tmp_path) == 1


def test_second_signal_ends_at_once(tmp_path: Path, systemd: Systemd) -> None:
    """And nothing is kept of a mail whose end has not come."""
    with started(tmp_path) as milter:
        assert systemd.told() == "READY=1"
        with mail_under_way(tmp_path):
            milter.terminate()
            assert systemd.told() == "STOPPING=1"
            milter.send_signal(signal.SIGINT)
            assert milter.wait(30) == 75
        told = written(milter)
    assert "ERROR: second signal: ended at once, mails under way were not answered\n" in told
    assert mails(tmp_path) == 0


# Wrong starts: main() in this process, which is quicker


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """The command, given its arguments: the exit code. Nothing of its settings stays here."""
    for module in (log, logtarget):
        monkeypatch.setattr(module, "_log", logging.getLogger("benno-test"))
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(service, "raise_descriptor_limit", lambda: None)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    def run(arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["benno-milter", *arguments.split()])
        try:
            return program.main()
        except SystemExit as ended:
            return ended.code

    return run


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, object]]:
    """A spool, a file, a Unix socket and a port where others listen."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as other, socket.create_server(("127.0.0.1", 0)) as server:
        other.bind(f"{tmp_path}/taken")
        other.listen()
        yield {"tmp": tmp_path, "port": server.getsockname()[1]}


PLACES = "-p unix:{tmp}/b.sock -o {tmp}/spool --min-free 0 --log stderr"
SPOOL = "-o {tmp}/spool --min-free 0 --log stderr"


@pytest.mark.parametrize("check", ["", " --check"])
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("", 64, "benno-milter: the following arguments are required: -p/--socket, -o/--output"),
        (SPOOL, 64, "benno-milter: the following arguments are required: -p/--socket"),
        (f"{PLACES} --nonsense", 64, "benno-milter: unrecognized arguments: --nonsense"),
        (f"{PLACES} -g grün", 64, "'grün': write a name of printable ASCII without blanks"),
        (f"{PLACES} -m 888", 64, "'888' is no octal mode like 660"),
        (f"{PLACES} --min-free 1X", 64, "'1X' is no size like 500M, 2G or 0"),
        (f"{PLACES} --log nowhere", 64, "invalid choice: 'nowhere'"),
        (f"{PLACES} --log syslog", 78, "--log: [Errno 2] no syslog listens there: '{tmp}/log'"),
        (f"-p inet:127.0.0.1:25 {SPOOL}", 78, "socket inet:127.0.0.1:25: write inet:25@127.0.0.1"),
        (f"-p {{tmp}}/b.sock {SPOOL}", 78, "socket '{tmp}/b.sock' is none of unix:PATH, "),
        (f"{PLACES} -o {{tmp}}/missing", 78, "ERROR: spool: {tmp}/missing: No such file or directory"),
        (f"{PLACES} -o {{tmp}}/file", 78, "ERROR: spool: {tmp}/file: Not a directory"),
        (
            f"-p unix:{{tmp}}/file {SPOOL}",
            78,
            "ERROR: socket {tmp}/file: there is something that is no",
        ),
        (f"-p unix:{{tmp}}/file/b {SPOOL}", 77, "ERROR: socket {tmp}/file/b: Not a directory"),
        (f"-p unix:{{tmp}}/taken {SPOOL}", 69, "ERROR: socket {tmp}/taken: another instance answers"),
        (f"-p inet:{{port}}@127.0.0.1 {SPOOL}", 69, "{port}@127.0.0.1: Address already in use"),
        (f"-p inet:0@192.0.2.1 {SPOOL}", 78, "inet:0@192.0.2.1: Cannot assign requested address"),
    ],
)
def test_wrong_start(
    main: Callable[[str], object],
    places: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: str,
    code: int,
    told: str,
    check: str,
) -> None:
    """The last line says why, and nothing is left behind; --check finds out the same."""
    monkeypatch.setattr(logtarget, "SYSLOG_SOCKET", f"{tmp_path}/log")
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments.format(**places) + check) == code
    output = capfd.readouterr()
    assert output.out == ""
    assert told.format(**places) in output.err.splitlines()[-1]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (
            f"{PLACES} -l {{tmp}}/missing/pid",
            73,
            "PID file {tmp}/missing/pid: No such file or directory",
        ),
        (f"-p unix:{{tmp}}/taken -l {{tmp}}/file {SPOOL}", 69, "another instance answers there"),
    ],
)
def test_wrong_start_and_the_pidfile(
    main: Callable[[str], object],
    places: dict[str, object],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: str,
    code: int,
    told: str,
) -> None:
    """Without one it does not start; and a second instance leaves that of the first alone."""
    (tmp_path / "file").write_text("the first one's")
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments.format(**places)) == code
    assert told.format(**places) in capfd.readouterr().err.splitlines()[-1]
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "the first one's"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_no_start(
    main: Callable[[str], object], capfd: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(option) == 0
    output = capfd.readouterr()
    assert "benno-milter" in output.out
    assert output.err == ""


def test_check(
    main: Callable[[str], object],
    places: dict[str, object],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(f"{PLACES} --check".format(**places)) == 0
    assert (
        f"INFO: checked socket=unix:{tmp_path}/b.sock spool={tmp_path}/spool " in capfd.readouterr().err
    )
    assert sorted(tmp_path.rglob("*")) == before
