"""A real Postfix that refuses benno-milter2smtp at each phase: a recipient, a mail, or all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import postfix
from benno_common.envelope import Envelope
from forwarding import MESSAGE, forward, names, put
from journey import reasons
from policy import Answers
from postfix_host import Host
from waiting import free_port

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not postfix.available(), reason="needs root and postfix (apt install postfix)"),
]

ODD = Envelope(b"a@b.example", (b"first@x.example", b"no@x.example", b"last@x.example"))


@pytest.mark.parametrize(
    ("answer", "code", "summary", "name"),
    [
        ("550 5.1.1 unknown", 65, "sent=2 kept=0 held=1", "{}.err"),
        ("552 5.2.2 full", 65, "sent=2 kept=0 held=1", "{}.err"),
        ("450 4.2.1 later", 75, "sent=2 kept=1 held=0", "{}"),
    ],
)
def test_one_recipient_refused(
    host: Host, spool: Path, answer: str, code: int, summary: str, name: str
) -> None:
    """The whole mail stays here, and none of its recipients gets it; the mails beside it go."""
    host.service.answers = {"RCPT": {"no@x.example": answer}}
    put(spool)
    odd = put(spool, MESSAGE, ODD)
    put(spool)
    run = forward(spool, host.mta.port)
    assert (run.code, run.summary) == (code, summary)
    assert names(spool) == [name.format(odd)]
    assert answer[:9] in reasons(run.log)[odd]
    assert host.count() == 2
    assert odd not in host.queued(run)


# About us, not about a mail: a person must repair it.
CLOSED_DOORS: list[Answers] = [
    {"CONNECT": "554 5.7.1 your network is not allowed"},
    {"EHLO": "550 5.7.1 who are you?"},
    {"MAIL": "550 5.7.1 no mail from you"},
    {"RCPT": "554 5.7.1 relay access denied"},
    {"RCPT": {"no@x.example": "554 5.7.1 policy"}},
    {"DATA": "554 5.7.1 policy"},
    {"END-OF-MESSAGE": "554 5.7.1 policy"},
]


@pytest.mark.parametrize("answers", CLOSED_DOORS, ids=str)
def test_host_takes_no_mail_from_us(host: Host, spool: Path, answers: Answers) -> None:
    """All are kept, none is held, the run ends with one error, and does not try them all."""
    host.service.answers = answers
    waiting = sorted(put(spool, MESSAGE, ODD) for _ in range(50))
    run = forward(spool, host.mta.port)
    assert (run.code, run.summary) == (75, "sent=0 kept=50 held=0"), run.log
    assert names(spool) == waiting
    assert len(re.findall(r"ERROR: 127.0.0.1:\d+ takes no mail: .*5.7.1", run.log)) == 1, run.log
    assert run.log.count("ERROR") == 1, run.log
    assert host.service.asked.count("MAIL") <= 8  # four connections
    assert host.count() == 0


# Postscreen, a greylist, a full disk.
PUT_OFF: list[Answers] = [
    {"CONNECT": "450 4.3.2 service currently unavailable"},
    {"CONNECT": "421 4.3.2 too many connections"},
    {"EHLO": "450 4.7.1 later"},
    {"MAIL": "452 4.3.1 insufficient system storage"},
    {"RCPT": "450 4.7.1 greylisted"},
    {"RCPT": "421 4.3.2 shutting down"},
    {"DATA": "451 4.3.5 configuration error"},
    {"END-OF-MESSAGE": "451 4.3.0 later"},
]


@pytest.mark.parametrize("answers", PUT_OFF, ids=str)
def test_host_takes_no_mail_now(host: Host, spool: Path, answers: Answers) -> None:
    """All are kept, not all are tried; the next run, when the host takes mail again, sends them."""
    host.service.answers = answers
    waiting = sorted(put(spool) for _ in range(50))
    run = forward(spool, host.mta.port)
    assert (run.code, run.summary) == (75, "sent=0 kept=50 held=0"), run.log
    assert names(spool) == waiting
    assert host.service.asked.count("MAIL") < 20
    assert host.count() == 0
    host.service.answers = {}
    run = forward(spool, host.mta.port)
    assert (run.code, run.summary) == (0, "sent=50 kept=0 held=0"), run.log
    assert sorted(host.queued(run)) == waiting


def test_each_mail_is_put_off_for_its_own_sake(host: Host, spool: Path) -> None:
    """Ten mailboxes that are full must not keep the mails behind them here: all are tried."""
    host.service.answers = {"RCPT": {"no@x.example": "452 4.2.2 mailbox full"}}
    odd = [put(spool, MESSAGE, ODD) for _ in range(50)]
    put(spool)
    run = forward(spool, host.mta.port)
    assert (run.code, run.summary) == (75, "sent=1 kept=50 held=0"), run.log
    assert names(spool) == sorted(odd)


def test_the_host_says_421_now_and_then(host: Host, spool: Path) -> None:
    """It ends the session in the middle of a mail; that mail waits, none is lost, none comes twice."""
    host.service.answers = {"RCPT": {"no@x.example": "421 4.3.2 shutting down"}}
    odd = {put(spool, MESSAGE, ODD) for _ in range(3) if put(spool)}
    run = forward(spool, host.mta.port)
    assert (run.code, run.summary) == (75, "sent=3 kept=3 held=0"), run.log
    assert {*names(spool)} == odd
    assert host.count() == 3


def test_too_large_for_the_host(host: Host, spool: Path) -> None:
    """Held before it is sent, for the host names its limit; the smaller ones go."""
    large = put(spool, b"Subject: x\r\n\r\n" + (b"x" * 98 + b"\r\n") * 60_000)
    put(spool)
    run = forward(spool, host.mta.port)
    assert (run.code, run.summary) == (65, "sent=1 kept=0 held=1")
    assert names(spool) == [f"{large}.err"]
    assert host.count() == 1


def test_next_host(host: Host, spool: Path) -> None:
    """Nobody listens on the first host; the second is this one."""
    files = {put(spool) for _ in range(20)}
    run = forward(spool, free_port(), host.mta.port)
    assert (run.code, run.summary) == (0, "sent=20 kept=0 held=0")
    assert host.queued(run).keys() == files
