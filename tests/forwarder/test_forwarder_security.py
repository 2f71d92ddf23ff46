"""TLS and password, as they are wanted: what fits together, the files, and what is said of bad ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa as rsa_keys
from hypothesis import given
from hypothesis import strategies as st

from benno_common.service import Exit
from benno_milter2smtp import credentials as credentials_module
from benno_milter2smtp import options
from benno_milter2smtp.credentials import MOST, Credentials, read_credentials
from benno_milter2smtp.reply import Reply
from benno_milter2smtp.route import Host
from benno_milter2smtp.security import SETTINGS, Security
from benno_milter2smtp.tls import Tls, server_name
from certificates import Authority, Issued
from forwarding import forward, names, put

PREFIX = ["--spool", "/spool"]


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(Exit) as caught:
        act()
    assert caught.value.code == 78
    return caught.value.reason


# Options


@pytest.mark.parametrize(
    ("given_options", "wanted"),
    [
        ([], Security()),
        (["--tls", "off"], Security()),
        (["--tls", "opportunistic"], Security("opportunistic")),
        (["--tls=required", "--auth-file", "/a"], Security("required", auth_file="/a")),
        (["--tls=verify", "--ca-file", "/c"], Security("verify", ca_file="/c")),
        (["--tls=verify", "--tls-implicit"], Security("verify", implicit=True)),
        (["--tls=required", "--tls-implicit"], Security("required", implicit=True)),
        (["--tls=required", "--cert-file=/c"], Security("required", cert_file="/c")),
        (
            ["--tls=opportunistic", "--cert-file=/c", "--key-file=/k"],
            Security("opportunistic", cert_file="/c", key_file="/k"),
        ),
    ],
)
def test_options(given_options: list[str], wanted: Security) -> None:
    assert options.parse([*PREFIX, *given_options, "host"]).security == wanted


@pytest.mark.parametrize(
    ("given_options", "reason"),
    [
        (["--tls", "on"], "--tls (BENNO_TLS): 'on' is none of off, opportunistic, required, verify"),
        (["--tls", "Verify"], "--tls (BENNO_TLS): 'Verify' is none of"),
        (["--tls", ""], "--tls (BENNO_TLS): '' is none of"),
        (["--tls-implicit"], "--tls-implicit (BENNO_TLS_IMPLICIT): it needs BENNO_TLS=verify"),
        (["--tls-implicit", "--tls=opportunistic"], "it needs BENNO_TLS=verify, or required"),
        (["--ca-file=/c"], "--ca-file (BENNO_CAFILE): certificates are verified with BENNO_TLS=verify"),
        (["--ca-file=/c", "--tls=required"], "--ca-file (BENNO_CAFILE): "),
        (["--cert-file=/c"], "--cert-file (BENNO_CERT_FILE): TLS is off"),
        (["--key-file=/c", "--tls=verify"], "--key-file (BENNO_KEY_FILE): a certificate belongs to it"),
        (["--auth-file=/c"], "--auth-file (BENNO_AUTH_FILE): a password is never sent in plain text"),
        (
            ["--auth-file=/c", "--tls=opportunistic"],
            "is never sent in plain text: set BENNO_TLS=verify",
        ),
        (["--port", "0"], "--port (BENNOPORT): '0' is no number from 1 to 65535"),
        (["--port", "65536"], "--port (BENNOPORT): "),
        (["--port", "smtp"], "--port (BENNOPORT): "),
        (["--port", ""], "--port (BENNOPORT): "),
        (["--port", "\u0665"], "--port (BENNOPORT): "),
    ],
)
def test_what_does_not_fit_together(given_options: list[str], reason: str) -> None:
    assert reason in refusal(lambda: options.parse([*PREFIX, *given_options, "host"]))


@pytest.mark.parametrize("option", ["--ca-file", "--cert-file", "--key-file", "--auth-file"])
def test_a_file_without_a_name(spool: Path, option: str) -> None:
    run = forward(spool, "host", options=["--tls", "verify", option, ""])
    assert (run.code, f"{option}: the file has no name" in run.log) == (64, True)


def test_port() -> None:
    """Of hosts that stand there without one."""
    hosts = options.parse([*PREFIX, "--port", "587", "a", "b:25", "[::1]"]).hosts
    assert hosts == [Host("a", 587), Host("b", 25), Host("::1", 587)]
    assert options.parse([*PREFIX, "a"]).hosts == [Host("a", 2500)]


def test_each_option_has_its_setting() -> None:
    script = (Path(__file__).parents[2] / "cron" / "benno-export2archive").read_text()
    template = (Path(__file__).parents[2] / "milter" / "benno-milter.default").read_text()
    for option, setting in SETTINGS.items():
        assert setting in script and option.removeprefix("--") in script
        assert f"#{setting}=" in template


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("archive.example", "archive.example"),
        ("archive.example.", "archive.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_server_names(host: str, name: str) -> None:
    assert server_name(host) == name


# The file with the password


GOOD = {
    b"user=me\npassword=word\n": (b"me", b"word"),
    b"password=word\nuser=me": (b"me", b"word"),
    b"  user = me \r\n\tpassword\t=\tword\t\r\n": (b"me", b"word"),
    b"# who\n\nuser=me\n   # and what\npassword=word\n\n": (b"me", b"word"),
    b"user=me\npassword=#word # it is\n": (b"me", b"#word # it is"),
    b"user=me\npassword= two  words \n": (b"me", b"two  words"),
    b"user=\"me\"\npassword=' word '\n": (b"me", b" word "),
    b'user=me\npassword="""\n': (b"me", b'"'),
    b"user=me\npassword='it's'\n": (b"me", b"it's"),
    b'user=me\npassword="word\n': (b"me", b'"word'),
    b"user=me\npassword=a=b\\n$HOME\n": (b"me", b"a=b\\n$HOME"),
    "user=m\u00fcller\npassword=\u00fc\u00df\n".encode(): (
        "m\u00fcller".encode(),
        "\u00fc\u00df".encode(),
    ),
    b"user=\xfc\npassword=\xff\xfe\n": (b"\xfc", b"\xff\xfe"),
}


def written(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    file = directory / "auth"
    file.write_bytes(content)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(("content", "expected"), GOOD.items(), ids=map(str, range(len(GOOD))))
def test_reading(tmp_path: Path, content: bytes, expected: tuple[bytes, bytes]) -> None:
    assert read_credentials(str(written(tmp_path, content))) == Credentials(*expected)


BAD = {
    b"": "user is missing: write user=...",
    b"user=me\n": "password is missing: write password=...",
    b"password=word\n": "user is missing",
    b"user=\npassword=word\n": "user is missing",
    b"user=me\npassword=\n": "password is missing",
    b"user=me\npassword=''\n": "password is missing",
    b"me:word\n": "line 1: write user=NAME and password=WORD",
    b"user=me\npassword=word\nmore word\n": "line 3: ",
    b"user=me\nuser=you\npassword=word\n": "line 2: ",
    b"User=me\npassword=word\n": "line 1: ",
    b"user=me\npassword=wo\0rd\n": "password has a NUL in it",
    b"user=me\npassword=" + b"word" * MOST: f"it is longer than {MOST} octets",
}


@pytest.mark.parametrize(("content", "reason"), BAD.items(), ids=map(str, range(len(BAD))))
def test_what_cannot_be_read(tmp_path: Path, content: bytes, reason: str) -> None:
    """The error says where it is wrong, and never what stands there."""
    file = written(tmp_path, content)
    told = refusal(lambda: read_credentials(str(file)))
    assert told.startswith(f"--auth-file (BENNO_AUTH_FILE): {file}: {reason}")
    assert "word" not in told.replace("password", "")


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_rights_that_will_do(tmp_path: Path, mode: int) -> None:
    file = written(tmp_path, b"user=me\npassword=word\n", mode)
    assert read_credentials(str(file)).user == b"me"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o602, 0o620, 0o610, 0o601, 0o777])
def test_rights_that_are_too_many(tmp_path: Path, mode: int) -> None:
    file = written(tmp_path, b"user=me\npassword=word\n", mode)
    told = refusal(lambda: read_credentials(str(file)))
    assert f"others than its owner may use it (mode {mode:04o}): write: chown " in told
    assert told.endswith(f" {file} && chmod 600 {file}")


def test_the_command_that_is_told_can_be_typed(tmp_path: Path) -> None:
    directory = tmp_path / "with blank & more"
    directory.mkdir()
    file = written(directory, b"user=me\npassword=word\n", 0o644)
    told = refusal(lambda: read_credentials(str(file)))
    line = told.partition("chmod ")[2]
    subprocess.run(["sh", "-ec", f"chmod {line}"], check=True)
    assert read_credentials(str(file)).user == b"me"


@pytest.mark.skipif(not shutil.which("setfacl"), reason="no setfacl: install acl")
def test_an_access_list_is_seen(tmp_path: Path) -> None:
    file = written(tmp_path, b"user=me\npassword=word\n")
    if subprocess.run(["setfacl", "-m", "u:nobody:r", str(file)], check=False).returncode:
        pytest.skip("no access lists on this file system")
    assert "others than its owner" in refusal(lambda: read_credentials(str(file)))


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    file = written(tmp_path, b"user=me\npassword=word\n")
    os.chown(file, 65534, -1)
    assert "it belongs to user nobody: write: chown " in refusal(lambda: read_credentials(str(file)))


@pytest.mark.parametrize("kind", ["missing", "directory", "link", "dangling", "pipe", "device"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    """A link is not followed, and a pipe is not waited for."""
    file = tmp_path / "auth"
    good = tmp_path / "good"
    good.write_text("user=me\npassword=word\n")
    good.chmod(0o600)
    make = {
        "missing": lambda: None,
        "directory": lambda: file.mkdir(mode=0o700),
        "link": lambda: file.symlink_to(good),
        "dangling": lambda: file.symlink_to(tmp_path / "nothing"),
        "pipe": lambda: os.mkfifo(file, 0o600),
        "device": lambda: None,
    }
    make[kind]()
    path = "/dev/null" if kind == "device" else str(file)
    reason = {
        "missing": "no such file: write user=NAME and password=WORD into it",
        "link": "it is a symbolic link: name the file itself",
        "dangling": "it is a symbolic link: name the file itself",
    }.get(kind, "it is no regular file")
    assert refusal(lambda: read_credentials(path)).endswith(f"{path}: {reason}")


def test_what_was_opened_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file may lie at the path a moment later."""
    file = written(tmp_path, b"user=me\npassword=word\n", 0o644)
    private = tmp_path / "private"
    private.write_bytes(b"user=other\npassword=other\n")
    private.chmod(0o600)
    expect_private = credentials_module._expect_private

    def late(fd: int, path: str) -> None:
        private.replace(file)
        expect_private(fd, path)

    monkeypatch.setattr(credentials_module, "_expect_private", late)
    assert "others than its owner" in refusal(lambda: read_credentials(str(file)))


def test_it_is_never_shown() -> None:
    shown = Credentials(b"me", b"secret")
    assert "secret" not in f"{shown} {shown!r}"


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_reply_without_the_password_stays(before: str, after: str) -> None:
    mine = Credentials(b"me", b"correct horse battery")
    reply = Reply(535, f"5.7.8 {before}{after}")
    assert mine.expunge(reply) == reply
    with_it = Reply(535, f"5.7.8 {before}correct horse battery{after}")
    assert str(mine.expunge(with_it)) == "535 5.7.8 (with the password in it)"


# Certificates and keys


def encrypted(issued: Issued, directory: Path) -> Path:
    file = directory / "encrypted.key"
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-in", str(issued.key)]
    file.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    return file


def of_another_kind(directory: Path) -> Path:
    """A key that is RSA, as those of the certificates here are not."""
    file = directory / "rsa.key"
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = rsa_keys.generate_private_key(65537, 2048)
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, none))
    return file


def test_files_that_cannot_be_used(
    spool: Path, tmp_path: Path, authority: Authority, issued: Issued
) -> None:
    """Told before anybody is connected to, with the setting to correct."""
    name = put(spool)
    other, rsa = authority.issue("other.example"), of_another_kind(tmp_path)
    text, missing = tmp_path / "text", tmp_path / "missing"
    text.write_text("nothing\n")
    cert, key = str(issued.cert), str(issued.key)
    for given_options, reason in [
        (["--ca-file", str(missing)], f"--ca-file (BENNO_CAFILE): {missing}: No such file"),
        (["--ca-file", str(tmp_path)], f"--ca-file (BENNO_CAFILE): {tmp_path}: Is a directory"),
        (["--ca-file", str(text)], f"(BENNO_CAFILE): {text} holds no certificate in PEM"),
        (["--cert-file", str(missing)], f"(BENNO_CERT_FILE): {missing}: No such file"),
        (
            ["--cert-file", cert],
            f"--cert-file (BENNO_CERT_FILE): {cert} and {cert} hold no certificate",
        ),
        (["--cert-file", cert, "--key-file", str(missing)], f"(BENNO_KEY_FILE): {missing}: No such"),
        (["--cert-file", cert, "--key-file", str(other.key)], "is not the key of the certificate in"),
        (["--cert-file", cert, "--key-file", str(rsa)], f"{rsa} is not the key of the certificate in"),
        (["--cert-file", str(text), "--key-file", key], "hold no certificate and key in PEM"),
        (["--auth-file", str(missing)], f"(BENNO_AUTH_FILE): {missing}: no such file"),
    ]:
        run = forward(spool, "no-such-host.invalid", options=["--tls", "verify", *given_options])
        assert (run.code, names(spool)) == (78, [name]), run.log
        assert reason in run.log
        assert "takes no mail" not in run.log


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl: install openssl")
def test_an_encrypted_key(tmp_path: Path, issued: Issued) -> None:
    """OpenSSL would ask for the password at the terminal."""
    key = str(encrypted(issued, tmp_path))
    wanted = Security("required", cert_file=str(issued.cert), key_file=key)
    assert f"--key-file (BENNO_KEY_FILE): {key} is encrypted; write it without a password" in refusal(
        lambda: Tls(wanted)
    )


def test_dry_run_needs_none_of_the_files(spool: Path) -> None:
    """It connects to nobody."""
    put(spool)
    options_ = ["--dry-run", "--tls", "verify", "--auth-file", "/nowhere"]
    assert forward(spool, "host", options=options_).code == 0
