"""The file system in an image that `bench/run --image` measures on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import image

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount"),
]


def test_a_file_system_of_its_own(tmp_path: Path) -> None:
    with image.mounted(tmp_path) as root:
        assert root.stat().st_dev != tmp_path.stat().st_dev
        (root / "file").write_bytes(b"x")
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), image.mounted(tmp_path):
        raise RuntimeError
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert list(tmp_path.iterdir()) == []
