"""Certificates, keys and keystores: what can be used, and what is said of what cannot."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

import receiver_daemon
from benno_smtp import program
from benno_smtp.keystore import TlsError
from benno_smtp.tls import Source, Tls

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl: install openssl")
needs_keytool = pytest.mark.skipif(not shutil.which("keytool"), reason="no keytool: install a JDK")
pytestmark = [pytest.mark.slow, needs_openssl]


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and keys of all kinds, of the password `s3cret`."""
    place = tmp_path_factory.mktemp("certificates")
    for name in ("archive", "other"):
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}.test"),
            *("-keyout", place / f"{name}.key", "-out", place / f"{name}.crt"),
        )
    cert, key = place / "archive.crt", place / "archive.key"
    (place / "both.pem").write_bytes(key.read_bytes() + cert.read_bytes())
    openssl("rsa", "-in", key, "-aes256", "-passout", "pass:s3cret", "-out", place / "encrypted.key")
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", place / "ec.key")
    openssl("x509", "-in", cert, "-outform", "DER", "-out", place / "archive.der")
    export = ("pkcs12", "-export", "-inkey", key, "-in", cert)
    openssl(*export, "-passout", "pass:s3cret", "-out", place / "modern.p12")
    openssl(*export, "-legacy", "-passout", "pass:s3cret", "-out", place / "legacy.p12")
    openssl(*export, "-passout", "pass:", "-out", place / "empty.p12")
    openssl(*export, "-passout", "pass:pässwort", "-out", place / "umlaut.p12")
    openssl(
        *export, "-certfile", place / "other.crt", "-passout", "pass:x", "-out", place / "chain.p12"
    )
    openssl(
        "pkcs12", "-export", "-nokeys", "-in", cert, "-passout", "pass:x", "-out", place / "certs.p12"
    )
    (place / "broken.crt").write_text(re.sub("M", "N", cert.read_text(), count=20))
    (place / "jks").write_bytes(b"\xfe\xed\xfe\xed\0\0\0\2" + bytes(90))
    (place / "jceks").write_bytes(b"\xce\xce\xce\xce\0\0\0\2" + bytes(90))
    (place / "text").write_text("no key\n")
    return place


def served(tls: Tls) -> bytes | None:
    """The certificate that a client gets, by the most that both know."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    server = tls.context.wrap_bio(to_server, to_client, server_side=True)
    client = anybody.wrap_bio(to_client, to_server)
    for side in (client, server) * 5:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.getpeercert(binary_form=True)


USED: dict[str, dict[str, str]] = {
    "PEM": {"cert_file": "archive.crt", "key_file": "archive.key"},
    "PEM, a password for nothing": {
        "cert_file": "archive.crt",
        "key_file": "archive.key",
        "key_pass": "x",
        "keystore_pass": "x",
    },
    "PEM, both in one": {"key_file": "both.pem"},
    "PEM, encrypted": {"cert_file": "archive.crt", "key_file": "encrypted.key", "key_pass": "s3cret"},
    "PKCS#12": {"key_file": "modern.p12", "keystore_pass": "s3cret"},
    "PKCS#12, legacy": {"key_file": "legacy.p12", "keystore_pass": "s3cret"},
    "PKCS#12, the password as key_pass": {"key_file": "modern.p12", "key_pass": "s3cret"},
    "PKCS#12, two passwords": {
        "key_file": "modern.p12",
        "keystore_pass": "no",
        "key_pass": "s3cret",
    },
    "PKCS#12, empty password": {"key_file": "empty.p12", "keystore_pass": ""},
    "PKCS#12, no password": {"key_file": "empty.p12"},
    "PKCS#12, password with umlauts": {"key_file": "umlaut.p12", "keystore_pass": "pässwort"},
    "PKCS#12, chain": {"key_file": "chain.p12", "keystore_pass": "x"},
}


def source(made: Path, given: dict[str, str]) -> Source:
    files = {key: str(made / name) for key, name in given.items() if key.endswith("_file")}
    return Source(**{**given, **files})


@pytest.mark.parametrize("given", USED.values(), ids=USED)
def test_used(made: Path, given: dict[str, str]) -> None:
    tls = Tls(source(made, given))
    assert served(tls) == (made / "archive.der").read_bytes()
    assert tls.doubt is None


PEM = {"cert_file": "archive.crt", "key_file": "archive.key"}
REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "no key file": ({**PEM, "key_file": "none"}, "key_file: {}/none: No such file or directory"),
    "no certificate file": (
        {**PEM, "cert_file": "none"},
        "cert_file: {}/none: No such file or directory",
    ),
    "a directory": ({**PEM, "key_file": "."}, "key_file: {}: Is a directory"),
    "no key in it": ({**PEM, "key_file": "text"}, "key_file: {}/text holds no private key in PEM"),
    "certificate for the key": (
        {**PEM, "key_file": "archive.crt"},
        "key_file: {}/archive.crt holds no private key in PEM",
    ),
    "key for the certificate": (
        {**PEM, "cert_file": "archive.key"},
        "cert_file: {}/archive.key holds no certificate in PEM",
    ),
    "certificate in DER": (
        {**PEM, "cert_file": "archive.der"},
        "cert_file: {}/archive.der holds no certificate in PEM",
    ),
    "no certificate": (
        {"key_file": "archive.key"},
        'cert_file: it is missing; write: cert_file = "/etc/ssl/certs/archive.pem"',
    ),
    "broken certificate": (
        {**PEM, "cert_file": "broken.crt"},
        "cert_file: a certificate in {}/broken.crt cannot be read: ",
    ),
    "another key": (
        {**PEM, "key_file": "other.key"},
        "key_file: {}/other.key is not the key of the certificate in {}/archive.crt",
    ),
    "a key of another kind": (
        {**PEM, "key_file": "ec.key"},
        "key_file: {}/ec.key is not the key of the certificate in {}/archive.crt",
    ),
    "encrypted, no password": (
        {**PEM, "key_file": "encrypted.key"},
        "key_pass: it is missing, and {}/encrypted.key is encrypted",
    ),
    "encrypted, wrong password": (
        {**PEM, "key_file": "encrypted.key", "key_pass": "no"},
        "key_pass: it does not open {}/encrypted.key",
    ),
    "PKCS#12, no password": (
        {"key_file": "modern.p12"},
        "keystore_pass: it does not open {}/modern.p12: ",
    ),
    "PKCS#12, wrong passwords": (
        {"key_file": "modern.p12", "keystore_pass": "no", "key_pass": "neither"},
        "keystore_pass: it does not open {}/modern.p12: ",
    ),
    "PKCS#12 without key": (
        {"key_file": "certs.p12", "keystore_pass": "x"},
        "key_file: {}/certs.p12 holds no private key with its certificate",
    ),
    "DER": (
        {"key_file": "archive.der", "keystore_pass": "x"},
        "keystore_pass: it does not open {}/archive.der: ",
    ),
    "JKS": ({"key_file": "jks"}, "key_file: {}/jks is a keystore of Java (JKS); as root: keytool "),
    "JCEKS": ({"key_file": "jceks"}, "key_file: {}/jceks is a keystore of Java (JCEKS); as root: "),
}


@pytest.mark.parametrize(("given", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(made: Path, given: dict[str, str], reason: str) -> None:
    with pytest.raises(TlsError) as caught:
        Tls(source(made, given))
    assert str(caught.value).startswith(reason.format(made, made))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("age", ["expired", "not yet"])
def test_doubt(made: Path, tmp_path: Path, age: str) -> None:
    """It is used all the same."""
    days: tuple[str, ...] = ("-not_before", "20200101000000Z", "-not_after", "20200102000000Z")
    if age == "not yet":
        days = ("-not_before", "20900101000000Z", "-not_after", "20910101000000Z")
    cert = tmp_path / "odd.crt"
    make_dated(made / "archive.key", cert, *days)
    tls = Tls(Source(str(made / "archive.key"), str(cert)))
    expected = {"expired": "certificate has expired", "not yet": "certificate is not yet valid"}
    assert tls.doubt == expected[age]
    assert served(tls)


def make_dated(key: Path, cert: Path, *days: str) -> None:
    """`openssl req` of Debian 12 cannot date a certificate; `openssl ca` can."""
    place = cert.parent
    (place / "index").write_text("")
    (place / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=c\n[c]\ndatabase={place}/index\nnew_certs_dir={place}\ndefault_md=sha256\n"
        "policy=p\nrand_serial=yes\nemail_in_dn=no\n[p]\ncommonName=supplied\n"
    )
    openssl("req", "-new", "-key", key, "-subj", "/CN=archive.test", "-out", place / "csr")
    dates = [
        text.replace("-not_before", "-startdate").replace("-not_after", "-enddate") for text in days
    ]
    openssl(
        *("ca", "-batch", "-selfsign", "-notext", "-config", place / "ca.cnf", "-keyfile", key),
        *("-in", place / "csr", "-out", cert, *dates),
    )


def test_without_the_library(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEM needs it not, and of PKCS#12 it is said what to do."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    Tls(source(made, PEM))
    with pytest.raises(
        TlsError, match="python3-cryptography is not installed; install it, or as root: "
    ):
        Tls(source(made, USED["PKCS#12"]))


@needs_keytool
@pytest.mark.parametrize("kind", ["JKS", "JCEKS"])
def test_commands_for_a_keystore_of_java(tmp_path: Path, kind: str) -> None:
    """What is shown makes a file that can be used, whatever its path."""
    store = tmp_path / "key store"
    arguments = ["-genkeypair", "-storetype", kind, "-keystore", store, "-keyalg", "RSA", "-alias", "a"]
    arguments += ["-dname", "CN=archive.test", "-storepass", "s3cret", "-keypass", "s3cret"]
    subprocess.run(["keytool", *map(str, arguments)], check=True, capture_output=True, timeout=120)
    with pytest.raises(TlsError) as caught:
        Tls(Source(str(store), keystore_pass="s3cret"))
    commands, _, write = str(caught.value).partition("as root: ")[2].partition("; then write: ")
    assert write == f'key_file = "{store}.pem"'
    # What is asked for at the terminal, and who will read it.
    commands = commands.replace(
        "keytool -importkeystore", "keytool -importkeystore -srcstorepass s3cret -deststorepass s3cret"
    )
    commands = commands.replace("-nodes", "-nodes -passin pass:s3cret")
    commands = commands.replace("chgrp benno", f"chgrp {os.getegid()}")
    subprocess.run(["sh", "-ec", commands], check=True, capture_output=True, timeout=120)
    pem = Path(f"{store}.pem")
    assert pem.stat().st_mode & 0o777 == 0o640
    assert served(Tls(Source(str(pem), keystore_pass="s3cret", key_pass="s3cret")))


def test_no_key_on_disk(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a keystore is decrypted in memory only, and no descriptor is left."""
    before = os.listdir("/proc/self/fd")
    Tls(source(made, USED["PKCS#12"]))
    with pytest.raises(TlsError):
        Tls(source(made, REFUSED["another key"][0]))
    assert os.listdir("/proc/self/fd") == before


def checked(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Exit code, output and errors of --check-config."""
    file = tmp_path / "benno-smtp.conf"
    file.write_text(text)
    monkeypatch.setattr("sys.argv", ["benno-smtp", "-c", str(file), "--check-config"])
    code = program.main()
    return code, *capsys.readouterr()


def test_line_of_the_error(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = f"{tmp_path}/benno-smtp.conf"
    text = f'import_directory = "/a"\ntls_enabled = true\nkey_file = "{made}/jks"\n'
    text += 'keystore_pass = "s3cret"\n'
    code, _, said = checked(text, tmp_path, monkeypatch, capsys)
    assert code == os.EX_CONFIG
    assert said.startswith(f"benno-smtp: {file}:3: key_file: {made}/jks is a keystore of Java")
    # as the older program had it, with the line of the file, not of what is made of it
    code, _, said = checked(text.replace('"', ""), tmp_path, monkeypatch, capsys)
    assert code == os.EX_CONFIG
    assert said.startswith(f"benno-smtp: {file}:3: key_file: {made}/jks is a keystore of Java")
    text = text.replace("jks", "encrypted.key") + f'cert_file = "{made}/archive.crt"\n'
    code, _, said = checked(text, tmp_path, monkeypatch, capsys)
    assert (
        said == f"benno-smtp: {file}: key_pass: it is missing, and {made}/encrypted.key is encrypted\n"
    )


def test_doubt_is_said(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cert = tmp_path / "old.crt"
    make_dated(
        made / "archive.key", cert, "-not_before", "20200101000000Z", "-not_after", "20200102000000Z"
    )
    lines = f'tls_enabled = true\nkey_file = "{made}/archive.key"\ncert_file = "{cert}"\n'
    text = f'import_directory = "/a"\n{lines}'
    code, printed, said = checked(text, tmp_path, monkeypatch, capsys)
    assert (code, printed) == (os.EX_OK, text)
    assert said == "benno-smtp: cert_file: clients may refuse it: certificate has expired\n"
    with receiver_daemon.running(tmp_path / "inbox", lines) as receiver:
        receiver.wait_for_log("WARNING: the certificate is one that clients may refuse: .* has expired")


def test_old_file_with_a_keystore(made: Path, tmp_path: Path) -> None:
    """As the older program had it, but for the keystore's format."""
    old = f"tls_enabled = true\ntls_required = true\nkey_file = {made}/legacy.p12\n"
    old += "keystore_pass = s3cret\nkey_pass = s3cret\n"
    with receiver_daemon.running(tmp_path / "inbox", old) as receiver:
        assert "tls_required=True" in receiver.wait_for_log("started .*")
        assert "s3cret" not in receiver.log
