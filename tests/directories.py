"""What lies in a directory of mail files."""

from __future__ import annotations

from pathlib import Path

_OTHERS = ("lost+found", ".benno-smtp.")


def contents(directory: Path) -> list[Path]:
    """All in it, hidden too, oldest mail first; but for a receiver's mark."""
    return sorted(path for path in directory.iterdir() if not path.name.startswith(_OTHERS))
