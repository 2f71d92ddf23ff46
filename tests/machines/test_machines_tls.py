"""TLS with the keystore of an older installation, in the hardened unit of the archive host."""

from __future__ import annotations

from pathlib import Path

import pytest

from machines import keystore, sending
from machines.site import Pair
from waiting import wait_for

pytestmark = pytest.mark.system

CONFIG = "/etc/benno-smtp/benno-smtp.conf"
SETTINGS = f"""\
tls_enabled = true
key_file = "{keystore.PATH}"
keystore_pass = "secret"
"""


def test_keystore_of_the_older_program(pair: Pair, tmp_path: Path) -> None:
    """It is read, a new one too without a restart, and mail comes in plain text as before."""
    config = pair.archive.path(CONFIG)
    before = config.read_text()
    _put_keystore(pair, tmp_path, "first.example")
    config.write_text(SETTINGS + before)
    try:
        pair.archive.restart("benno-smtp")
        assert b"first.example" in _certificate(pair)
        sending.send(pair.story, pair.archive.address, sending.letter(), port=sending.RECEIVER)
        _put_keystore(pair, tmp_path, "second.example")
        pair.archive.run("systemctl", "reload", "benno-smtp")
        wait_for(lambda: b"second.example" in _certificate(pair), "the new certificate")
        assert len(pair.inbox()) == len(pair.story.accepted) == 1
    finally:
        config.write_text(before)
        pair.archive.path(keystore.PATH).unlink()
        pair.archive.restart("benno-smtp")


def _put_keystore(pair: Pair, directory: Path, name: str) -> None:
    keystore.put(pair.archive, directory, name)
    pair.archive.run("chgrp", "benno", keystore.PATH)
    pair.archive.run("chmod", "640", keystore.PATH)


def _certificate(pair: Pair) -> bytes:
    return keystore.shown(pair.archive.address, sending.RECEIVER)
