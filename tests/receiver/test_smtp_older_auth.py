"""AUTH in files of the older program, which knew nothing of TLS for it, and in those of today."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import receiver_daemon
from benno_common import config
from benno_smtp import older, program
from benno_smtp.properties import convert
from benno_smtp.settings import Settings
from smtp import Client
from waiting import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TEMPLATE = (ROOT / "smtp_receiver" / "benno-smtp.conf").read_text()
POSTINST = (ROOT / "debian" / "benno-smtp.postinst").read_text()
UPGRADED = POSTINST.partition("cat <<END\n")[2].partition("END\n")[0]

HEARD = "auth_without_tls = true"
AUTH = "auth_user = archive\nauth_pass = s3cret\n"
OLD = f"port = 2500\nimport_directory = /srv/benno/inbox\nenvelope_header = true\n{AUTH}"
RIGHT = b"AUTH PLAIN AGFyY2hpdmUAczNjcmV0"


def parse(text: str) -> tuple[Settings, str]:
    """The settings, and the file as it should be written."""
    settings, converted = older.parse(convert(text, Settings), "benno-smtp.conf", {})
    return settings, converted.text


def test_it_goes_on(tmp_path: Path) -> None:
    """With a warning, and the line to write; no password is in it."""
    inbox, old = tmp_path / "inbox", tmp_path / "old.conf"
    old.write_text(f"import_directory = {inbox}\nport = {free_port()}\n{AUTH}")
    old.chmod(0o640)
    with receiver_daemon.running(inbox, options=("-c", str(old))) as receiver:
        with Client(receiver.port) as client:
            assert client.command(b"MAIL FROM:<a@b>").startswith("530")
            assert client.command(RIGHT).startswith("235")
            assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")
        assert f"{old}: passwords come in plain text, as with the older program" in receiver.log
        assert f"{HEARD}, import_directory = " in receiver.log
        assert "s3cret" not in receiver.log
        assert "everybody on this host" not in receiver.log


@pytest.mark.parametrize("before", ["", UPGRADED], ids=["as it was", "with the package's lines"])
def test_what_it_meant(before: str) -> None:
    settings, text = parse(before + OLD)
    assert settings.auth_without_tls
    assert text.count(HEARD) == 1
    again, printed = parse(text)
    assert (again, printed) == (settings, text), "what is printed says the same"


# As files of the older program too, but nothing is heard in plain text.
NOT_HEARD = {
    "no AUTH": OLD.replace(AUTH, ""),
    "AUTH without a name": OLD.replace(AUTH, "auth_user =\nauth_pass =\n"),
    "TLS": f"{OLD}tls_enabled = true\nkey_file = /k\n",
}


@pytest.mark.parametrize("text", NOT_HEARD.values(), ids=NOT_HEARD)
def test_what_it_did_not_mean(text: str) -> None:
    settings, printed = parse(text)
    assert not settings.auth_without_tls
    assert HEARD not in printed
    assert settings.allowed_networks == ("0.0.0.0/0", "::/0")


TODAY = {
    "a key of today": f"{OLD}hostname = archive.test\n",
    "as it is installed": TEMPLATE.replace('"/srv/benno/inbox"', "/srv/benno/inbox") + AUTH,
    "it says so": f"{OLD}auth_without_tls = false\n",
    "it says so in a comment": f"{OLD}# no auth_without_tls here\n",
    "quotes": OLD.replace("/srv/benno/inbox", '"/srv/benno/inbox"'),
}


@pytest.mark.parametrize("text", TODAY.values(), ids=TODAY)
def test_forgotten_quotes_open_nothing(text: str) -> None:
    with pytest.raises(config.ConfigError, match="auth_user: passwords come under TLS only"):
        parse(text)


def test_check_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed can be used; that others can read the password is told beside it."""
    file = tmp_path / "benno-smtp.conf"
    file.write_text(OLD)
    monkeypatch.setattr("sys.argv", ["benno-smtp", "-c", str(file), "--check-config"])
    for mode, said in (
        (0o644, f"benno-smtp: {file}: everybody on this host can read auth_pass;"),
        (0o640, ""),
    ):
        file.chmod(mode)
        assert program.main() == os.EX_OK
        printed = capsys.readouterr()
        assert printed.err.startswith(said)
        assert bool(printed.err) == bool(said)
        assert "s3cret" not in printed.err
        settings = config.parse(printed.out, "benno-smtp.conf", Settings)
        assert (settings.auth_user, settings.auth_pass) == ("archive", "s3cret")
        assert settings.auth_without_tls


def test_check_config_and_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files that it names are looked at too."""
    file = tmp_path / "benno-smtp.conf"
    users = tmp_path / "users"
    file.write_text(
        f'import_directory = "/srv/benno/inbox"\nauth_without_tls = true\nauth_file = "{users}"\n'
    )
    monkeypatch.setattr("sys.argv", ["benno-smtp", "-c", str(file), "--check-config"])
    for text, said in ((None, "No such file or directory"), ("archive:s3cret\n", ":1: no user with a")):
        if text:
            users.write_text(text)
        assert program.main() == os.EX_CONFIG
        printed = capsys.readouterr().err
        assert printed.startswith(f"benno-smtp: {file}:3: auth_file: {users}")
        assert said in printed
        assert "s3cret" not in printed
