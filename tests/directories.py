"""What lies in a directory of mail files, and since when."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benno_common.spool import SETTLED

_OTHERS = ("lost+found", ".benno-smtp.")


def contents(directory: Path) -> list[Path]:
    """All in it, hidden too, oldest mail first; but for a receiver's mark."""
    return sorted(path for path in directory.iterdir() if not path.name.startswith(_OTHERS))


def settle(path: Path, seconds: float = 2 * SETTLED) -> None:
    """Say that the file was last changed so long ago; files of the older milter wait for that."""
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)
