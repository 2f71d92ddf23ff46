"""Clients that others have written: swaks, smtp-source, and Python's own."""

from __future__ import annotations

import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import receiver_daemon
from receiver_daemon import Receiver

pytestmark = pytest.mark.system

SWAKS = "swaks"
SMTP_SOURCE = shutil.which("smtp-source", path="/usr/sbin:/usr/bin")

needs_swaks = pytest.mark.skipif(not shutil.which(SWAKS), reason="no swaks: install swaks")
needs_smtp_source = pytest.mark.skipif(not SMTP_SOURCE, reason="no smtp-source: install postfix")


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "ERROR" not in receiver.log


def run(*command: str) -> str:
    """What it says. It must succeed."""
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
    )
    said = ended.stdout.decode(errors="replace")
    assert ended.returncode == 0, said
    return said


def swaks(receiver: Receiver, *options: str) -> str:
    return run(SWAKS, "--server", f"127.0.0.1:{receiver.port}", "--from", "a@b.example", *options)


@needs_swaks
@pytest.mark.parametrize(
    "options", [(), ("--pipeline",), ("--protocol", "SMTP")], ids=["", "PIPELINING", "HELO"]
)
def test_swaks(receiver: Receiver, options: tuple[str, ...]) -> None:
    said = swaks(
        receiver, "--to", "c@d.example,bcc@e.example", "--body", "line\n.dot\n..dots", *options
    )
    assert "250 2.0.0 Stored as" in said
    ((sender, recipients, message),) = receiver.mails()
    assert (sender, recipients) == (b"a@b.example", (b"c@d.example", b"bcc@e.example"))
    assert message.startswith(b"Date: ")
    assert b"\r\n\r\nline\r\n.dot\r\n..dots\r\n" in message


@needs_swaks
def test_swaks_sends_an_attachment(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "attached").write_bytes(bytes(range(256)) * 2000)
    swaks(receiver, "--to", "c@d.example", "--attach", f"@{tmp_path / 'attached'}")
    assert len(receiver.mails()[0][2]) > 600_000


@needs_swaks
@pytest.mark.parametrize("where", ["CONNECT", "HELO", "MAIL", "RCPT", "DATA", "DOT"])
def test_swaks_leaves_early(receiver: Receiver, where: str) -> None:
    """Only what was sent to its end is stored."""
    swaks(receiver, "--to", "c@d.example", "--drop-after", where)
    assert len(receiver.files()) == (where == "DOT")


@needs_smtp_source
@pytest.mark.parametrize(
    ("sessions", "mails", "recipients", "size", "more"),
    [
        (1, 50, 1, 1000, ()),
        (20, 300, 1, 2000, ("-d",)),
        (5, 20, 100, 100_000, ()),
        (2, 4, 2, 5_000_000, ()),
    ],
    ids=["one by one", "twenty at once, connections kept", "many recipients", "large"],
)
def test_smtp_source(
    receiver: Receiver, sessions: int, mails: int, recipients: int, size: int, more: tuple[str, ...]
) -> None:
    assert SMTP_SOURCE
    counts = ("-s", str(sessions), "-m", str(mails), "-r", str(recipients), "-l", str(size))
    addresses = ("-f", "sender@b.example", "-t", "to@d.example")
    run(SMTP_SOURCE, *counts, *addresses, *more, f"inet:127.0.0.1:{receiver.port}")
    found = receiver.mails()
    assert len(found) == mails
    for sender, to, message in found:
        assert sender == b"sender@b.example"
        assert len(to) == recipients
        assert size <= len(message) <= size + 1000
        assert message.endswith(b"\r\n")


def test_smtplib(receiver: Receiver) -> None:
    """It says EHLO, SIZE and SMTPUTF8, and asks by VRFY."""
    message = "Subject: x\r\n\r\nbödy\r\n.\r\n".encode()
    with smtplib.SMTP("127.0.0.1", receiver.port, timeout=60) as client:
        assert client.verify("c@d.example")[0] == 252
        options = ["SMTPUTF8", "BODY=8BITMIME"]
        refused = client.sendmail("jürgen@b.example", ["c@d.example", "ü@e.example"], message, options)
        assert refused == {}
    assert receiver.mails() == [
        ("jürgen@b.example".encode(), (b"c@d.example", "ü@e.example".encode()), message)
    ]
