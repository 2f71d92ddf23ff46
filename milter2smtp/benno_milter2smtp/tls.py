"""What TLS is spoken with, and what to do where it fails.

TLS 1.2 or later. The context is made by hand, for that of create_default_context() takes other
certificates in Python 3.13 than before. The CA file may hold the archive host's own certificate.
"""

from __future__ import annotations

import ssl

from benno_common import tls
from benno_milter2smtp.security import Security, wrong

_DATES = {9, 10}  # X509_V_ERR_CERT_NOT_YET_VALID, ..._HAS_EXPIRED
_NAMES = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, ..._IP_ADDRESS_MISMATCH
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
_TOO_OLD = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"}
_OUR_CERTIFICATE = {
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "TLSV1_ALERT_ACCESS_DENIED",
    "TLSV1_ALERT_UNKNOWN_CA",
}
_ADVICE = (
    (_NO_TLS, "that was no TLS: see BENNO_TLS_IMPLICIT, and which port it is"),
    (_TOO_OLD, "it knows no TLS 1.2 or later: allow that there"),
    (_OUR_CERTIFICATE, "it does not take our certificate: see BENNO_CERT_FILE"),
)
_SEE_LOG = "see the log there"


class Tls:
    """TLS as a client. Raises Exit where its files cannot be used.

    implicit: from the first octet on, else by STARTTLS. opportunistic: plain text will do too.
    verifies: the certificate of the server.
    """

    def __init__(self, security: Security) -> None:
        tls.read_less()
        self.implicit = security.implicit
        self.opportunistic = security.mode == "opportunistic"
        self.verifies = security.mode == "verify"
        self.context = _context(security)


def server_name(host: str) -> str:
    """What the certificate must be for: the host as it was written, but for a root dot and a zone."""
    return host.partition("%")[0].rstrip(".")


def explain(error: BaseException, host: str) -> str:
    """What failed, and what to do. error: of the handshake, or of what came of it."""
    while not isinstance(error, ssl.SSLError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_certificate(error, server_name(host))
    advice = _SEE_LOG
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        said = reason.lower().replace("_", " ")
        advice = next((advice for reasons, advice in _ADVICE if reason in reasons), _SEE_LOG)
    elif isinstance(error, ConnectionAbortedError):  # so asyncio says it
        said = "no answer in time"
    else:
        said = str(error) or "connection closed"
    return f"TLS failed ({said}): {advice}"


def _explain_certificate(error: ssl.SSLCertVerificationError, name: str) -> str:
    if error.verify_code in _NAMES:
        return (
            f"TLS failed (its certificate is not for {name}): write a name that stands in it into "
            "BENNOHOST, or renew it there"
        )
    if error.verify_code in _DATES:
        advice = "renew it there; are the clocks right?"
    else:
        advice = "if it is the right one, let BENNO_CAFILE name a file with it, or with that of its CA"
    return f"TLS failed (its certificate: {error.verify_message}): {advice}"


def _context(security: Security) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if security.mode != "verify":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif security.ca_file:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        _believe(context, security.ca_file)
    else:
        context.load_default_certs()
    if security.cert_file:
        _introduce(context, security.cert_file, security.key_file)
    return context


def _believe(context: ssl.SSLContext, path: str) -> None:
    _expect_readable("--ca-file", path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise wrong("--ca-file", f"{path} holds no certificate in PEM ({error.reason})") from error


def _introduce(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    """Show our own certificate."""
    _expect_readable("--cert-file", cert_file)
    if key_file:
        _expect_readable("--key-file", key_file)
    key = key_file or cert_file
    option = "--key-file" if key_file else "--cert-file"

    def password() -> str:  # else OpenSSL asks at the terminal
        raise wrong(option, f"{key} is encrypted; write it without a password, see openssl-pkey(1)")

    try:
        context.load_cert_chain(cert_file, key_file, password)
    except ssl.SSLError as error:
        if tls.of_another_key(error):
            reason = f"{key} is not the key of the certificate in {cert_file}"
        else:
            reason = f"{cert_file} and {key} hold no certificate and key in PEM ({error.reason})"
        raise wrong(option, reason) from error


def _expect_readable(option: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise wrong(option, f"{path}: {error.strerror}") from error
