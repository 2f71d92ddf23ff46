"""The SMTP envelope of one transaction: who sent it, and to whom it really went."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Octets of one address; a reader of mail files need not hold more. SMTP's limit is 256 (RFC 5321).
MAX_ADDRESS = 512 * 1024

_FORBIDDEN = re.compile(rb"[\r\n\0]")
_GATEWAY = re.compile(rb"[\x21-\x7e]+")


class EnvelopeError(ValueError):
    """The envelope cannot be written into a mail file without being altered."""


def is_storable(address: bytes) -> bool:
    """Whether a raw address can stand in a mail file: any octets but CR, LF and NUL."""
    return len(address) <= MAX_ADDRESS and _FORBIDDEN.search(address) is None


@dataclass(frozen=True)
class Envelope:
    """Reverse-path, recipients and gateway of one SMTP transaction.

    Addresses are raw octets without the angle brackets around, as the client gave them; the null
    reverse-path is empty. Recipients stand in the order of their RCPT commands. `gateway` is the
    name under which the archive tells apart the mail of several gateways, printable ASCII.

    Raises EnvelopeError for an address with CR, LF or NUL or of more than MAX_ADDRESS octets, and for
    a gateway name with blanks, control characters or non-ASCII octets.
    """

    sender: bytes
    recipients: tuple[bytes, ...]
    gateway: bytes | None = None

    def __post_init__(self) -> None:
        for address in (self.sender, *self.recipients):
            if not is_storable(address):
                shown = address[:100]
                raise EnvelopeError(f"address {shown!r} contains CR, LF or NUL, or is too long")
        if self.gateway is not None and not _GATEWAY.fullmatch(self.gateway):
            raise EnvelopeError(
                f"gateway {self.gateway!r}: write a name of printable ASCII without blanks"
            )
