"""The certificate and its key, and what they are used with.

They are read at the start and at SIGHUP; a session keeps what it began with. What cannot be used is
told by the key of the configuration to correct. A certificate that clients will not believe (it has
expired, say) is a warning: many mail servers ask for encryption, and believe any certificate.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from benno_common import tls
from benno_smtp.keystore import TlsError, is_keystore, read_keystore

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")
_ROUNDS = 10  # of a handshake, more than it needs


@dataclass(frozen=True)
class Source:
    """Where they are: PEM files, of which key_file may hold both, or a PKCS#12 keystore as key_file.

    client_ca_file: who signs the certificates that clients must have, in PEM; None: they need none.
    """

    key_file: str
    cert_file: str | None = None
    key_pass: str | None = None
    keystore_pass: str | None = None
    min_version: str = "1.2"
    client_ca_file: str | None = None


class Tls:
    """TLS as it is offered now. required: before mail. implicit: from the first octet on.

    certified: a client needs a certificate too. The handshake goes on without one, so that SMTP can
    tell what is missing; one that does not hold good ends it.
    doubt: why clients may not believe the certificate, None if they have no reason. Raises TlsError.
    """

    def __init__(self, source: Source, *, required: bool = False, implicit: bool = False) -> None:
        tls.read_less()
        self.required = required
        self.implicit = implicit
        self.certified = source.client_ca_file is not None
        self._source = source
        self.renew()

    def renew(self) -> None:
        """Read the files again. Raises TlsError, and then nothing has changed."""
        self.context, self.doubt = _load(self._source)


def _load(source: Source) -> tuple[ssl.SSLContext, str | None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[source.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    key = _read("key_file", source.key_file)
    if is_keystore(key):
        passwords = [given for given in (source.keystore_pass, source.key_pass) if given is not None]
        key, certificates = read_keystore(source.key_file, key, passwords)
        with _unnamed_file(key + certificates) as path:
            _use(context, source, path, path)
    else:
        certificates = _read("cert_file", source.cert_file) if source.cert_file else key
        _examine(source, key, certificates)
        _use(context, source, source.cert_file or source.key_file, source.key_file)
    doubt = _doubt(context, certificates)
    if source.client_ca_file is not None:
        _ask_for_certificates(context, source.client_ca_file)
    return context, doubt


def _ask_for_certificates(context: ssl.SSLContext, path: str) -> None:
    if not _CERTIFICATE.search(_read("client_ca_file", path)):
        raise TlsError(f"client_ca_file: {path} holds no certificate in PEM")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise TlsError(f"client_ca_file: {path} cannot be used: {error.reason}") from error
    context.verify_mode = ssl.CERT_OPTIONAL


def _read(key: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise TlsError(f"{key}: {path}: {error.strerror}") from error


def _examine(source: Source, key: bytes, certificates: bytes) -> None:
    """Whether the PEM files hold what they should, for OpenSSL does not say which of them does not."""
    if not _KEY.search(key):
        raise TlsError(f"key_file: {source.key_file} holds no private key in PEM")
    if not _CERTIFICATE.search(certificates):
        if source.cert_file is None:
            raise TlsError('cert_file: it is missing; write: cert_file = "/etc/ssl/certs/archive.pem"')
        raise TlsError(f"cert_file: {source.cert_file} holds no certificate in PEM")
    try:
        _trusting(certificates)
    except ssl.SSLError as error:
        of = "cert_file" if source.cert_file else "key_file"
        path = source.cert_file or source.key_file
        raise TlsError(f"{of}: a certificate in {path} cannot be read: {error.reason}") from error


def _use(context: ssl.SSLContext, source: Source, certificates: str, key: str) -> None:
    asked = False

    def password() -> str:  # else OpenSSL asks at the terminal
        nonlocal asked
        asked = True
        if source.key_pass is None:
            raise TlsError(f"key_pass: it is missing, and {key} is encrypted")
        return source.key_pass

    try:
        context.load_cert_chain(certificates, key, password)
    except ssl.SSLError as error:
        if tls.of_another_key(error):
            other = source.cert_file or source.key_file
            reason = f"key_file: {source.key_file} is not the key of the certificate in {other}"
        elif asked:
            reason = f"key_pass: it does not open {source.key_file}"
        else:
            reason = f"key_file: {source.key_file} cannot be used: {error.reason or error}"
        raise TlsError(reason) from error
    except OSError as error:
        raise TlsError(f"key_file: {key}: {error.strerror}") from error


@contextlib.contextmanager
def _unnamed_file(data: bytes) -> Iterator[str]:
    """A path to memory: OpenSSL reads files only, and a key out of its keystore goes on no disk."""
    with open(os.memfd_create("key"), "wb", buffering=0) as file:
        file.write(data)
        yield f"/proc/self/fd/{file.fileno()}"


def _trusting(certificates: bytes) -> ssl.SSLContext:
    """What a client has that believes in these certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    found = b"\n".join(_CERTIFICATE.findall(certificates))
    context.load_verify_locations(cadata=found.decode("ascii", "replace"))
    return context


def _doubt(context: ssl.SSLContext, certificates: bytes) -> str | None:
    """Why even a client that believes in the certificate will not take it now."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = _trusting(certificates).wrap_bio(to_client, to_server)
    try:
        for side in (client, server) * _ROUNDS:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return str(error.reason)
    return None
