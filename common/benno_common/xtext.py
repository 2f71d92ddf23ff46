"""xtext: octets made fit to be the value of an SMTP parameter (RFC 3461 4), and back again.

    xtext   = *( xchar / hexchar )
    xchar   = any octet 21-7E but "+" and "="
    hexchar = "+" and two hexadecimal digits, upper case; lower case is read too

`decode_xtext(encode_xtext(octets)) == octets` for all octets. This module does no I/O.
"""

from __future__ import annotations

import re

_UNFIT = re.compile(rb"[^\x21-\x7e]|[+=]")
_HEXCHAR = re.compile(rb"\+([0-9A-Fa-f]{2})")
_XTEXT = re.compile(rb"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-Fa-f]{2})*")


class XtextError(ValueError):
    """The octets are not xtext."""


def encode_xtext(octets: bytes) -> bytes:
    """Any octets as xtext; printable ASCII without "+" and "=" stays as it is."""
    return _UNFIT.sub(lambda unfit: b"+%02X" % unfit[0][0], octets)


def decode_xtext(xtext: bytes) -> bytes:
    """The octets that the xtext stands for. Raises XtextError where it is none."""
    if not _XTEXT.fullmatch(xtext):
        raise XtextError(f"{xtext[:100]!r} is not xtext")
    return _HEXCHAR.sub(lambda hexchar: bytes.fromhex(hexchar[1].decode("ascii")), xtext)
