"""Who may connect: by default, as configured, and as it was with a file of the older program."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import socket
from pathlib import Path
from typing import cast

import pytest

import receiver_daemon
from benno_common import config
from benno_common.config import ConfigError
from benno_common.maildrop import MailDrop
from benno_common.networks import DEFAULT, Networks
from benno_smtp import program
from benno_smtp.session import Session
from benno_smtp.settings import Settings
from benno_smtp.shared import Shared
from smtp import Client
from waiting import free_port

pytestmark = pytest.mark.slow

INBOX = 'import_directory = "/srv/benno/inbox"\n'
REFUSED = "554 5.7.1 The mail archive does not take mail from your address"
OPEN = 'allowed_networks = ["0.0.0.0/0", "::/0"]'

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "smtp_receiver" / "benno-smtp.conf"

# What the package's postinst writes before an old file.
POSTINST = (ROOT / "debian" / "benno-smtp.postinst").read_text()
UPGRADED = POSTINST.partition("cat <<END\n")[2].partition("END\n")[0]

# By default, an address of each network that may, and their neighbours.
INSIDE = (
    *("127.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.1.1"),
    *("::1", "fc00::1", "fdff::1", "fe80::1%eth0", "::ffff:10.0.0.1"),
)
OUTSIDE = (
    *("126.0.0.1", "11.0.0.1", "172.15.0.1", "172.32.0.1", "192.169.0.1", "169.253.0.1", "192.0.2.1"),
    *("::2", "fe00::1", "fec0::1", "2001:db8::1", "2001:db8::1%eth0", "::ffff:192.0.2.1", "unknown"),
)


def test_default() -> None:
    allowed = config.parse(INBOX, "benno-smtp.conf", Settings).make_allowed()
    assert [client for client in INSIDE if client not in allowed] == []
    assert [client for client in OUTSIDE if client in allowed] == []


def test_default_is_what_the_daemon_starts_with(tmp_path: Path) -> None:
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        expected = f"allowed_networks={Networks()} "
        assert expected in receiver.wait_for_log("started .*")
        with Client(receiver.port) as client:
            assert client.replies[0].startswith("220 ")


def test_client_that_is_not_allowed(tmp_path: Path) -> None:
    """It is told at once, and the log has the line to write, once; with that line it may."""
    inbox = tmp_path / "inbox"
    with receiver_daemon.running(inbox, 'allowed_networks = ["10.0.0.0/8", "::1"]') as receiver:
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", receiver.port), 30) as client:
                assert client.makefile("rb").read() == f"{REFUSED}\r\n".encode()
        line = receiver.wait_for_log("refused: to allow it too, write .*").partition("write ")[2]
        assert receiver.stop() == 0
        assert len(re.findall("WARNING: connect from 127.0.0.1 refused: ", receiver.log)) == 1
        assert "ERROR" not in receiver.log
    assert line == 'allowed_networks = ["10.0.0.0/8", "::1/128", "127.0.0.1"]'
    with receiver_daemon.running(inbox, line) as receiver:
        with Client(receiver.port) as client:
            assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")
        assert len(receiver.files()) == 1


def test_commands_that_did_not_wait_for_the_greeting() -> None:
    """Nothing of them is looked at."""

    async def talk() -> bytes:
        shared = Shared(cast(MailDrop, None), allowed=Networks(["10.0.0.0/8"]))
        server = await asyncio.get_running_loop().create_server(lambda: Session(shared), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"EHLO c\r\nMAIL FROM:<a@b>\r\n")
            seen = b""
            try:
                while data := await reader.read(1000):
                    seen += data
            except ConnectionError:  # the server closed without reading
                pass
            finally:
                writer.close()
            await asyncio.wait_for(shared.empty.wait(), 30)
            return seen

    assert asyncio.run(asyncio.wait_for(talk(), 30)) in {b"", f"{REFUSED}\r\n".encode()}


def test_line_for_a_client_of_a_link(caplog: pytest.LogCaptureFixture) -> None:
    """The name of a network interface is no part of a network."""
    shared = Shared(cast(MailDrop, None), allowed=Networks(["10.0.0.0/8"]))
    assert not shared.admits("fe80::1%eth0")
    (line,) = caplog.messages
    assert line.endswith('allowed_networks = ["10.0.0.0/8", "fe80::1"]')


WRONG = {
    "[]": 'allowed_networks: nobody could connect; write: allowed_networks = ["10.0.0.0/8"]',
    '["mail.example.org"]': "allowed_networks: 'mail.example.org' is no network like 10.1.0.0/16",
    '["10.0.0.1/8"]': "allowed_networks: '10.0.0.1/8' is no network like 10.1.0.0/16",
    '"10.0.0.0/8"': "allowed_networks: a string is not an array of strings",
    "10.0.0.0/8": "allowed_networks: ",
}


@pytest.mark.parametrize(("value", "complaint"), WRONG.items(), ids=WRONG)
def test_complaint(value: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(f"{INBOX}allowed_networks = {value}\n", "benno-smtp.conf", Settings)
    assert str(caught.value).startswith(f"benno-smtp.conf:2: {complaint}"), caught.value


# Files of the older program: as open as they were


def test_old_file_stays_open(tmp_path: Path) -> None:
    inbox, old = tmp_path / "inbox", tmp_path / "old.conf"
    old.write_text(f"import_directory = {inbox}\nport = {free_port()}\n")
    with receiver_daemon.running(inbox, options=("-c", str(old))) as receiver:
        assert "allowed_networks=0.0.0.0/0,::/0 " in receiver.wait_for_log("started .*")
        warning = receiver.wait_for_log("everybody who reaches .*")
        assert warning.endswith("name your mail servers in allowed_networks")
        assert OPEN.replace('"', "'") in receiver.log.replace('"', "'")  # the lines to write


def test_old_file_that_names_networks(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    settings = f'import_directory = {inbox}\nallowed_networks = ["127.0.0.0/8"]\n'
    with receiver_daemon.running(inbox, settings) as receiver:
        assert "allowed_networks=127.0.0.0/8 " in receiver.wait_for_log("started .*")
        assert "everybody" not in receiver.log


# As the older program had it, and what an administrator may have changed.
OLD = """\
# Server port
port = 2500
# save eml files in import directory
import_directory = /srv/benno/inbox
# write envelope information as X-REAL-* header
envelope_header = true
# enables SMTP AUTH if auth_user && auth_pass is set
#auth_user = user
"""
OLD_FILES = {
    "as it was": OLD,
    "only the directory": "import_directory = /a\n",
    "only the directory, behind a colon": "import_directory: /a\n",
    "every key": OLD
    + "tls_enabled = false\ntls_required = FALSE\nkey_file = /k\nkeystore_pass = x\nkey_pass = y\n"
    "auth_user =\nauth_pass =\n",
    "Windows": OLD.replace("\n", "\r\n"),
    "Latin-1": "# Prüfen\n" + OLD,
}


def checked(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """What --check-config returns."""
    file = tmp_path / "benno-smtp.conf"
    file.write_bytes(text.encode("latin-1"))
    monkeypatch.setattr("sys.argv", ["benno-smtp", "-c", str(file), "--check-config", *options])
    return program.main()


@pytest.mark.parametrize("text", OLD_FILES.values(), ids=OLD_FILES)
def test_old_file_is_printed_open(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once."""
    for _ in range(2):
        assert checked(text, tmp_path, monkeypatch) == os.EX_OK
        text = capsys.readouterr().out.encode().decode("latin-1")
        assert text.startswith(f"{OPEN}\n")
        assert text.count("allowed_networks") == 1


# Files of today in which quotes were forgotten, or old ones that somebody has brought up to date.
NEW_FILES = {
    "quotes forgotten elsewhere": f"{INBOX}hostname = archive.example.org\n",
    "quotes forgotten in an old key": f"{INBOX}key_file = /k\n",
    "quotes forgotten in a new key": "import_directory = /a\nhostname = archive.example.org\n",
    "TOML but for the directory": 'import_directory = /a\ntrusted_gateways = ["10.0.0.1"]\n',
    "a table": 'import_directory = /a\n[gateways]\n"::1" = "x"\n',
    "true in upper case": f"{INBOX}envelope_header = True\n",
    "a colon": f"{INBOX}port: 2500\n",
    "a comment of the older program": f"! {INBOX}{INBOX}",
    "no directory": "port: 2500\n",
    "as it is installed": TEMPLATE.read_text().replace(INBOX, "import_directory = /srv/benno/inbox\n"),
    "upgraded, and the line taken out": re.sub("allowed_networks = .*\n", "", UPGRADED) + OLD,
}


@pytest.mark.parametrize("text", NEW_FILES.values(), ids=NEW_FILES)
def test_forgotten_quotes_open_nothing(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(text, tmp_path, monkeypatch, "-d", "/a") == os.EX_OK
    printed = capsys.readouterr().out
    assert not re.search("^allowed_networks", printed, re.MULTILINE)
    assert printed != text
    settings = config.parse(printed, "benno-smtp.conf", Settings, {"import_directory": "/a"})
    assert settings.make_allowed().smallest == Networks().smallest
    assert "192.0.2.1" not in settings.make_allowed()


def test_upgrade_names_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the Debian package writes before an old file."""
    assert checked(UPGRADED + OLD, tmp_path, monkeypatch) == os.EX_OK
    settings = config.parse(capsys.readouterr().out, "benno-smtp.conf", Settings)
    assert settings.allowed_networks == ("0.0.0.0/0", "::/0")


def test_forgotten_quotes_and_a_stranger(tmp_path: Path) -> None:
    with receiver_daemon.running(tmp_path / "inbox", "gateway = branch\n") as receiver:
        assert f"allowed_networks={Networks()} " in receiver.wait_for_log("started .*")
        assert "values without quotes" in receiver.log
        assert "everybody" not in receiver.log


def test_template_shows_the_default() -> None:
    text = re.sub(r"^#(?=[a-z]+_|    |\])", "", TEMPLATE.read_text(), flags=re.MULTILINE)
    settings = config.parse(text.partition("# TLS")[0], "benno-smtp.conf", Settings)
    assert settings.allowed_networks == DEFAULT


def test_template_shows_all_keys_and_their_defaults() -> None:
    """Those in comments too, but for examples of what has no default."""
    lines = re.findall(r"^#?([a-z_]+ = [^\[{].*)", TEMPLATE.read_text(), re.MULTILINE)
    shown = {line.partition(" ")[0] for line in lines}
    settings = Settings("/srv/benno/inbox")
    for line in lines:
        key = line.partition(" ")[0]
        default = getattr(settings, key)
        if default is None or key in {"tls_enabled", "hostname"}:
            continue
        text = line if key == "import_directory" else f"{INBOX}{line}\n"
        assert config.parse(text, "benno-smtp.conf", Settings) == settings, line
    tables = {"listen", "allowed_networks", "gateways", "trusted_gateways"}
    assert shown | tables == {field.name for field in dataclasses.fields(Settings)}
