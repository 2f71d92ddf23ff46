"""The whole way: Postfix, benno-milter, spool, benno-milter2smtp, benno-smtp, import directory."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import journey
import postfix
import receiver_daemon
from benno_common.envelope import Envelope
from corpus import Case, corpus
from journey import forward
from smtp import Client, queue_id
from waiting import wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not postfix.available(), reason="needs root and postfix (apt install postfix)"),
]

# Postfix makes a blank of it. A bare LF becomes CRLF, which is what its signature was made of.
UNVERIFIABLE = {"bare-cr"}


def test_journey(tmp_path: Path) -> None:
    """What lies in the import directory at the end is what Postfix has queued, octet for octet."""
    signer, accepted = journey.Signer.new(), dict[str, Case]()
    with (
        receiver_daemon.running(tmp_path / "inbox") as archive,
        journey.front(tmp_path, "--gateway", "mx1", extra=journey.HOLD) as (mta, milter),
    ):
        with Client(mta.port) as client:
            for case in corpus(500):
                reply = client.send(case.sender, case.recipients, signer.sign(case.message))
                assert reply.startswith("250"), (case.name, reply)
                accepted[queue_id(reply)] = case
        wait_for(lambda: milter.log.count("stored file=") == 500, "a log line for each mail")
        spooled = journey.mails(milter.spool)

        run = forward(milter.spool, archive.port)
        assert (run.code, run.summary) == (0, "sent=500 kept=0 held=0"), run.log[-2000:]
        assert not milter.files()

        wait_for(lambda: archive.log.count("stored file=") == 500, "a log line for each mail")
        archived = journey.mails(archive.inbox)
        assert len(archived) == 500
        by_milter, by_forwarder, by_receiver = (
            journey.stored(milter.log),
            journey.sent(run.log),
            journey.stored(archive.log),
        )
        assert by_milter.keys() == accepted.keys()
        queued = journey.queued(mta, accepted)
        for identity, case in accepted.items():
            in_spool, sha256 = by_milter[identity]
            in_inbox, _ = by_receiver[in_spool]
            envelope, message = archived[in_inbox]
            assert envelope == Envelope(case.sender, case.recipients, b"mx1"), case.name
            assert (envelope, message) == spooled[in_spool], case.name
            assert message == queued[identity].message, case.name
            assert signer.verifies(message) == (case.name not in UNVERIFIABLE), case.name
            digests = {sha256, by_forwarder[in_spool][0], by_receiver[in_spool][1]}
            assert digests == {hashlib.sha256(message).hexdigest()}, case.name


# As clients write them between the brackets, right or wrong; Postfix takes them and passes them on.
ADDRESSES = [
    b"blank@behind.example ",
    b" blank@before.example",
    b"<two@brackets.example>",
    b"a\x7fb@control.example",
    b'"> NOTIFY=NEVER"@c.example',
    b'"x@y \\" <z>"@v.example',
    b"@r1.example,@r2.example:u@c.example",
    b"x" * 2000 + b"@c.example",
    b"m\xc3\xbcller@b\xc3\xbccher.example",
    b"a(comment)@c.example",
    b"a@b@c.example",
    b"a@c.example.",
    b"postmaster",
]


def test_addresses(tmp_path: Path) -> None:
    """In the archive stands what the client wrote, as sender and as recipient."""
    with (
        receiver_daemon.running(tmp_path / "inbox") as archive,
        journey.front(tmp_path) as (mta, milter),
    ):
        with Client(mta.port) as client:
            for address in ADDRESSES:
                client.command(b"MAIL FROM:<" + address + b"> SMTPUTF8")
                client.command(b"RCPT TO:<c@d.example>")
                client.command(b"RCPT TO:<" + address + b">")
                assert client.command(b"DATA")[:3] == "354", (address, client.replies[-4:])
                assert client.command(b"Subject: x\r\n\r\n.")[:3] == "250", address
        run = forward(milter.spool, archive.port)
        assert (run.code, run.summary) == (0, f"sent={len(ADDRESSES)} kept=0 held=0"), run.log
        archived = [envelope for envelope, _ in journey.mails(archive.inbox).values()]
        expected = [Envelope(address, (b"c@d.example", address)) for address in ADDRESSES]
        assert sorted(archived, key=repr) == sorted(expected, key=repr)


def test_no_octet_is_forgiven() -> None:
    """The signatures of the journey notice one blank."""
    signer = journey.Signer.new()
    message = signer.sign(corpus(1)[0].message)
    assert signer.verifies(message)
    assert not signer.verifies(message.replace(b"Date: ", b"Date:  ", 1))


def test_forwarder_runs_while_mail_flows(tmp_path: Path) -> None:
    """Runs one after another beside a Postfix that takes mail all the time: each mail comes once."""
    with (
        receiver_daemon.running(tmp_path / "inbox") as archive,
        journey.front(tmp_path) as (mta, milter),
    ):
        load = ["smtp-source", "-s", "4", "-m", "400", "-l", "3000", "-f", "a@b.example", "-N"]
        flow = subprocess.Popen([*load, "-t", "c@d.example", f"127.0.0.1:{mta.port}"])
        codes, runs = set(), 0
        while flow.poll() is None:
            codes.add(forward(milter.spool, archive.port).code)
            runs += 1
        codes.add(forward(milter.spool, archive.port).code)
        assert (flow.wait(), codes) == (0, {0})
        assert runs > 1
        assert not milter.files()
        digests = re.findall(r"sha256=(\w+)", milter.log)
        assert len(digests) == len(archive.files()) == 400
        archived = Counter(
            hashlib.sha256(message).hexdigest() for _, message in journey.mails(archive.inbox).values()
        )
        assert archived == Counter(digests)


def test_archive_host_away(tmp_path: Path) -> None:
    """Mail waits in the spool while the archive host is away, and leaves it when the host is back."""
    cases = corpus(80)[45:]
    with journey.front(tmp_path) as (mta, milter):
        with receiver_daemon.running(tmp_path / "inbox") as archive:
            port = archive.port
        with Client(mta.port) as client:
            for case in cases:
                assert client.send(case.sender, case.recipients, case.message).startswith("250")
        spooled = journey.mails(milter.spool)
        run = forward(milter.spool, port)
        assert (run.code, run.summary) == (75, f"sent=0 kept={len(cases)} held=0")
        assert journey.mails(milter.spool) == spooled
        with receiver_daemon.running(tmp_path / "inbox", f"port = {port}") as archive:
            run = forward(milter.spool, port)
            assert (run.code, run.summary) == (0, f"sent={len(cases)} kept=0 held=0")
            assert sorted(journey.mails(archive.inbox).values(), key=repr) == sorted(
                spooled.values(), key=repr
            )
