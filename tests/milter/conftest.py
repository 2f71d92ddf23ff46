"""A connection driven by hand, and what is logged meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from milter_hand import Hand, hand, logged


@pytest.fixture
def mta() -> Iterator[Hand]:
    with hand() as connection:
        yield connection


@pytest.fixture
def log() -> Iterator[list[str]]:
    with logged() as lines:
        yield lines
