"""What a process holds: descriptors and memory, as Linux tells it."""

from __future__ import annotations

import os
import re
from pathlib import Path


def descriptors(pid: int) -> list[str]:
    """Where the open descriptors lead."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:  # closed meanwhile
            continue
    return sorted(found)


def resident(pid: int) -> int:
    """Octets of memory in use (VmRSS)."""
    match = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1]) * 1024
