"""Real clients of benno-smtp: Postfix, as where the archive is a smart host, swaks, smtp-source."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import journey
import postfix
import receiver_daemon
from benno_common.envelope import Envelope
from corpus import corpus
from smtp import Client, queue_id
from waiting import wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not postfix.available(), reason="needs root and postfix (apt install postfix)"),
]

# Postfix itself alters these.
ALTERED = {"bare-cr", "bare-lf", "nul"}


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
        for envelope, _ in archived.values():
            assert envelope.sender == b"a@b.example"
            assert len(envelope.recipients) == 2  # how it numbers them depends on its version
            assert all(re.fullmatch(rb"[0-9]*c[0-9]*@d\.example", to) for to in envelope.recipients)
        wait_for(lambda: archive.log.count("answered=yes") == 500, "a log line for each mail")
        digests = re.findall(r"sha256=(\w+)", archive.log)
        archived_digests = [hashlib.sha256(message).hexdigest() for _, message in archived.values()]
        assert sorted(digests) == sorted(archived_digests)
