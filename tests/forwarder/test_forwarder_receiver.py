"""TLS, user and password between the forwarder and benno-smtp, both real."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import receiver_daemon
from certificates import Authority, Issued
from forwarding import COMMAND, ENVELOPE, MESSAGE, forward, names, put
from receiver_daemon import Receiver

pytestmark = pytest.mark.slow

ONE = ("--connections", "1")


def settings(issued: Issued, *more: str) -> str:
    lines = ["tls_enabled = true", f'cert_file = "{issued.cert}"', f'key_file = "{issued.key}"', *more]
    return "\n".join(lines)


def verify(authority: Authority, *more: str) -> list[str]:
    return ["--tls", "verify", "--ca-file", str(authority.cert), *more]


def stored(receiver: Receiver) -> list[tuple[bytes, tuple[bytes, ...], bytes]]:
    """What lies in the import directory; whether the receiver is content is seen too."""
    assert "unexpected" not in receiver.log
    return receiver.mails()


@pytest.mark.parametrize("kind", ["offered", "required", "implicit"])
@pytest.mark.parametrize("mode", ["opportunistic", "required", "verify"])
def test_tls(
    spool: Path, tmp_path: Path, authority: Authority, issued: Issued, mode: str, kind: str
) -> None:
    """Any octets, many connections; and the log of both says that it was TLS."""
    if kind == "implicit" and mode == "opportunistic":
        pytest.skip("it needs TLS")
    large = os.urandom(3_000_000)
    for _ in range(30):
        put(spool)
    put(spool, large)
    more = {"offered": [], "required": ["tls_required = true"], "implicit": ["tls_implicit = true"]}
    options = verify(authority) if mode == "verify" else ["--tls", mode]
    options += ["--tls-implicit"] if kind == "implicit" else []
    with receiver_daemon.running(tmp_path / "inbox", settings(issued, *more[kind])) as receiver:
        run = forward(spool, f"localhost:{receiver.port}", options=options)
        assert (run.code, names(spool)) == (0, []), run.log
        mails = stored(receiver)
        assert len(re.findall(r" stored .* tls=TLSv1\.3 ", receiver.log)) == 31
        assert "TLS with" not in receiver.log, "it ends as it should"
    message = {octets for _, _, octets in mails}
    assert (len(mails), message) == (31, {MESSAGE, large})
    assert {(sender, recipients) for sender, recipients, _ in mails} == {
        (ENVELOPE.sender, ENVELOPE.recipients)
    }
    assert " tls=TLSv1.3 " in run.log


def test_without_tls_where_it_is_required(spool: Path, tmp_path: Path, issued: Issued) -> None:
    name = put(spool)
    inbox = tmp_path / "inbox"
    with receiver_daemon.running(inbox, settings(issued, "tls_required = true")) as receiver:
        run = forward(spool, receiver.port)
        assert (run.code, names(spool), stored(receiver)) == (75, [name], []), run.log
    assert "it demands authentication or TLS: see BENNO_AUTH_FILE and BENNO_TLS" in run.log


@pytest.mark.parametrize("mode", ["opportunistic", "required", "verify"])
def test_without_tls_there(spool: Path, tmp_path: Path, authority: Authority, mode: str) -> None:
    name = put(spool)
    options = verify(authority) if mode == "verify" else ["--tls", mode]
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        run = forward(spool, receiver.port, options=options)
        if mode == "opportunistic":
            assert (run.code, len(stored(receiver))) == (0, 1), run.log
        else:
            assert (run.code, names(spool), stored(receiver)) == (75, [name], []), run.log
            assert "it does not offer STARTTLS" in run.log


@pytest.mark.parametrize("implicit", [True, False])
def test_another_way_of_tls(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, issued: Issued, implicit: bool
) -> None:
    """Implicit TLS where STARTTLS is expected, and the other way round."""
    name = put(spool)
    there = [] if implicit else ["tls_implicit = true"]
    here = ["--tls-implicit"] if implicit else []
    with receiver_daemon.running(tmp_path / "inbox", settings(issued, *there)) as receiver:
        options = ["--tls", "required", "--timeout", "1", *here]
        run = forward(spool, receiver.port, options=options)
        assert (run.code, names(spool), stored(receiver)) == (75, [name], []), run.log
    if implicit:
        assert "that was no TLS: see BENNO_TLS_IMPLICIT" in run.log
    else:
        assert "it did not greet us or answer EHLO for 1 s" in run.log


def test_a_certificate_of_another_name(spool: Path, tmp_path: Path, authority: Authority) -> None:
    name = put(spool)
    other = authority.issue("other.example")
    with receiver_daemon.running(tmp_path / "inbox", settings(other)) as receiver:
        run = forward(spool, receiver.port, options=verify(authority))
        assert (run.code, names(spool), stored(receiver)) == (75, [name], []), run.log
    assert "its certificate is not for 127.0.0.1" in run.log


def test_what_is_offered_under_tls(
    spool: Path, tmp_path: Path, authority: Authority, issued: Issued
) -> None:
    """The name of the file, and whether it leads back into the spool, are told there too."""
    name = put(spool)
    with receiver_daemon.running(tmp_path / "inbox", settings(issued)) as receiver:
        assert forward(spool, receiver.port, options=verify(authority)).code == 0
        assert f"{name}: stored" in receiver.log
    name = put(spool)
    with receiver_daemon.running(spool, settings(issued)) as receiver:
        run = forward(spool, receiver.port, options=verify(authority))
        assert run.code == 78, run.log
        assert (spool / name).exists()
    assert "writes into this spool" in run.log


def test_older_tls_there(spool: Path, tmp_path: Path, issued: Issued) -> None:
    put(spool)
    inbox = tmp_path / "inbox"
    with receiver_daemon.running(inbox, settings(issued, 'tls_min_version = "1.3"')) as receiver:
        assert forward(spool, receiver.port, options=("--tls", "required")).code == 0
        assert len(stored(receiver)) == 1


# User and password


def test_settings_of_the_mail_server(
    spool: Path, tmp_path: Path, password: Path, authority: Authority, issued: Issued
) -> None:
    """From the file that the administrator writes to the archive, through the script of cron."""
    put(spool)
    (tmp_path / "bin").mkdir()
    forwarder = tmp_path / "bin" / "benno-milter2smtp"
    forwarder.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} --log stderr "$@"\n')
    forwarder.chmod(0o755)
    script = tmp_path / "bin" / "benno-export2archive"
    shutil.copy(Path(__file__).parents[2] / "cron" / "benno-export2archive", script)
    file = tmp_path / "settings"
    with receiver_daemon.running(tmp_path / "inbox", settings(issued, *AUTH)) as receiver:
        file.write_text(
            f"SPOOLDIR={spool}\nBENNOHOST=localhost\nBENNOPORT={receiver.port}\nBENNO_TLS=verify\n"
            f"BENNO_CAFILE={authority.cert}\nBENNO_AUTH_FILE={password}\n"
        )
        done = subprocess.run(
            [script, "-c", file], capture_output=True, text=True, check=False, timeout=120
        )
        assert (done.returncode, names(spool), len(stored(receiver))) == (0, [], 1), done.stderr
    assert f"connected host=localhost:{receiver.port} tls=TLSv1.3 verified=yes" in done.stderr


AUTH = ('auth_user = "me"', 'auth_pass = "secret word"')


@pytest.mark.parametrize("implicit", [False, True])
def test_user_and_password(
    spool: Path, tmp_path: Path, password: Path, authority: Authority, issued: Issued, implicit: bool
) -> None:
    for _ in range(30):
        put(spool)
    there = (*AUTH, "tls_implicit = true") if implicit else AUTH
    options = verify(authority, "--auth-file", str(password), *(["--tls-implicit"] if implicit else []))
    with receiver_daemon.running(tmp_path / "inbox", settings(issued, *there)) as receiver:
        run = forward(spool, receiver.port, options=options)
        assert (run.code, names(spool), len(stored(receiver))) == (0, [], 30), run.log
        assert "secret" not in run.log + receiver.log


@pytest.mark.parametrize("given", ["wrong", "none"])
def test_a_wrong_password_or_none(
    spool: Path, tmp_path: Path, password: Path, authority: Authority, issued: Issued, given: str
) -> None:
    kept = sorted(put(spool) for _ in range(30))
    password.write_text("user=me\npassword=secret guess\n")
    auth = ["--auth-file", str(password)] if given == "wrong" else []
    with receiver_daemon.running(tmp_path / "inbox", settings(issued, *AUTH)) as receiver:
        run = forward(spool, receiver.port, options=verify(authority, *auth))
        assert (run.code, names(spool), stored(receiver)) == (75, kept, []), run.log
        assert "secret" not in run.log + receiver.log
    code = "535" if given == "wrong" else "530"
    assert run.log.count(f"takes no mail: {code} ") == 1
    assert "see BENNO_AUTH_FILE" in run.log


@pytest.mark.parametrize("shown", [True, False])
def test_our_certificate(
    spool: Path, tmp_path: Path, authority: Authority, issued: Issued, shown: bool
) -> None:
    """Where benno-smtp takes mail only from those who show one."""
    name = put(spool)
    there = ["tls_required = true", f'client_ca_file = "{authority.cert}"']
    ours = authority.issue("mail.example")
    options = ["--cert-file", str(ours.cert), "--key-file", str(ours.key)] if shown else []
    with receiver_daemon.running(tmp_path / "inbox", settings(issued, *there)) as receiver:
        run = forward(spool, receiver.port, options=verify(authority, *options))
        expected = (0, []) if shown else (75, [name])
        assert (run.code, names(spool)) == expected, run.log
        assert len(stored(receiver)) == shown
