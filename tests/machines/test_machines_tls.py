"""TLS with the keystore of an older installation, in the hardened unit of the archive host."""

from __future__ import annotations

import smtplib
import ssl
import subprocess
from pathlib import Path

import pytest

from machines import sending
from machines.site import Pair
from waiting import wait_for

pytestmark = pytest.mark.system

CONFIG = "/etc/benno-smtp/benno-smtp.conf"
KEYSTORE = "/etc/benno-smtp/keystore.p12"
SETTINGS = f"""\
tls_enabled = true
key_file = "{KEYSTORE}"
keystore_pass = "secret"
"""


def test_keystore_of_the_older_program(pair: Pair, tmp_path: Path) -> None:
    """It is read, a new one too without a restart, and mail comes in plain text as before."""
    config = pair.archive.path(CONFIG)
    before = config.read_text()
    _put_keystore(pair, tmp_path, "first.example")
    config.write_text(SETTINGS + before)
    try:
        pair.archive.restart("benno-smtp")
        assert b"first.example" in _certificate(pair)
        sending.send(pair.story, pair.archive.address, sending.letter(), port=sending.RECEIVER)
        _put_keystore(pair, tmp_path, "second.example")
        pair.archive.run("systemctl", "reload", "benno-smtp")
        wait_for(lambda: b"second.example" in _certificate(pair), "the new certificate")
        assert len(pair.inbox()) == len(pair.story.accepted) == 1
    finally:
        config.write_text(before)
        pair.archive.path(KEYSTORE).unlink()
        pair.archive.restart("benno-smtp")


def _put_keystore(pair: Pair, directory: Path, name: str) -> None:
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subject = ["-subj", f"/CN={name}", "-days", "2", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    new = ["req", "-x509", "-newkey", "rsa:2048", *subject, *files]
    into = str(pair.archive.path(KEYSTORE))
    pack = ["pkcs12", "-export", "-inkey", str(key), "-in", str(certificate), "-out", into]
    for arguments in (new, [*pack, "-passout", "pass:secret"]):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    pair.archive.run("chgrp", "benno", KEYSTORE)
    pair.archive.run("chmod", "640", KEYSTORE)


def _certificate(pair: Pair) -> bytes:
    """What the receiver shows after STARTTLS, DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(pair.archive.address, sending.RECEIVER, timeout=30) as client:
        client.starttls(context=context)
        assert client.ehlo()[0] == 250
        assert isinstance(client.sock, ssl.SSLSocket)
        return client.sock.getpeercert(binary_form=True) or b""
