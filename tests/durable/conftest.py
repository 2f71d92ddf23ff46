"""Directories for the tests of `durable`: each test runs with unnamed files and with a staging one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benno_common.durable import Directory


@pytest.fixture(params=["unnamed", "staging"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A place for a directory, with nothing but itself around it."""
    path = tmp_path / "around" / "inbox"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def directory(inbox: Path, way: str) -> Iterator[Directory]:
    made = Directory(str(inbox), allow_unnamed=way == "unnamed")
    made.open()
    if way == "unnamed" and made.place.staging is not None:
        pytest.skip(f"{inbox} is on a file system without O_TMPFILE")
    yield made
    made.close()
