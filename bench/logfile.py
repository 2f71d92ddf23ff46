"""A log that grows, read once: how many lines with a certain text it has by now."""

from __future__ import annotations

from pathlib import Path


class Count:
    """Of the lines of the log at `path` that come from now on and have `text` in them."""

    def __init__(self, path: Path, text: bytes) -> None:
        self._path = path
        self._text = text
        self._position = path.stat().st_size if path.exists() else 0
        self._rest = b""
        self._found = 0

    def now(self) -> int:
        """Reads on where it stopped the last time."""
        if self._path.exists():
            with self._path.open("rb") as stream:
                stream.seek(self._position)
                read = stream.read()
            self._position += len(read)
            whole, newline, self._rest = (self._rest + read).rpartition(b"\n")
            self._found += (whole + newline).count(self._text)
        return self._found
