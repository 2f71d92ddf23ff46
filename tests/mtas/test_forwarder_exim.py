"""benno-milter2smtp sends to a real Exim: what it queues is what lay in the spool.

Exim offers PIPELINING, SIZE, 8BITMIME, SMTPUTF8 and CHUNKING but no BINARYMIME, as Postfix does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import exim
import journey
from benno_common.envelope import Envelope
from corpus import corpus
from forwarding import MESSAGE, Run, forward, names, put

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(exim.missing() is not None, reason=str(exim.missing())),
]

BINARY = {"bare-cr", "bare-lf", "nul"}
REFUSED = {"literal"}  # "domain literals not allowed"
RETURN_PATH = re.compile(rb"^Return-Path: .*\r\n", re.MULTILINE)  # Exim takes it off
BLANK = re.compile(rb' (?=\\")')  # Exim writes = for it in a recipient


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[exim.Exim]:
    with exim.running(tmp_path_factory.mktemp("exim") / "exim") as running:
        yield running


def _queued(host: exim.Exim, run: Run) -> dict[str, tuple[Envelope, bytes]]:
    """What became of the mails in the log of a forwarder, by file."""
    found = {}
    for file, (_, reply) in journey.sent(run.log).items():
        (identity,) = re.findall(r"id=(\S+)", reply)
        found[file] = _read(host.root / "spool" / "input" / identity)
    return found


def _read(path: Path) -> tuple[Envelope, bytes]:
    """A mail in its queue: envelope, and message without its own Received line, with CRLF.

    The header file: name, user, sender, options, recipients behind their number; a blank line, then
    each header field behind its length and a letter (Exim's specification, "Format of spool files").
    """
    head, _, fields = path.with_name(f"{path.name}-H").read_bytes().partition(b"\n\n")
    count, recipients = re.findall(rb"^(\d+)\n((?:(?!-|XX$).+\n?)+)\Z", head, re.MULTILINE)[0]
    assert int(count) == len(recipients.splitlines())
    headers = b""
    while field := re.match(rb"(\d+)(.) ", fields):
        text = fields[field.end() : field.end() + int(field[1])]
        fields = fields[field.end() + int(field[1]) :]
        headers += text if field[2] != b"*" else b""
    body = path.with_name(f"{path.name}-D").read_bytes().partition(b"\n")[2]
    message = (headers + b"\n" + body).replace(b"\n", b"\r\n")
    sender = head.split(b"\n")[2][1:-1]
    return Envelope(sender, tuple(recipients.splitlines())), journey.without_received(message)


def test_corpus(host: exim.Exim, spool: Path) -> None:
    """Octets and envelopes are those of the spool; what Exim would repair or refuses is held."""
    cases = corpus(200)
    files = {put(spool, case.message, Envelope(case.sender, case.recipients)): case for case in cases}
    run = forward(spool, host.port)
    held = {file for file, case in files.items() if case.name in BINARY | REFUSED}
    assert (run.code, run.summary) == (65, f"sent={200 - len(held)} kept=0 held={len(held)}")
    assert names(spool) == sorted(f"{file}.err" for file in held)
    queued = _queued(host, run)
    assert queued.keys() == files.keys() - held
    for file, (envelope, message) in queued.items():
        case = files[file]
        assert envelope.sender == case.sender, case.name
        recipients = [BLANK.sub(b"=", recipient) for recipient in case.recipients]
        assert sorted(envelope.recipients) == sorted(recipients), case.name
        assert message == RETURN_PATH.sub(b"", case.message), case.name


def test_one_recipient_refused(host: exim.Exim, spool: Path) -> None:
    """The whole mail is held, and none of its recipients gets it; the mails beside it go."""
    before = len(host.mails())
    put(spool)
    recipients = (b"first@x.example", b"no@[192.0.2.1]", b"last@x.example")
    odd = put(spool, MESSAGE, Envelope(b"a@b.example", recipients))
    put(spool)
    run = forward(spool, host.port)
    assert (run.code, run.summary) == (65, "sent=2 kept=0 held=1")
    assert names(spool) == [f"{odd}.err"]
    assert "domain literals not allowed" in journey.reasons(run.log)[odd]
    assert len(host.mails()) == before + 2


HEADER = b"From: a@b.example\r\nSubject: x\r\n"
UNTOUCHED = {
    "no body": HEADER + b"\r\n",
    "megabyte of a line": HEADER + b"\r\n" + b"q" * 1_000_000 + b"\r\n.\r\n",
    "dots": HEADER + b"\r\n.\r\n..\r\n.a\r\n",
}
ADDRESSES = [
    b"m\xc3\xbcller@c.example",
    b'"a b"@c.example',
    b"x" * 64 + b"@c.example",
    b"|a!b%c@d.example",
]


def test_odd_mail(host: exim.Exim, spool: Path) -> None:
    """Odd messages and odd addresses as they are; what does not end in CRLF is held."""
    files: dict[str, tuple[Envelope, bytes]] = {}
    for message in UNTOUCHED.values():
        envelope = Envelope(b"a@b.example", (b"c@d.example",))
        files[put(spool, message, envelope)] = envelope, message
    for address in ADDRESSES:
        envelope = Envelope(address, (address,))
        files[put(spool, HEADER + b"\r\n", envelope)] = envelope, HEADER + b"\r\n"
    held = [put(spool, HEADER + b"\r\nno end"), put(spool, HEADER + b"X: no end")]
    run = forward(spool, host.port)
    assert _queued(host, run) == files
    assert (run.code, run.summary) == (65, f"sent={len(files)} kept=0 held={len(held)}")
    assert names(spool) == sorted(f"{file}.err" for file in held)
