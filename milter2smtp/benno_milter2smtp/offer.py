"""What a server offers: the keywords of its reply to EHLO (RFC 5321 4.1.1.1), and what each means.

PIPELINING   several commands in one write (RFC 2920)
CHUNKING     BDAT: the message octet by octet (RFC 3030)
BINARYMIME   with BDAT also bare CR, bare LF and NUL (RFC 3030)
8BITMIME     octets above 127 are announced (RFC 6152)
SMTPUTF8     such octets in addresses (RFC 6531)
DSN          a mail may be given a name (RFC 3461), which logs show
SIZE         the size is announced, and may be limited (RFC 1870)
STARTTLS     TLS may begin (RFC 3207)
XBENNO       gateway and file name as parameters of MAIL: benno-smtp, to those who may name a gateway
XBENNODIR    benno-smtp names the identity of its import directory
"""

from __future__ import annotations

from dataclasses import dataclass

from benno_common.identity import KEYWORD


@dataclass(frozen=True)
class Offer:
    """max_size: octets of the largest message, 0: no limit. directory: identity, empty if unknown."""

    pipelining: bool = False
    chunking: bool = False
    binary: bool = False
    eight_bit: bool = False
    utf8: bool = False
    size: bool = False
    max_size: int = 0
    dsn: bool = False
    starttls: bool = False
    xbenno: bool = False
    directory: str = ""


def parse_offer(lines: list[str]) -> Offer:
    """lines: those of the reply to EHLO after the first, without code. A HELO-only server has none."""
    words = [line.upper().split() for line in lines]
    keywords = {line[0]: line[1:] for line in words if line}
    limit = "".join(keywords.get("SIZE", []))
    return Offer(
        pipelining="PIPELINING" in keywords,
        chunking="CHUNKING" in keywords,
        binary="BINARYMIME" in keywords,
        eight_bit="8BITMIME" in keywords,
        utf8="SMTPUTF8" in keywords,
        size="SIZE" in keywords,
        max_size=int(limit) if limit.isascii() and limit.isdigit() and len(limit) <= 20 else 0,
        dsn="DSN" in keywords,
        starttls="STARTTLS" in keywords,
        xbenno="XBENNO" in keywords,
        directory="".join(keywords.get(KEYWORD, [])).lower(),
    )
