"""The whole way: Postfix, benno-milter, spool, benno-milter2smtp, benno-smtp, import directory."""

from __future__ import annotations

import hashlib
import re
import shutil
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

# Postfix itself alters these. A bare LF becomes CRLF, which is what its signature was made of.
ALTERED = {"bare-cr", "bare-lf", "nul"}
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


# Postfix as a client of benno-smtp, as in a site that has its archive as a smart host


def test_postfix_as_client(tmp_path: Path) -> None:
    """Postfix delivers by itself: BODY, SIZE, SMTPUTF8, ENVID, ORCPT, many recipients, its queue id."""
    cases = [case for case in corpus(150) if case.name not in ALTERED]
    with (
        receiver_daemon.running(tmp_path / "inbox", 'gateway = "smart"') as archive,
        postfix.running(tmp_path / "mta", "", extra=_CLIENT) as mta,
    ):
        journey.relay(mta, archive.port)
        accepted = {}
        with Client(mta.port) as client:
            for case in cases:
                reply = client.send(case.sender, case.recipients, case.message)
                assert reply.startswith("250"), (case.name, reply)
                accepted[queue_id(reply)] = case
        wait_for(lambda: mta.log.count(": removed") == len(cases), "an empty queue", 60)
        assert not re.findall(r"status=(?!sent).*", mta.log)
        archived = {_queue_id(mail[1]): mail for mail in journey.mails(archive.inbox).values()}
        assert len(archived) == len(archive.files()) == len(cases)
        for identity, case in accepted.items():
            envelope, message = archived[identity]
            assert envelope.sender == case.sender, case.name
            assert sorted(envelope.recipients) == sorted(set(case.recipients)), case.name
            assert journey.without_received(message) == case.message, case.name


def test_postfix_passes_delivery_status_parameters_on(tmp_path: Path) -> None:
    """They are in the receiver's way nowhere, and its log line names the mail as the sender did."""
    with (
        receiver_daemon.running(tmp_path / "inbox") as archive,
        postfix.running(tmp_path / "mta", "", extra=_CLIENT) as mta,
    ):
        journey.relay(mta, archive.port)
        with Client(mta.port) as client:
            assert (
                client.command(b"MAIL FROM:<> RET=HDRS ENVID=a+2Bb+3D SIZE=50 BODY=8BITMIME")[:3]
                == "250"
            )
            rcpt = b"RCPT TO:<c@d.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By+40z.example"
            assert client.command(rcpt)[:3] == "250"
            client.command(b"DATA")
            assert client.command(b"Subject: x\r\n\r\nGr\xfc\xdfe\r\n.")[:3] == "250"
        archive.wait_for_log(r"a\+b=: stored file=.* from=<> nrcpt=1 ")
        ((envelope, message),) = journey.mails(archive.inbox).values()
        assert envelope == Envelope(b"", (b"c@d.example",))
        assert journey.without_received(message) == b"Subject: x\r\n\r\nGr\xfc\xdfe\r\n"


_CLIENT = """\
local_header_rewrite_clients =
message_drop_headers =
default_destination_recipient_limit = 1000
smtp_line_length_limit = 0
"""


def _queue_id(message: bytes) -> str:
    found = re.search(rb" with E?SMTP\w* id (\w+)", message)
    assert found, message[:300]
    return found[1].decode()


# Other clients of benno-smtp


def test_swaks(tmp_path: Path) -> None:
    if not shutil.which("swaks"):
        pytest.skip("needs swaks (apt install swaks)")
    message = corpus(30)[22].message  # with an attachment
    with receiver_daemon.running(tmp_path / "inbox") as archive:
        command = [
            "swaks",
            "--server",
            f"127.0.0.1:{archive.port}",
            "--pipeline",
            "--from",
            "a@b.example",
        ]
        command += ["--to", "c@d.example,bcc@d.example", "--data", "-"]
        subprocess.run(command, input=message.removesuffix(b"\r\n"), check=True, capture_output=True)
        ((envelope, archived),) = journey.mails(archive.inbox).values()
        assert envelope == Envelope(b"a@b.example", (b"c@d.example", b"bcc@d.example"))
        assert archived == message


def test_smtp_source(tmp_path: Path) -> None:
    """Sixteen sessions at once, many mails over each of them (-d), two recipients each."""
    with receiver_daemon.running(tmp_path / "inbox") as archive:
        load = ["smtp-source", "-d", "-s", "16", "-m", "500", "-l", "4000", "-r", "2"]
        command = [*load, "-f", "a@b.example", "-t", "c@d.example", f"127.0.0.1:{archive.port}"]
        subprocess.run(command, check=True)
        archived = journey.mails(archive.inbox)
        assert len(archived) == 500
        recipients = (b"2c@d.example", b"c@d.example")
        assert {mail[0] for mail in archived.values()} == {Envelope(b"a@b.example", recipients)}
        wait_for(lambda: archive.log.count("answered=yes") == 500, "a log line for each mail")
        digests = re.findall(r"sha256=(\w+)", archive.log)
        archived_digests = [hashlib.sha256(message).hexdigest() for _, message in archived.values()]
        assert sorted(digests) == sorted(archived_digests)
