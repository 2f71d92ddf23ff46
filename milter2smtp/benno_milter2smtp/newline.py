"""Whether octets have a bare CR or LF, in one pass: to count CR, LF and CRLF takes three times as long.

Python's decoder of line ends remembers which it has seen. It is of `io`, but does no I/O.
"""

from __future__ import annotations

from io import IncrementalNewlineDecoder


def has_bare(octets: bytes) -> bool:
    """Whether a CR or LF stands alone. A CRLF that goes on in other octets counts as two that do."""
    decoder = IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(octets.decode("latin-1"), final=True)
    return decoder.newlines not in {None, "\r\n"}
