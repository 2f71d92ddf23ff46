"""A spool for the tests of benno-milter2smtp, and who issues the certificates of its servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from certificates import Authority, Issued


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    """For the host that the tests' servers run on."""
    return authority.issue("localhost", "127.0.0.1", "::1")


@pytest.fixture
def password(tmp_path: Path) -> Path:
    """The file with user `me` and password `secret word`."""
    file = tmp_path / "password"
    file.write_text("user = me\npassword = secret word\n")
    file.chmod(0o600)
    return file
