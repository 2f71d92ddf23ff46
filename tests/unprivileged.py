"""Programs that are not root's, in places that they can reach."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


def as_nobody() -> Sequence[str]:
    """What is put before a command where the tests are root's. Skips the test without setpriv(1)."""
    if os.geteuid() != 0:
        return ()
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def expect_that_it_ran(code: int, said: str) -> None:
    """Skips the test where others than root cannot reach Python or the source tree."""
    if code in {126, 127} or "ModuleNotFoundError" in said:
        pytest.skip("an unprivileged user cannot run this Python")


@contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that every user can reach; those of pytest belong to root alone."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
