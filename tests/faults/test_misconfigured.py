"""An archive host that takes nothing as it is set up, while a thousand mails wait: one clear error.

Nothing is held, for it is not the mails' fault, and all goes once the setting is mended. A wrong
password: forwarder/test_forwarder_auth.py.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import receiver_daemon
from passage import Passage

pytestmark = pytest.mark.slow

MAILS = 1000
TLS = """
tls_enabled = true
tls_required = true
cert_file = "{directory}/archive.pem"
key_file = "{directory}/archive.key"
"""


def make_certificate(directory: Path) -> None:
    names = ["-subj", "/CN=archive.test", "-addext", "subjectAltName=DNS:archive.test"]
    kind = ["-x509", "-newkey", "rsa:2048", "-noenc", "-days", "30"]
    files = ["-out", str(directory / "archive.pem"), "-keyout", str(directory / "archive.key")]
    subprocess.run(["openssl", "req", *kind, *names, *files], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [('allowed_networks = ["192.0.2.1"]', "554 5.7.1"), (TLS, "530 5.7.0")],
    ids=["network not allowed", "TLS demanded"],
)
def test_a_thousand_mails_wait(tmp_path: Path, settings: str, said: str, seed: str) -> None:
    make_certificate(tmp_path)
    spool = tmp_path / "spool"
    spool.mkdir()
    passage = Passage(spool, seed)
    passage.fill(MAILS, lambda chance: chance.randrange(500))
    wrong = settings.format(directory=tmp_path)
    with receiver_daemon.running(tmp_path / "inbox", wrong) as receiver:
        run = passage.forward(receiver.port)
    assert (run.code, run.summary) == (os.EX_TEMPFAIL, f"sent=0 kept={MAILS} held=0")
    assert run.log.count("ERROR") == 1
    assert said in run.log
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        assert passage.finish(receiver) == {1: MAILS}
