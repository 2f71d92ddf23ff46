"""A mail's whole way, and what stands in its way."""

from __future__ import annotations

import hashlib
import re

import pytest

from machines import sending
from machines.site import CRON, Pair, edit
from waiting import wait_for

pytestmark = pytest.mark.system


def test_installed_with_apt(pair: Pair) -> None:
    """Mail by SMTP, submission and sendmail(1), with BCC; cron brings it to the archive host."""
    mail = pair.mail.address
    by_smtp = [sending.letter(size) for size in (10, 5000, 3_000_000)]
    assert all(reply.startswith("250") for reply in sending.send(pair.story, mail, *by_smtp))
    sending.send(pair.story, mail, sending.letter(), port=sending.SUBMISSION, sender=b"")
    sending.sendmail(pair.story, pair.mail, sending.letter())
    edit(pair.mail, CRON, r"^#\*/15 ", "* ")
    try:
        pair.settle(seconds=130)
    finally:
        edit(pair.mail, CRON, r"^\* ", "#*/15 ")
    assert len(pair.story.accepted) == len(pair.inbox()) == 5
    _can_be_followed(pair, by_smtp[1])


def _can_be_followed(pair: Pair, message: bytes) -> None:
    """From the queue id to the file in the archive, by names and the same SHA-256 in all three logs."""
    sha256 = hashlib.sha256(message).hexdigest()
    milter = re.findall(rf"(\S+): stored file=(\S+) .*sha256={sha256}", pair.mail.log("benno-milter"))
    ((queue_id, spooled),) = milter
    assert queue_id in pair.mail.log("postfix/qmgr")
    assert f".{queue_id}." in spooled
    sent = rf'{spooled}: sent .*sha256={sha256}.*reply="250 .* Stored as (\S+)"'
    (archived,) = re.findall(sent, pair.mail.log("benno-milter2smtp"))
    received = rf"{re.escape(spooled)}: stored file=(\S+) .*sha256={sha256}"
    (stored,) = re.findall(received, pair.archive.log("benno-smtp"))
    assert stored == archived
    assert stored in {path.name for path in pair.inbox()}


def test_without_milter(pair: Pair) -> None:
    """Postfix defers, whoever sends; nothing gets past the archive. Then it all flows again."""
    pair.mail.run("systemctl", "stop", "benno-milter")
    refused = sending.letter()
    (reply,) = sending.send(pair.story, pair.mail.address, refused)
    assert reply.startswith("451 "), reply
    sending.sendmail(pair.story, pair.mail, sending.letter())
    pair.mail.run("postqueue", "-f")
    wait_for(lambda: "Service unavailable" in pair.mail.log("postfix/cleanup"), "cleanup has tried")
    assert pair.delivered() == set()
    assert pair.spool() == []
    pair.mail.run("systemctl", "start", "benno-milter")
    (reply,) = sending.send(pair.story, pair.mail.address, refused)
    assert reply.startswith("250 "), reply
    pair.mail.run("postqueue", "-f")
    wait_for(lambda: len(pair.delivered()) == len(pair.spool()) == 2, "both mails went their way")
    pair.forward()
    pair.settle()


def test_milter_killed(pair: Pair) -> None:
    """It is there again at once, and no mail that was accepted meanwhile is missing."""
    with sending.load(pair.story, pair.mail.address):
        for _ in range(2):
            before = len(pair.story.accepted)
            wait_for(lambda count=before: len(pair.story.accepted) > count + 20, "mail flows")  # type: ignore[misc]
            pair.mail.run("systemctl", "kill", "--signal=KILL", "benno-milter")
    wait_for(lambda: pair.mail.is_active("benno-milter"), "systemd has started it")
    pair.forward()
    pair.settle()
