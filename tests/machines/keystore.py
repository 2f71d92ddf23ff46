"""A keystore of the older program, PKCS#12, and the certificate that a receiver shows."""

from __future__ import annotations

import smtplib
import ssl
import subprocess
from pathlib import Path

from machines.machine import Machine

PATH = "/etc/benno-smtp/keystore.p12"
PASSWORD = "secret"


def put(machine: Machine, directory: Path, name: str) -> None:
    """A new one, for root alone, with a certificate for `name`. directory: ours, for its parts."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subject = ["-subj", f"/CN={name}", "-days", "2", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    new = ["req", "-x509", "-newkey", "rsa:2048", *subject, *files]
    into = machine.path(PATH)
    pack = ["pkcs12", "-export", "-inkey", str(key), "-in", str(certificate), "-out", str(into)]
    for arguments in (new, [*pack, "-passout", f"pass:{PASSWORD}"]):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    into.chmod(0o600)


def shown(address: str, port: int) -> bytes:
    """What the receiver shows after STARTTLS, DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(address, port, timeout=30) as client:
        client.starttls(context=context)
        assert client.ehlo()[0] == 250
        assert isinstance(client.sock, ssl.SSLSocket)
        return client.sock.getpeercert(binary_form=True) or b""
