"""Waiting for conditions, never for time; free ports."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.listening import free_port

__all__ = ["free_port", "wait_for"]


def wait_for(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Return as soon as the condition holds; fail naming it if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.01)
