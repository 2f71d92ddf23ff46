"""A disk whose flush costs something: ext4 in an image on a disk whose flush costs nothing.

Virtual disks often acknowledge a flush of their cache at once. What is gained by few flushes, which
real disks take 0.5 to 10 ms for, cannot be seen on them. Each flush of the image has the file system
below commit its own journal.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OCTETS = 16 << 30  # sparse


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """A new, empty file system in an image below `place`; root only. Removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench.", dir=place) as root:
        image, target = Path(root) / "image", Path(root) / "mounted"
        target.mkdir()
        with image.open("wb") as file:
            file.truncate(_OCTETS)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(target)], check=True)
        try:
            yield target
        finally:
            subprocess.run(["umount", "--lazy", str(target)], check=True)
