"""Keystores: what the older program, which was written in Java, had its key and certificate in.

PKCS#12 is read with the library `cryptography`, which is imported only then. JKS and JCEKS are Java's
own, and are refused with the commands that make a PEM file of them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

_JAVA = {b"\xfe\xed\xfe\xed": "JKS", b"\xce\xce\xce\xce": "JCEKS"}
_PKCS12 = b"\x30"  # DER: a sequence


class TlsError(ValueError):
    """What TLS needs cannot be used: `key: reason`, of a key of the configuration."""


def is_keystore(data: bytes) -> bool:
    """Whether a file is one, and not PEM."""
    return data[:4] in _JAVA or data.startswith(_PKCS12)


def read_keystore(path: str, data: bytes, passwords: Iterable[str]) -> tuple[bytes, bytes]:
    """Key and certificates, the server's own first, in PEM. Raises TlsError."""
    if data[:4] in _JAVA:
        raise TlsError(f"key_file: {_conversion(path, _JAVA[data[:4]])}")
    try:
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - seldom needed
            Encoding,
            NoEncryption,
            PrivateFormat,
            pkcs12,
        )
    except ImportError as error:
        reason = f"{path} is a PKCS#12 keystore, and python3-cryptography is not installed"
        raise TlsError(f"key_file: {reason}; {_as_pem(path)}") from error
    tried: list[bytes | None] = [password.encode() for password in passwords]
    for password in tried or [None]:
        try:
            key, own, others = pkcs12.load_key_and_certificates(data, password)
            break
        except ValueError as error:
            failure = error
    else:
        raise TlsError(f"keystore_pass: it does not open {path}: {failure}") from failure
    if key is None or own is None:
        raise TlsError(f"key_file: {path} holds no private key with its certificate")
    certificates = b"".join(one.public_bytes(Encoding.PEM) for one in (own, *others))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), certificates


def _conversion(path: str, kind: str) -> str:
    ours = shlex.quote(f"{path}.p12")
    keytool = (
        f"keytool -importkeystore -srcstoretype {kind} -srckeystore {shlex.quote(path)} "
        f"-deststoretype PKCS12 -destkeystore {ours}"
    )
    return f"{path} is a keystore of Java ({kind}); as root: {keytool} && {_openssl(path, ours)}"


def _as_pem(path: str) -> str:
    return f"install it, or as root: {_openssl(path, shlex.quote(path))}"


def _openssl(path: str, keystore: str) -> str:
    pem = shlex.quote(f"{path}.pem")
    openssl = f"openssl pkcs12 -in {keystore} -nodes -out {pem}"
    rights = f"chgrp benno {pem} && chmod 640 {pem}"
    return f'(umask 077; {openssl}) && {rights}; then write: key_file = "{path}.pem"'
