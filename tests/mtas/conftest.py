"""A Postfix to send to, started once; a spool to send from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import postfix_host


@pytest.fixture(scope="session")
def running_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postfix_host.Host]:
    limit = "message_size_limit = 5000000\n"
    with postfix_host.running(tmp_path_factory.mktemp("host"), limit) as host:
        yield host


@pytest.fixture
def host(running_host: postfix_host.Host) -> postfix_host.Host:
    """One that takes all mail, with an empty queue."""
    running_host.prepare({})
    return running_host


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.mkdir()
    return path
