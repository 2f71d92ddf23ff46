"""The start: options, what benno-smtp refuses to start with, and what it says then."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import receiver_daemon
from smtp import Client
from unprivileged import as_nobody, expect_that_it_ran, public_directory
from waiting import free_port

pytestmark = pytest.mark.slow


def start(*arguments: str, wrapper: Sequence[str] = ()) -> tuple[int, str]:
    """Start a receiver that ends by itself: exit code, and what it says."""
    command = [*wrapper, *receiver_daemon.command(), *arguments]
    ended = subprocess.run(command, stderr=subprocess.PIPE, timeout=60, check=False)
    return ended.returncode, ended.stderr.decode()


def start_with(tmp_path: Path, settings: str, *options: str, **more: Sequence[str]) -> tuple[int, str]:
    """With settings of its own, on an inbox that is there."""
    inbox = tmp_path / "inbox"
    inbox.mkdir(exist_ok=True)
    config = tmp_path / "benno-smtp.conf"
    config.write_text(receiver_daemon.configuration(inbox, settings))
    return start("-c", str(config), "--log", "stderr", *options, **more)


def test_options_win(tmp_path: Path) -> None:
    other, port = tmp_path / "other", free_port()
    other.mkdir()
    options = ("-p", str(port), "-d", str(other))
    with receiver_daemon.running(tmp_path / "inbox", options=options) as receiver:
        assert receiver.port == port
        with Client(port) as client:
            assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")
        assert receiver.files() == []
        assert len(list(other.glob("*.eml"))) == 1
        assert f"started version=3.0.0.dev0 import_directory={other} port={port} " in receiver.log


def test_directory_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands for one that the file does not have, and may be relative."""
    other, config = tmp_path / "other", tmp_path / "none.conf"
    other.mkdir()
    config.write_text(f'port = {free_port()}\nlisten = ["127.0.0.1"]\nmin_free = 0\n')
    monkeypatch.chdir(tmp_path)
    options = ("-c", str(config), "-d", "other")
    with receiver_daemon.running(tmp_path / "inbox", options=options) as receiver:
        assert f" import_directory={other} " in receiver.wait_for_log("started .*")


def test_an_old_file_in_latin_1(tmp_path: Path) -> None:
    inbox, old = tmp_path / "inbox", tmp_path / "old.conf"
    old.write_bytes(
        f"# Pr\xfcfen\nimport_directory = {inbox}\nport = {free_port()}\n".encode("latin-1")
    )
    with receiver_daemon.running(inbox, options=("-c", str(old))) as receiver:
        warning = receiver.wait_for_log("WARNING: .*not UTF-8.*")
        assert warning.endswith("old.conf: not UTF-8, taken for Latin-1; save the file as UTF-8")


def test_an_old_file_is_understood(tmp_path: Path) -> None:
    """With a warning that shows what to write, but no password."""
    inbox = tmp_path / "inbox"
    old = f"import_directory = {inbox}\nkey_file = /etc/key\nkey_pass = s3cret\n"
    with receiver_daemon.running(inbox, old) as receiver:
        with Client(receiver.port) as client:
            assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")
        assert len(receiver.files()) == 1
        warning = receiver.wait_for_log("WARNING: .*")
        assert "values without quotes, as the older program had them; write: " in warning
        assert f"import_directory = '{inbox}'" in warning.replace('"', "'")
        assert "key_pass = ..." in warning
        assert "s3cret" not in receiver.log


def test_all_addresses(tmp_path: Path) -> None:
    with receiver_daemon.running(tmp_path / "inbox", f"listen = []\nport = {free_port()}") as receiver:
        with Client(receiver.port) as client:
            assert client.command(b"NOOP").startswith("250")
        if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
            with socket.create_connection(("::1", receiver.port), 30) as six:
                assert six.recv(100).startswith(b"220 archive.test ESMTP")


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, said = start_with(tmp_path, f"port = {port}")
        assert code == os.EX_UNAVAILABLE
        assert f"socket inet:{port}@127.0.0.1: Address already in use" in said


WRONG = {
    "no such directory": (
        'import_directory = "{}/missing"',
        "import_directory: {}/missing: No such file",
    ),
    "a file": (
        'import_directory = "{}/benno-smtp.conf"',
        "import_directory: {}/benno-smtp.conf: Not a dir",
    ),
    "no such address": ('listen = ["192.0.2.1"]', "socket inet:"),
    "no such host": ('listen = ["no.such.host.invalid"]', "socket inet:"),
    "AUTH": (
        "auth_user = x\nauth_pass = s3cret",
        ": auth_user: passwords come under TLS only; write: tls_enabled = true",
    ),
    "AUTH without its file": (
        'auth_without_tls = true\nauth_file = "{}/none"',
        ": auth_file: {}/none: No such file or directory",
    ),
    "TLS without a key": (
        "tls_enabled = true",
        "tls_enabled: TLS needs a key; write: key_file = ",
    ),
    "TLS without its key": (
        'tls_enabled = true\nkey_file = "{}/none"',
        "key_file: {}/none: No such file or directory",
    ),
    "relative": (
        'import_directory = "rel/dir"',
        'import_directory: a path begins with /; write: import_directory = "/srv/benno/inbox"',
    ),
    "unknown key": ("prot = 1", ": prot: unknown key; did you mean port?"),
    "no TOML": ("port = 25x", ": port: "),
}


@pytest.mark.parametrize(("settings", "reason"), WRONG.values(), ids=WRONG)
def test_wrong_configuration(tmp_path: Path, settings: str, reason: str) -> None:
    code, said = start_with(tmp_path, settings.format(tmp_path))
    assert code == os.EX_CONFIG, said
    assert reason.format(tmp_path) in said
    assert "s3cret" not in said
    assert "Traceback" not in said


def test_no_configuration(tmp_path: Path) -> None:
    for options in ((), ("--check-config",)):
        code, said = start("-c", f"{tmp_path}/missing", *options)
        assert code == os.EX_CONFIG
        assert f": {tmp_path}/missing: No such file or directory" in said


@pytest.mark.parametrize("options", [("-x",), ("-p", "many"), ("more",), ("--check",)])
def test_wrong_options(options: Sequence[str]) -> None:
    code, said = start(*options)
    assert code == os.EX_USAGE
    assert "see --help" in said


@pytest.mark.parametrize(
    ("option", "reason"), [(("-p", "70000"), "port: "), (("-d", ""), "import_dir")]
)
def test_options_that_cannot_be_used(tmp_path: Path, option: Sequence[str], reason: str) -> None:
    code, said = start_with(tmp_path, "", *option)
    assert code == os.EX_USAGE
    assert reason in said


def test_directory_that_cannot_be_written() -> None:
    with public_directory() as public:
        (public / "inbox").mkdir(mode=0o555)
        code, said = start_with(public, "", wrapper=as_nobody())
        expect_that_it_ran(code, said)
        assert code == os.EX_NOPERM
        assert f"import_directory: {public}/inbox: Permission denied" in said
        assert "Traceback" not in said


def test_version() -> None:
    ended = subprocess.run(
        [*receiver_daemon.command(), "--version"], stdout=subprocess.PIPE, timeout=60, check=True
    )
    assert ended.stdout == b"benno-smtp 3.0.0.dev0\n"
