"""The power fails, of one machine and of the other: what was not synced is lost, but no mail."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from machines import sending
from machines.site import CRON, Pair, answers, edit
from waiting import wait_for

pytestmark = pytest.mark.system


def test_archive_host(pair: Pair) -> None:
    """In the middle of a transfer, without a word to the mail server; then all drains by itself."""
    letters = [sending.letter(size) for size in (500, 20_000, 200_000) * 150]
    sending.send(pair.story, pair.mail.address, *letters)
    pair.mail.ask_silent_peers()
    edit(pair.mail, CRON, r"^#\*/15 ", "* ")
    try:
        with ThreadPoolExecutor(1) as threads:
            run = threads.submit(pair.forward)
            wait_for(lambda: len(pair.inbox()) > 20, "the transfer has begun")
            pair.archive.power_off()
            assert len(pair.spool()) > 20, "the transfer was at its end"
            pair.archive.boot()
            run.result()
        ends = re.findall("ended: .*", pair.mail.log("benno-milter2smtp"))
        torn = [end for end in ends if re.match(r"ended: sent=[1-9]\d* kept=[1-9]", end)]
        assert torn, f"no run was cut off in the middle: {ends}"
        pair.settle(seconds=130)
    finally:
        edit(pair.mail, CRON, r"^\* ", "#*/15 ")


def test_mail_server(pair: Pair) -> None:
    """Under load; what a client saw accepted is archived when it is back."""
    with sending.load(pair.story, pair.mail.address, clients=6):
        wait_for(lambda: len(pair.story.accepted) > 150, "mail flows")
        pair.mail.shell("echo lost >/var/tmp/not-synced")
        pair.mail.power_off()
        accepted = len(pair.story.accepted)
        pair.mail.boot()
        assert not pair.mail.path("/var/tmp/not-synced").is_file() or (
            pair.mail.path("/var/tmp/not-synced").read_text() == ""
        )
        wait_for(lambda: answers(pair.mail, sending.SMTP), "Postfix is back")
        wait_for(lambda: len(pair.story.accepted) > accepted + 50, "mail flows again")
    pair.forward()
    pair.settle()
