"""The start: what the daemon refuses to start with, what it says then, and what `--check` looks at."""

from __future__ import annotations

import logging
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import daemon
from benno_milter import program
from load import send
from mta import MTA
from unprivileged import as_nobody, expect_that_it_ran, public_directory
from waiting import free_port, wait_for

pytestmark = pytest.mark.slow


def start(*arguments: str, wrapper: Sequence[str] = ()) -> tuple[int, str]:
    """Start a daemon that ends by itself: exit code, and what it says."""
    command = [*wrapper, *daemon.COMMAND, "--log", "stderr", *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    return done.returncode, done.stderr


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    spool = tmp_path / "spool"
    spool.mkdir()
    return spool


def test_no_such_directory(tmp_path: Path) -> None:
    code, said = start("-p", f"unix:{tmp_path}/sock", "-o", f"{tmp_path}/missing")
    assert code == os.EX_CONFIG
    assert f"spool: {tmp_path}/missing: No such file or directory" in said
    assert os.listdir(tmp_path) == []


def test_directory_that_is_not_writable() -> None:
    with public_directory() as public:
        (public / "spool").mkdir(mode=0o555)
        arguments = ("-p", f"unix:{public}/sock", "-o", f"{public}/spool")
        code, said = start(*arguments, wrapper=as_nobody())
        expect_that_it_ran(code, said)
        assert code == os.EX_NOPERM
        assert f"spool: {public}/spool: Permission denied" in said
        assert os.listdir(public) == ["spool"]


def test_something_else_at_the_socket_path(tmp_path: Path, spool: Path) -> None:
    (tmp_path / "sock").write_text("precious")
    code, said = start("-p", f"unix:{tmp_path}/sock", "-o", str(spool))
    assert code == os.EX_CONFIG
    assert f"socket {tmp_path}/sock: there is something that is no socket; remove it" in said
    assert (tmp_path / "sock").read_text() == "precious"


def test_second_instance(tmp_path: Path) -> None:
    """It goes, and the first one is as it was."""
    with daemon.running(tmp_path / "spool") as milter:
        code, said = start("-p", milter.socket, "-o", str(milter.spool))
        assert code == os.EX_UNAVAILABLE
        assert "another instance answers there" in said
        with MTA(milter.address) as mta:
            mta.negotiate()
            assert mta.deliver(b"<a>", [b"<b>"], [], b"x") == "accepted"


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "spool.sock"))
    with daemon.running(tmp_path / "spool", "-m", "606") as milter, MTA(milter.address) as mta:
        mta.negotiate()
        assert mta.deliver(b"<a>", [b"<b>"], [], b"x") == "accepted"
        assert stat.S_IMODE(os.stat(tmp_path / "spool.sock").st_mode) == 0o606
        assert milter.stop() == 0
        assert not os.path.lexists(tmp_path / "spool.sock")


def test_pidfile_that_cannot_be_written(tmp_path: Path, spool: Path) -> None:
    pidfile = f"{tmp_path}/missing/pid"
    code, said = start("-p", f"unix:{tmp_path}/sock", "-o", str(spool), "-l", pidfile)
    assert code == os.EX_CANTCREAT
    assert f"PID file {pidfile}: No such file or directory" in said
    assert os.listdir(tmp_path) == ["spool"], "the socket is taken away again"


def test_what_it_makes_and_takes_away(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    options = ("-t -g gw1", "", "-l", str(pidfile))
    with daemon.running(tmp_path / "spool", *options) as milter:
        assert pidfile.read_text() == f"{milter.pid}\n"
        with MTA(milter.address) as mta:
            mta.negotiate()
            assert mta.deliver(b"<a/b@c>", [b"<d>"], [], b"x") == "accepted"
        (file,) = milter.files()
        assert ".a_b@c.S=" in file.name
        assert b"\r\nX-BENNO-GW: gw1\r\n" in file.read_bytes()
        assert "gateway=gw1 socket_mode=660 min_free=0 label_names=True" in milter.log
        assert milter.stop() == 0
    assert sorted(os.listdir(tmp_path)) == ["spool", "spool.log"]


# --check does all of it, and leaves nothing behind.

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Check]:
    """`--check` in this process: exit code, and what it says."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["benno-milter", "--check", "--log", "stderr", *arguments])
        return program.main(), capfd.readouterr().err

    logger = logging.getLogger("benno")
    handlers, propagate, level = list(logger.handlers), logger.propagate, logger.level
    yield run
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def test_check(check: Check, tmp_path: Path, spool: Path) -> None:
    code, said = check("-p", f"unix:{tmp_path}/sock", "-o", str(spool), "--min-free", "0")
    assert code == 0
    assert f"INFO: checked socket=unix:{tmp_path}/sock spool={spool} " in said
    assert "refused" not in said
    assert os.listdir(tmp_path) == ["spool"]
    assert os.listdir(spool) == []


def test_check_tells_a_shortage(check: Check, tmp_path: Path, spool: Path) -> None:
    code, said = check("-p", f"unix:{tmp_path}/sock", "-o", str(spool), "--min-free", "9999999T")
    assert code == 0
    assert f"WARNING: {spool}: new mail is refused until there is space: " in said
    assert f"octets free, {9999999 << 40} are kept in reserve" in said


def test_a_mail_is_told_to_who_waits_for_it(tmp_path: Path) -> None:
    pending = tmp_path / "pending"
    with daemon.running(tmp_path / "spool", "--pending", str(pending)) as milter:
        assert not pending.exists()
        for _ in range(2):
            assert send(milter.address) == "accepted"
            wait_for(pending.exists, "the file")
            pending.unlink()


def test_a_shortage_is_told_at_the_start(tmp_path: Path) -> None:
    with daemon.running(tmp_path / "spool", "--min-free", "9999999T") as milter:
        assert "new mail is refused until there is space: " in milter.log


def test_check_finds_that_the_pid_file_cannot_be_written(
    check: Check, tmp_path: Path, spool: Path
) -> None:
    code, said = check("-p", f"unix:{tmp_path}/sock", "-o", str(spool), "-l", "/nowhere/pid")
    assert code == os.EX_CANTCREAT
    assert "PID file /nowhere/pid: it or its directory cannot be written" in said


def test_check_with_a_port(check: Check, spool: Path) -> None:
    code, said = check("-p", f"inet:{free_port()}@127.0.0.1", "-o", str(spool))
    assert code == 0
    assert "allow=127.0.0.0/8," in said


def test_check_with_a_port_in_use(check: Check, spool: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"inet:{other.getsockname()[1]}@127.0.0.1"
        code, said = check("-p", address, "-o", str(spool))
        assert code == os.EX_UNAVAILABLE
        assert f"socket {address}: Address already in use" in said


def test_check_with_a_socket_that_answers(check: Check, tmp_path: Path, spool: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "sock"))
        other.listen()
        code, said = check("-p", f"unix:{tmp_path}/sock", "-o", str(spool))
        assert code == os.EX_UNAVAILABLE
        assert "another instance answers there" in said


def test_check_leaves_a_stale_socket(check: Check, tmp_path: Path, spool: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "sock"))
    code, _ = check("-p", f"unix:{tmp_path}/sock", "-o", str(spool))
    assert code == 0
    assert os.path.lexists(tmp_path / "sock")


# What is wrong below the test's directory: socket, spool, exit code, and what is said.
WRONG = {
    "no spool": ("sock", "missing", os.EX_CONFIG, "spool: {}/missing: No such file or directory"),
    "the spool is a file": ("sock", "file", os.EX_CONFIG, "spool: {}/file: Not a directory"),
    "the socket is a file": ("file", "spool", os.EX_CONFIG, "something that is no socket"),
    "the socket is a directory": ("spool", "spool", os.EX_CONFIG, "something that is no socket"),
    "the socket is a link": ("link", "spool", os.EX_CONFIG, "something that is no socket"),
    "no directory for the socket": ("missing/sock", "spool", os.EX_NOPERM, "{}/missing does not exist"),
}


@pytest.mark.parametrize(("where", "output", "code", "reason"), WRONG.values(), ids=WRONG)
def test_check_finds(
    check: Check, tmp_path: Path, spool: Path, where: str, output: str, code: int, reason: str
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = sorted(os.listdir(tmp_path))
    found, said = check("-p", f"unix:{tmp_path}/{where}", "-o", f"{tmp_path}/{output}")
    assert (found, reason.format(tmp_path) in said) == (code, True), said
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "file").read_text() == "precious"


def test_values_that_cannot_be_used(check: Check, spool: Path) -> None:
    code, said = check("-p", "inet:127.0.0.1:22500", "-o", str(spool))
    assert (code, said) == (
        os.EX_CONFIG,
        "benno-milter: socket inet:127.0.0.1:22500: write inet:22500@127.0.0.1\n",
    )
