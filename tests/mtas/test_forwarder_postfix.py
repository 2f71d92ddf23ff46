"""benno-milter2smtp sends to a real Postfix: what it queues is what lay in the spool.

Postfix 3.7 offers PIPELINING, SIZE, 8BITMIME, SMTPUTF8 and CHUNKING, but no BINARYMIME: mail with a
bare CR, a bare LF, a NUL or without a last CRLF must not get there: Postfix would repair it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import journey
import postfix
import postfix_host
from benno_common.envelope import Envelope
from corpus import Case, corpus
from forwarding import MESSAGE, forward, names, put
from postfix_host import Host

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not postfix.available(), reason="needs root and postfix (apt install postfix)"),
]

BINARY = {"bare-cr", "bare-lf", "nul"}


def _put(spool: Path, cases: list[Case]) -> dict[str, Case]:
    return {put(spool, case.message, Envelope(case.sender, case.recipients)): case for case in cases}


def _unquoted(address: bytes) -> bytes:
    """An address as Postfix keeps it."""
    quoted = re.match(rb'"((?:[^"\\]|\\.)*)"', address)
    return re.sub(rb"\\(.)", rb"\1", quoted[1]) + address[quoted.end() :] if quoted else address


def test_corpus(host: Host, spool: Path) -> None:
    """Octets and envelopes are those of the spool; what Postfix would repair is held, and unaltered."""
    files = {
        put(spool, case.message, Envelope(case.sender, case.recipients)): case for case in corpus(200)
    }
    run = forward(spool, host.mta.port)
    held = [file for file, case in files.items() if case.name in BINARY]
    assert (run.code, run.summary) == (65, f"sent={200 - len(held)} kept=0 held={len(held)}")
    assert names(spool) == sorted(f"{file}.err" for file in held)
    for file in held:
        _, message = journey.read(spool / f"{file}.err")
        assert message == files[file].message
        assert "does not offer BINARYMIME" in journey.reasons(run.log)[file]
    queued = host.queued(run)
    assert queued.keys() == files.keys() - set(held)
    assert host.count() == len(queued)
    for file, mail in queued.items():
        case = files[file]
        assert mail.sender == _unquoted(case.sender), case.name
        expected = dict.fromkeys(map(_unquoted, case.recipients))  # Postfix drops one of two equal
        assert mail.recipients == list(expected), case.name
        assert mail.message == case.message, case.name
        assert journey.sent(run.log)[file][0] == hashlib.sha256(case.message).hexdigest()


def test_without_chunking(tmp_path: Path, spool: Path) -> None:
    """The same by DATA, one command a time."""
    cases = [case for case in corpus(100) if case.name not in BINARY]
    files = _put(spool, cases)
    only_data = "smtpd_discard_ehlo_keywords = chunking, pipelining\n"
    with postfix_host.running(tmp_path / "mta", only_data) as host:
        run = forward(spool, host.mta.port)
        assert (run.code, run.summary) == (0, f"sent={len(files)} kept=0 held=0")
        queued = host.queued(run)
        assert host.count() == len(files)
        for file, case in files.items():
            assert queued[file].message == case.message, case.name


HEADER = b"From: a@b.example\r\nSubject: x\r\n"

# Messages at the edge of what is one; Postfix leaves these alone.
UNTOUCHED = {
    "empty": b"",
    "one line end": b"\r\n",
    "no header": b"\r\nbody\r\n",
    "no body": HEADER,
    "megabyte of header": HEADER + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "megabyte of a line": HEADER + b"\r\n" + b"q" * 1_000_000 + b"\r\n.\r\n",
    "blank line in the header": HEADER + b"X: y  \r\n \r\nZ: z\r\n\r\nx\r\n",
    "headers of delivery": HEADER + b"Bcc: x@y\r\nReturn-Path: <x>\r\nContent-Length: 4\r\n\r\nx\r\n",
    "broken MIME": b"Content-Type: multipart/mixed; boundary=b\r\n" + HEADER + b"\r\n--b\r\n--c--\r\n",
}
# It cannot leave these alone: the blank line it adds, where it takes a line for the end of the header.
TOUCHED = {
    "text only": (b"text only\r\n", b"\r\ntext only\r\n"),
    "dot only": (b".\r\n", b"\r\n.\r\n"),
    "no colon": (HEADER + b"no colon\r\n\r\nx\r\n", HEADER + b"\r\nno colon\r\n\r\nx\r\n"),
    "8-bit name": (b"X-\xe4: y\r\n" + HEADER, b"\r\nX-\xe4: y\r\n" + HEADER),
    "blank before colon": (b"To : x\r\n" + HEADER + b"\r\nx\r\n", b"To: x\r\n" + HEADER + b"\r\nx\r\n"),
}


def test_messages_at_the_edge(host: Host, spool: Path) -> None:
    """By octets what Postfix itself does to them; and what does not end in CRLF is held."""
    expected = {put(spool, message): message for message in UNTOUCHED.values()}
    expected |= {put(spool, before): after for before, after in TOUCHED.values()}
    held = [put(spool, HEADER + b"\r\nno end"), put(spool, HEADER + b"X: no end")]
    run = forward(spool, host.mta.port)
    assert (run.code, run.summary) == (65, f"sent={len(expected)} kept=0 held={len(held)}")
    assert names(spool) == sorted(f"{file}.err" for file in held)
    queued = host.queued(run)
    for file, message in expected.items():
        assert queued[file].message == message


EXACT = [
    b'"a b"@c.example',
    b'"x@y \\" <z>"@v.example',
    b'"> NOTIFY=NEVER"@c.example',
    b'""@c.example',
    b"x" * 300 + b"@c.example",
    b"m\xc3\xbcller@c.example",
    b"u@b\xc3\xbccher.example",
    b"a@[192.0.2.1]",
    b"a..b@c.example",
    b"a@b@c.example",
    b"=?utf-8?q?a=40b?=@c.example",
    b"|a!b%c@d.example",
    b"MiXeD@CaSe.Example",
]
# Postfix's own reading of what it is given: route, comment, last dot, name alone.
READ_SO = {
    b"@r1.example,@r2.example:u@c.example": b"u@c.example",
    b"a(comment)@c.example": b"a@c.example",
    b"a@c.example.": b"a@c.example",
    b"postmaster": b"postmaster@mx.test",
}
REFUSED = [b"latin\xe4@c.example", b"a@c..example", b"a,b@c.example", b"-f@c.example"]


def test_addresses(host: Host, spool: Path) -> None:
    """As sender and as recipient: exactly what was in the spool, or the mail is held, and no other."""
    envelopes = {}
    for address in [*EXACT, *READ_SO, *REFUSED]:
        for envelope in (
            Envelope(b"s@b.example", (b"r@d.example", address)),
            Envelope(address, (b"r@d.example",)),
        ):
            envelopes[put(spool, MESSAGE, envelope)] = envelope
            put(spool)  # a good one in between: ten refusals in a row would end the run
    run = forward(spool, host.mta.port)
    held = [f"{file}.err" for file, given in envelopes.items() if _addresses(given) & {*REFUSED}]
    assert run.code == 65, run.log[-2000:]
    assert names(spool) == sorted(held)
    queued = host.queued(run)
    assert host.count() == len(queued)
    for file, envelope in envelopes.items():
        if f"{file}.err" not in held:
            sender, *recipients = map(_read_so, (envelope.sender, *envelope.recipients))
            assert (queued[file].sender, queued[file].recipients) == (sender, recipients)


def _read_so(address: bytes) -> bytes:
    return READ_SO.get(address, _unquoted(address))


def _addresses(envelope: Envelope) -> set[bytes]:
    return {envelope.sender, *envelope.recipients}
