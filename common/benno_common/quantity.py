"""Sizes as administrators write them: 500M, 2G, 0."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]{1,12})([KMGT]?)(?:i?B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Octets; K, M, G and T are powers of 1024. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no size like 500M, 2G or 0")
    return int(match[1]) << 10 * "_KMGT".index(match[2].upper() or "_")
