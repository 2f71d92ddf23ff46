"""From events to mails: tables of what the MTA says and what is to be done, for each rule.

The events are written as an MTA would say them: `MAIL a`, `RCPT b`, `DATA octets`, `END`, `ABORT`.
"""

from __future__ import annotations

import pytest

from benno_common.envelope import Envelope
from benno_milter import message
from benno_milter.event import (
    Abort,
    Content,
    EndOfMessage,
    Event,
    Ignored,
    Mail,
    Negotiation,
    NewSession,
    Quit,
    Rcpt,
)
from benno_milter.message import (
    BAD_ADDRESS,
    NOT_UNDERSTOOD,
    TOO_MANY,
    Append,
    Assembly,
    Begin,
    Cancel,
    Finish,
    Refuse,
    Step,
    strip_brackets,
)

ABORT, SESSION, QUIT, END, HELO = Abort(), NewSession(), Quit(), EndOfMessage("Q"), Ignored(owed=False)
MAIL, RCPT, DATA = Mail(b"<a>"), Rcpt(b"<b>", owed=False), Content(b"x", owed=False)
ANSWERED = (Rcpt(b"<b>", owed=True), Content(b"x", owed=True))
OTHER: list[Event] = [Mail(b"<c>"), Rcpt(b"<d>", owed=False), Content(b"y", owed=False)]
BAD_MAIL, BAD_RCPT = Mail(b"<a\rb>"), Rcpt(b"<a\nb>", owed=False)

BEGIN, APPEND = Begin(Envelope(b"a", (b"b",))), Append(b"x")
BEGIN_OTHER, APPEND_OTHER = Begin(Envelope(b"c", (b"d",))), Append(b"y")
FINISH, CANCEL = Finish(), Cancel()
OTHER_STEPS: list[Step] = [BEGIN_OTHER, APPEND_OTHER, FINISH]


def no_sender(recipients: int = 0) -> Refuse:
    return Refuse(NOT_UNDERSTOOD, "the content came without a sender", b"", recipients)


def late_recipient(recipients: int = 1) -> Refuse:
    return Refuse(NOT_UNDERSTOOD, "a recipient came after the content", b"a", recipients)


def bad_address(address: bytes, sender: bytes, recipients: int) -> Refuse:
    return Refuse(BAD_ADDRESS, f"address {address!r} contains CR, LF or NUL", sender, recipients)


def steps_of(assembly: Assembly, *events: Event) -> list[Step]:
    return [step for event in events for step in assembly.handle(event)]


STORIES: dict[str, tuple[list[Event], list[Step]]] = {
    "a mail": ([MAIL, RCPT, DATA, END], [BEGIN, APPEND, FINISH]),
    "a mail whose packets are answered": ([MAIL, *ANSWERED, END], [BEGIN, APPEND, FINISH]),
    "a mail in pieces": ([MAIL, RCPT, DATA, DATA, END], [BEGIN, APPEND, APPEND, FINISH]),
    "no step before content": ([HELO, MAIL, RCPT], []),
    "other commands in between": (
        [Negotiation(b""), HELO, MAIL, HELO, RCPT, HELO, DATA, HELO, END, HELO],
        [BEGIN, APPEND, FINISH],
    ),
    "two mails": ([MAIL, RCPT, DATA, END, *OTHER, END], [BEGIN, APPEND, FINISH, *OTHER_STEPS]),
    "abort after the end does not undo it": (
        [MAIL, RCPT, DATA, END, ABORT, *OTHER, END, ABORT],
        [BEGIN, APPEND, FINISH, *OTHER_STEPS],
    ),
    "end without content": ([MAIL, RCPT, END], [BEGIN, FINISH]),
    "empty content": ([MAIL, RCPT, Content(b"", owed=True), END], [BEGIN, Append(b""), FINISH]),
    "no recipient": ([MAIL, DATA, END], [Begin(Envelope(b"a", ())), APPEND, FINISH]),
    "a recipient twice": ([MAIL, RCPT, RCPT, END], [Begin(Envelope(b"a", (b"b", b"b"))), FINISH]),
    "many recipients in order": (
        [MAIL, *(Rcpt(b"<%d>" % number, owed=False) for number in range(1000)), END],
        [Begin(Envelope(b"a", tuple(b"%d" % number for number in range(1000)))), FINISH],
    ),
    "null sender": ([Mail(b"<>"), RCPT, END], [Begin(Envelope(b"", (b"b",))), FINISH]),
    "null sender of sendmail(1)": ([Mail(b""), RCPT, END], [Begin(Envelope(b"", (b"b",))), FINISH]),
    # Nothing of one mail is left when the next begins.
    "second MAIL": ([MAIL, RCPT, *OTHER, END], OTHER_STEPS),
    "second MAIL after content": (
        [MAIL, RCPT, DATA, *OTHER, END],
        [BEGIN, APPEND, CANCEL, *OTHER_STEPS],
    ),
    "second MAIL after a bad address": ([MAIL, BAD_RCPT, *OTHER, END], OTHER_STEPS),
    "second MAIL after a late recipient": (
        [MAIL, RCPT, DATA, RCPT, *OTHER, END],
        [BEGIN, APPEND, CANCEL, *OTHER_STEPS],
    ),
    "second MAIL after content without MAIL": ([RCPT, DATA, *OTHER, END], OTHER_STEPS),
    "recipient before MAIL": ([RCPT, *OTHER, END], OTHER_STEPS),
    "a mail after a refused one": (
        [BAD_MAIL, RCPT, DATA, END, *OTHER, END],
        [bad_address(b"<a\rb>", b"a\rb", 1), *OTHER_STEPS],
    ),
    # Without MAIL there is no envelope.
    "content without MAIL": ([DATA, END], [no_sender()]),
    "much content without MAIL": ([DATA, DATA, DATA, END], [no_sender()]),
    "recipient and content without MAIL": ([RCPT, DATA, END], [no_sender(1)]),
    "end without anything": ([END], [no_sender()]),
    "end twice": ([MAIL, RCPT, DATA, END, END], [BEGIN, APPEND, FINISH, no_sender()]),
    "end after a recipient only": ([RCPT, END], [no_sender(1)]),
    "end after abort": ([MAIL, RCPT, DATA, ABORT, END], [BEGIN, APPEND, CANCEL, no_sender()]),
    "content after abort": ([MAIL, RCPT, ABORT, DATA, END], [no_sender()]),
    "content after the end": ([MAIL, RCPT, DATA, END, DATA, END], [BEGIN, APPEND, FINISH, no_sender()]),
    "content after a new session": ([MAIL, RCPT, SESSION, DATA, END], [no_sender()]),
    # The envelope is complete when the first content comes.
    "late recipient": (
        [MAIL, DATA, RCPT, END],
        [Begin(Envelope(b"a", ())), APPEND, CANCEL, late_recipient(0)],
    ),
    "late recipient after others": (
        [MAIL, RCPT, DATA, RCPT, END],
        [BEGIN, APPEND, CANCEL, late_recipient()],
    ),
    "late recipient, more content": (
        [MAIL, RCPT, DATA, RCPT, DATA, END],
        [BEGIN, APPEND, CANCEL, late_recipient()],
    ),
    "late recipient in empty content": (
        [MAIL, RCPT, Content(b"", owed=True), RCPT, END],
        [BEGIN, Append(b""), CANCEL, late_recipient()],
    ),
    # A bad address refuses its mail, at the end.
    "bad sender": ([BAD_MAIL, RCPT, DATA, END], [bad_address(b"<a\rb>", b"a\rb", 1)]),
    "bad recipient": ([MAIL, BAD_RCPT, DATA, END], [bad_address(b"<a\nb>", b"a", 1)]),
    "bad one among others": ([MAIL, RCPT, BAD_RCPT, RCPT, END], [bad_address(b"<a\nb>", b"a", 3)]),
    "the first bad address is the reason": (
        [BAD_MAIL, BAD_RCPT, END],
        [bad_address(b"<a\rb>", b"a\rb", 1)],
    ),
    "bad address with NUL": (
        [Mail(b"a\0b"), DATA, END],
        [bad_address(b"a\0b", b"a\0b", 0)],
    ),
    "bad late recipient": (
        [MAIL, RCPT, DATA, BAD_RCPT, END],
        [BEGIN, APPEND, CANCEL, late_recipient()],
    ),
    "bad recipient without MAIL": ([BAD_RCPT, DATA, END], [bad_address(b"<a\nb>", b"", 1)]),
    "bad sender, then abort": ([BAD_MAIL, ABORT, *OTHER, END], OTHER_STEPS),
}  # fmt: skip


@pytest.mark.parametrize(("events", "expected"), STORIES.values(), ids=STORIES)
def test_steps(events: list[Event], expected: list[Step]) -> None:
    assert steps_of(Assembly(), *events) == expected


@pytest.mark.parametrize("ending", [ABORT, SESSION, QUIT], ids=["ABORT", "new session", "quit"])
@pytest.mark.parametrize("point", range(5))
def test_ended_at_each_point(ending: Event, point: int) -> None:
    """The mail before its end is forgotten, at whatever point; the mail after is whole."""
    events: list[Event] = [MAIL, RCPT, DATA, DATA, END]
    steps: list[list[Step]] = [[], [], [], [BEGIN, APPEND], [BEGIN, APPEND, APPEND]]
    assembly = Assembly()
    expected = [*steps[point], CANCEL] if steps[point] else []
    assert steps_of(assembly, *events[:point], ending) == expected
    assert assembly.idle
    assert steps_of(assembly, ending, *OTHER, END) == OTHER_STEPS


@pytest.mark.parametrize(
    "ending", [ABORT, SESSION, QUIT, END], ids=["ABORT", "new session", "quit", "end"]
)
@pytest.mark.parametrize("events", [events for events, _ in STORIES.values()], ids=STORIES)
def test_nothing_is_left_after_any_story(events: list[Event], ending: Event) -> None:
    assembly = Assembly()
    steps_of(assembly, *events, ending)
    assert assembly.idle
    assert steps_of(assembly, *OTHER, END) == OTHER_STEPS


IDLE: dict[str, tuple[list[Event], bool]] = {
    "at the start": ([], True),
    "after HELO": ([HELO], True),
    "after MAIL": ([MAIL], False),
    "after RCPT": ([MAIL, RCPT], False),
    "within the content": ([MAIL, RCPT, DATA], False),
    "after the end": ([MAIL, RCPT, DATA, END], True),
    "after abort": ([MAIL, RCPT, DATA, ABORT], True),
    "with a bad address": ([BAD_MAIL], False),
    "with a late recipient": ([MAIL, DATA, RCPT], False),
    "within content without MAIL": ([DATA], False),
    "after a refusal": ([BAD_MAIL, END], True),
}


@pytest.mark.parametrize(("events", "idle"), IDLE.values(), ids=IDLE)
def test_idle(events: list[Event], *, idle: bool) -> None:
    assembly = Assembly()
    steps_of(assembly, *events)
    assert assembly.idle is idle


def test_gateway_stands_in_every_envelope() -> None:
    assembly = Assembly(b"gw1")
    for _ in range(2):
        assert steps_of(assembly, MAIL, RCPT, END) == [Begin(Envelope(b"a", (b"b",), b"gw1")), FINISH]


@pytest.mark.parametrize("point", range(1, 4))
def test_fail(point: int) -> None:
    """Whatever comes after it, the mail is refused at its end, for the first reason; no other is."""
    events: list[Event] = [MAIL, RCPT, DATA]
    assembly = Assembly()
    steps_of(assembly, *events[:point])
    assembly.fail("451 4.3.0 Disk", "broken")
    assembly.fail("553 5.0.0 Later", "later")
    refuse = Refuse("451 4.3.0 Disk", "broken", b"a", 1)
    assert steps_of(assembly, *events[point:], END) == [refuse]
    assert steps_of(assembly, *OTHER, END) == OTHER_STEPS


def test_too_many_recipients(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they take is counted; the mail is refused at its end, and no other is."""
    monkeypatch.setattr(message, "MAX_RECIPIENTS", 3 * (len(RCPT.address) + 64))
    assert steps_of(Assembly(), MAIL, RCPT, RCPT, RCPT, END) == [
        Begin(Envelope(b"a", (b"b", b"b", b"b"))),
        FINISH,
    ]
    assembly = Assembly()
    refuse = Refuse(TOO_MANY, f"the recipients take more than {message.MAX_RECIPIENTS} octets", b"a", 5)
    assert steps_of(assembly, MAIL, *[RCPT] * 5, DATA, END) == [refuse]
    assert steps_of(assembly, *OTHER, END) == OTHER_STEPS


BRACKETS = {
    b"<a>": b"a",
    b"a": b"a",
    b"": b"",
    b"<>": b"",
    b"<<a>>": b"<a>",
    b"<a": b"<a",
    b"a>": b"a>",
    b"<": b"<",
    b">": b">",
    b"<a> ": b"<a> ",
    b"< a >": b" a ",
    b'<"a>b"@c>': b'"a>b"@c',
    b"<\xff>": b"\xff",
    b"<@a,@b:c@d>": b"@a,@b:c@d",
}


@pytest.mark.parametrize(("address", "expected"), BRACKETS.items(), ids=map(repr, BRACKETS))
def test_brackets(address: bytes, expected: bytes) -> None:
    assert strip_brackets(address) == expected
    assert steps_of(Assembly(), Mail(address), Rcpt(address, owed=False), END) == [
        Begin(Envelope(expected, (expected,))),
        FINISH,
    ]


@pytest.mark.parametrize("octet", [b"\r", b"\n", b"\0"], ids=repr)
@pytest.mark.parametrize("form", [b"<a%sb>", b"%s", b"<%s>", b"%s<a>", b"<a>%s"], ids=repr)
def test_address_that_cannot_be_written(octet: bytes, form: bytes) -> None:
    address = form % octet
    for events in ((Mail(address), RCPT), (MAIL, Rcpt(address, owed=False))):
        (refuse,) = steps_of(Assembly(), *events, DATA, END)
        assert isinstance(refuse, Refuse)
        assert refuse.reply == BAD_ADDRESS
