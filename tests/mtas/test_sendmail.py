"""A real Sendmail in front: what it was given lies in the spool, with the envelope it was given.

Sendmail adds nothing to a complete mail before its filters see it, so the octets sent are compared.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import daemon
import sendmail
from corpus import corpus
from smtp import Client

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sendmail.missing() is not None, reason=str(sendmail.missing())),
]

# Sendmail itself refuses these: bare line ends, NUL, an address literal that is not its own, and more
# than 32 KiB of headers.
REFUSED = {"bare-cr", "bare-lf", "nul", "literal", "long-folded"}


@pytest.mark.parametrize("way", ["unix", "inet"])
def test_corpus(tmp_path: Path, way: str) -> None:
    cases = [case for case in corpus(200) if case.name not in REFUSED]
    listen = f"unix:{tmp_path}/b.sock" if way == "unix" else "inet:0@127.0.0.1"
    with daemon.running(tmp_path / "spool", socket=listen) as milter:
        address = listen if way == "unix" else "inet:{1}@{0}".format(*milter.address)
        with sendmail.running(tmp_path / "mta", address) as port, Client(port) as client:
            for case in cases:
                reply = client.send(case.sender, case.recipients, case.message)
                assert reply.startswith("250"), (case.name, reply)
        assert len(milter.files()) == len(cases)
        for case, (sender, recipients, message) in zip(cases, milter.mails(), strict=True):
            assert (sender, recipients) == (case.sender, case.recipients), case.name
            assert message == case.message, case.name
        assert "NOQUEUE" not in milter.log


def test_milter_down(tmp_path: Path) -> None:
    """With F=T mail is deferred while the milter is not there."""
    with (
        daemon.running(tmp_path / "spool") as milter,
        sendmail.running(tmp_path / "mta", milter.socket) as port,
    ):
        assert milter.stop() == 0
        with Client(port) as client:
            assert client.send(b"a@b.example", [b"c@d.example"], b"Subject: x\r\n\r\n").startswith(
                "451"
            )
        with daemon.running(milter.spool, socket=milter.socket) as again, Client(port) as client:
            assert client.send(b"a@b.example", [b"c@d.example"], b"Subject: x\r\n\r\n").startswith(
                "250"
            )
            assert len(again.files()) == 1
