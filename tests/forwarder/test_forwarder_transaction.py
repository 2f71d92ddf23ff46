"""Transactions: the reply matrix, and what is sent after which reply. No socket, no file."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benno_milter2smtp.outcome import (
    Delivered,
    Outcome,
    Permanent,
    Phase,
    SessionTrouble,
    Temporary,
    judge,
)
from benno_milter2smtp.plan import Plan
from benno_milter2smtp.reply import Reply
from benno_milter2smtp.transaction import LAST, Exchange, transaction

ON, SENT, LATER, HELD, TROUBLE, BROKEN = "on", "sent", "later", "held", "trouble", "broken"


def kind(outcome: Outcome | None) -> str:
    if outcome is None:
        return ON
    if isinstance(outcome, Temporary):
        return BROKEN if outcome.broken else LATER
    return {Delivered: SENT, Permanent: HELD, SessionTrouble: TROUBLE}[type(outcome)]


# Phase by phase: what each reply makes of the mail.
MATRIX = """
            GREETING HELLO    MAIL     RCPT     DATA     CHUNK    END
220         on       broken   broken   broken   broken   broken   broken
250         broken   on       on       on       broken   on       sent
251         broken   broken   broken   on       broken   broken   broken
252         broken   broken   broken   on       broken   broken   broken
354         broken   broken   broken   broken   on       broken   broken
421         broken   broken   broken   broken   broken   broken   broken
421_4.7.0   broken   broken   broken   broken   broken   broken   broken
450         later    later    later    later    later    later    later
451_4.7.1   later    later    later    later    later    later    later
452         later    later    later    later    later    later    later
454_4.7.0   later    later    later    later    later    later    later
500         trouble  trouble  trouble  held     held     held     held
501         trouble  trouble  trouble  held     held     held     held
502         trouble  trouble  trouble  held     held     held     held
503         trouble  trouble  trouble  held     held     held     held
530         trouble  trouble  trouble  trouble  trouble  trouble  trouble
534         trouble  trouble  trouble  trouble  trouble  trouble  trouble
535         trouble  trouble  trouble  trouble  trouble  trouble  trouble
538         trouble  trouble  trouble  trouble  trouble  trouble  trouble
550         trouble  trouble  trouble  held     held     held     held
550_5.1.1   trouble  trouble  trouble  held     held     held     held
550_5.7.1   trouble  trouble  trouble  trouble  trouble  trouble  trouble
552         trouble  trouble  trouble  held     held     held     held
552_5.3.4   trouble  trouble  trouble  held     held     held     held
552_5.7.0   trouble  trouble  trouble  trouble  trouble  trouble  trouble
553_5.1.3   trouble  trouble  trouble  held     held     held     held
554         trouble  trouble  trouble  held     held     held     held
554_5.7.26  trouble  trouble  trouble  trouble  trouble  trouble  trouble
554_5.70.1  trouble  trouble  trouble  held     held     held     held
"""

_ROWS = MATRIX.strip().splitlines()
CASES = [
    (Phase[phase], Reply(int(row.split()[0][:3]), row.split()[0][4:]), expected)
    for row in _ROWS[1:]
    for phase, expected in zip(_ROWS[0].split(), row.split()[1:], strict=True)
]


@pytest.mark.parametrize(("phase", "reply", "expected"), CASES)
def test_reply_matrix(phase: Phase, reply: Reply, expected: str) -> None:
    assert kind(judge(phase, reply)) == expected


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("text", ["552", "552 5.3.4"])
def test_552_to_mail_with_size_is_about_the_mail(phase: Phase, text: str) -> None:
    reply = Reply(552, text[4:])
    if phase is Phase.MAIL:
        assert kind(judge(phase, reply, sized=True)) == HELD
    else:
        assert judge(phase, reply, sized=True) == judge(phase, reply)
    assert kind(judge(phase, Reply(552, "5.7.1"), sized=True)) == TROUBLE


@given(st.integers(200, 599), st.text(max_size=20), st.sampled_from(Phase))
def test_only_250_to_the_end_delivers(code: int, text: str, phase: Phase) -> None:
    outcome = judge(phase, Reply(code, text))
    assert isinstance(outcome, Delivered) == (phase is Phase.END and code == 250)
    if isinstance(outcome, Permanent):
        assert 500 <= code < 600
        assert phase in {Phase.RCPT, Phase.DATA, Phase.CHUNK, Phase.END}


# Whole transactions: `commands -> replies`, one line an exchange; `+` means that the message follows.


def plan(*, chunked: bool = True, pipelined: bool = True, early: bool = True, size: int = 9) -> Plan:
    return Plan(
        mail=b"MAIL FROM:<a> SIZE=9",
        rcpts=(b"RCPT TO:<b>", b"RCPT TO:<c>"),
        header=b"",
        size=size,
        chunked=chunked,
        pipelined=pipelined,
        early=early,
        normalized=False,
        sized=False,
    )


def shown(exchange: Exchange) -> str:
    verbs = [command.replace(b" SIZE=9", b"").decode() for command in exchange.commands]
    return ", ".join(verbs + ["+"] * exchange.content) + "!" * exchange.final


def play(sent: Plan, replies: Sequence[str]) -> tuple[list[str], str]:
    """The exchanges that took place, and the outcome."""
    dialogue = transaction(sent)
    exchanges, exchange, left = [], next(dialogue), list(replies)
    while True:
        exchanges.append(shown(exchange))
        owed = len(exchange.commands) or 1
        answers, left = left[:owed], left[owed:]
        assert len(answers) == owed, f"{exchanges} after {replies}"
        try:
            exchange = dialogue.send([Reply(int(text[:3]), text[4:]) for text in answers])
        except StopIteration as end:
            assert not left, f"{left} of {replies} was not waited for"
            return exchanges, kind(end.value)


EARLY = plan()
LARGE = plan(early=False)
STEPS = plan(pipelined=False, early=False)
DATA = plan(chunked=False, early=False)
DATA_STEPS = plan(chunked=False, pipelined=False, early=False)
OPENING = "MAIL FROM:<a>, RCPT TO:<b>, RCPT TO:<c>"

STORIES: dict[str, tuple[Plan, str, list[str], str]] = {
    "small": (EARLY, "250 250 250 250 250", [f"{OPENING}, BDAT 9, +", "BDAT 0 LAST!"], SENT),
    "large": (LARGE, "250 250 250 250 250", [OPENING, "BDAT 9, +", "BDAT 0 LAST!"], SENT),
    "empty": (plan(size=0, early=False), "250 250 250 250", [OPENING, "BDAT 0 LAST!"], SENT),
    "no pipelining": (
        STEPS,
        "250 250 250 250 250",
        ["MAIL FROM:<a>", "RCPT TO:<b>", "RCPT TO:<c>", "BDAT 9, +", "BDAT 0 LAST!"],
        SENT,
    ),
    "data": (DATA, "250 250 250 354 250", [OPENING, "DATA", "+!"], SENT),
    "data without pipelining": (
        DATA_STEPS,
        "250 250 250 354 250",
        ["MAIL FROM:<a>", "RCPT TO:<b>", "RCPT TO:<c>", "DATA", "+!"],
        SENT,
    ),
    "forwarded elsewhere": (DATA, "250 251 252 354 250", [OPENING, "DATA", "+!"], SENT),
    "one recipient refused": (EARLY, "250 250 550 250", [f"{OPENING}, BDAT 9, +"], HELD),
    "one recipient put off": (EARLY, "250 450 250 250", [f"{OPENING}, BDAT 9, +"], LATER),
    "one put off, one refused": (LARGE, "250 450 550", [OPENING], HELD),
    "one refused, policy for the other": (LARGE, "250 550 550_5.7.1", [OPENING], TROUBLE),
    "one refused, then closing": (LARGE, "250 550 421", [OPENING], BROKEN),
    "one refused, then out of step": (LARGE, "250 550 220", [OPENING], BROKEN),
    "recipient refused, chunk too": (EARLY, "250 450 450 503", [f"{OPENING}, BDAT 9, +"], LATER),
    "only the chunk refused": (EARLY, "250 250 250 452", [f"{OPENING}, BDAT 9, +"], LATER),
    "steps end at the first refusal": (STEPS, "250 550", ["MAIL FROM:<a>", "RCPT TO:<b>"], HELD),
    "sender put off": (EARLY, "450 503 503 503", [f"{OPENING}, BDAT 9, +"], LATER),
    "data refused": (DATA, "250 250 250 554", [OPENING, "DATA"], HELD),
    "data put off": (DATA, "250 250 250 451", [OPENING, "DATA"], LATER),
    "data for some of them is never begun": (DATA, "250 550 250", [OPENING], HELD),
    "large chunk refused": (LARGE, "250 250 250 552", [OPENING, "BDAT 9, +"], HELD),
    "end refused": (EARLY, "250 250 250 250 554", [f"{OPENING}, BDAT 9, +", "BDAT 0 LAST!"], HELD),
    "end put off": (DATA, "250 250 250 354 452", [OPENING, "DATA", "+!"], LATER),
    "end: policy": (DATA, "250 250 250 354 550_5.7.1", [OPENING, "DATA", "+!"], TROUBLE),
    "end: authentication": (DATA, "250 250 250 354 535", [OPENING, "DATA", "+!"], TROUBLE),
    "sender refused, the session is good": (
        LARGE,
        "550 503 503 250 250",
        [OPENING, "RSET", "MAIL FROM:<>"],
        HELD,
    ),
    "sender refused, all are": (
        LARGE,
        "550 503 503 250 550",
        [OPENING, "RSET", "MAIL FROM:<>"],
        TROUBLE,
    ),
    "sender refused, then closing": (
        LARGE,
        "550 503 503 250 421",
        [OPENING, "RSET", "MAIL FROM:<>"],
        BROKEN,
    ),
    "sender refused in steps": (STEPS, "550 250 250", ["MAIL FROM:<a>", "RSET", "MAIL FROM:<>"], HELD),
    "no probe for authentication": (LARGE, "535 503 503", [OPENING], TROUBLE),
    "no probe for policy": (LARGE, "550_5.7.1 503 503", [OPENING], TROUBLE),
    "no probe for a full disk": (LARGE, "452 503 503", [OPENING], LATER),
}


@pytest.mark.parametrize("story", STORIES)
def test_transaction(story: str) -> None:
    sent, replies, exchanges, outcome = STORIES[story]
    assert play(sent, [reply.replace("_", " ") for reply in replies.split()]) == (exchanges, outcome)


def test_a_plain_null_sender_is_not_probed_with_itself() -> None:
    plain = Plan(b"MAIL FROM:<>", (b"RCPT TO:<b>",), b"", 9, True, False, False, False, False)
    assert play(plain, ["550 no"]) == (["MAIL FROM:<>"], TROUBLE)


@given(
    st.sampled_from([EARLY, LARGE, STEPS, DATA, DATA_STEPS]),
    st.lists(
        st.sampled_from([250, 250, 250, 250, 354, 251, 421, 450, 550, 552]), min_size=30, max_size=30
    ),
)
def test_the_end_is_sent_only_after_every_recipient_was_accepted(sent: Plan, codes: list[int]) -> None:
    """Whatever the server answers; and only a 250 to the end makes a mail delivered."""
    dialogue = transaction(sent)
    exchange = next(dialogue)
    accepted: set[bytes] = set()
    try:
        while True:
            if exchange.final or LAST in exchange.commands:
                assert accepted >= set(sent.rcpts)
            owed = exchange.commands or (b"",)
            replies = [Reply(codes.pop(), "") for _ in owed]
            accepted |= {
                command
                for command, reply in zip(owed, replies, strict=True)
                if reply.code in {250, 251}
            }
            last = exchange, replies[-1]
            exchange = dialogue.send(replies)
    except StopIteration as end:
        assert isinstance(end.value, Delivered) == (last[0].final and last[1].code == 250)
