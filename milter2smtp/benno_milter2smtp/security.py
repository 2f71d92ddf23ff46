"""How the way to the archive host is secured: what is wanted, and whether it fits together.

    off            plain text
    opportunistic  STARTTLS with any certificate; plain text where it is not offered, or fails
    required       TLS with any certificate, or no mail: it may be another host that answers
    verify         TLS with a certificate for the name of the host, that can be believed, or no mail

A password goes over TLS only, and only where no mail would go without. To send it under a certificate
that is not verified one has to write `required`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from benno_common.service import Exit

MODES = ("off", "opportunistic", "required", "verify")

# What stands for an option in /etc/default/benno-milter: there people look who read our messages.
SETTINGS = {
    "--port": "BENNOPORT",
    "--tls": "BENNO_TLS",
    "--tls-implicit": "BENNO_TLS_IMPLICIT",
    "--ca-file": "BENNO_CAFILE",
    "--cert-file": "BENNO_CERT_FILE",
    "--key-file": "BENNO_KEY_FILE",
    "--auth-file": "BENNO_AUTH_FILE",
}


def wrong(option: str, reason: str) -> Exit:
    """To be raised: an option, or the setting that stands for it, cannot be used."""
    return Exit(os.EX_CONFIG, f"{option} ({SETTINGS[option]}): {reason}")


@dataclass(frozen=True)
class Security:
    """mode: one of MODES. implicit: TLS from the first octet on. Files: paths; None if there is none.

    ca_file: whom to believe, instead of the system's authorities. cert_file, key_file: our own
    certificate. auth_file: user and password. Raises Exit where they do not fit together.
    """

    mode: str = "off"
    implicit: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    auth_file: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise wrong("--tls", f"{self.mode!r} is none of {', '.join(MODES)}")
        if self.implicit and self.mode not in {"required", "verify"}:
            raise wrong("--tls-implicit", "it needs BENNO_TLS=verify, or required")
        if self.ca_file and self.mode != "verify":
            raise wrong("--ca-file", "certificates are verified with BENNO_TLS=verify only")
        if self.cert_file and self.mode == "off":
            raise wrong("--cert-file", "TLS is off: set BENNO_TLS=verify, or required")
        if self.key_file and not self.cert_file:
            raise wrong("--key-file", "a certificate belongs to it: set BENNO_CERT_FILE")
        if self.auth_file and self.mode not in {"required", "verify"}:
            raise wrong(
                "--auth-file",
                "a password is never sent in plain text: set BENNO_TLS=verify; or required, "
                "which sends it to whoever answers, whatever the certificate",
            )
