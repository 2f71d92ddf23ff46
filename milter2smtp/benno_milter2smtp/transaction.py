"""One mail as a dialogue: which commands go when, and what the replies make of the mail. No I/O here.

`transaction()` is a generator: it yields an Exchange (what to send, how many replies to wait for), is
sent the replies, and returns the outcome. All recipients go in this one transaction, or none: the end
of the message (`BDAT 0 LAST`, or the dot after DATA) is only yielded after every recipient was
accepted, for a server that knew the end already would store the mail for those that it accepted.

DATA is never written before the replies to RCPT either: a server that accepted some of them would go
on to read a message, and whatever ends it would be stored.

A 5xx to MAIL is about the session, mostly. But it may be about this one sender, or a parameter; then
the oldest mail would stand in the way of all others for ever. So it is probed once whether the server
takes a plain `MAIL FROM:<>`: if so, this mail is held, else the run stops.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from benno_milter2smtp.outcome import (
    Outcome,
    Permanent,
    Phase,
    SessionTrouble,
    Temporary,
    is_about_the_session,
    judge,
)
from benno_milter2smtp.plan import Plan
from benno_milter2smtp.reply import Reply

LAST = b"BDAT 0 LAST"
RSET = b"RSET"
PROBE = b"MAIL FROM:<>"


@dataclass(frozen=True)
class Exchange:
    """commands: written at once, each owed a reply. content: the message follows the last of them.

    Where there is no command the content itself is owed the reply. final: the reply is the answer to
    the whole mail; once this is written, the server may store it.
    """

    commands: tuple[bytes, ...] = ()
    content: bool = False
    final: bool = False


Dialogue = Generator[Exchange, Sequence[Reply], Outcome]
_Part = Generator[Exchange, Sequence[Reply], Outcome | None]


def transaction(plan: Plan) -> Dialogue:
    """Send one mail by `plan`. After any outcome but Delivered a RSET is due."""
    refused = yield from (_opening(plan) if plan.pipelined else _opening_by_steps(plan))
    if refused:
        return refused
    if plan.chunked:
        return (yield from _chunked_end(plan))
    return (yield from _data())


def _opening(plan: Plan) -> _Part:
    """MAIL and all RCPT in one write; a small message goes with them."""
    commands = (plan.mail, *plan.rcpts)
    if plan.early:
        mail, *rest = yield Exchange((*commands, _chunk(plan)), content=True)
    else:
        mail, *rest = yield Exchange(commands)
    if refused := judge(Phase.MAIL, mail, sized=plan.sized):
        return (yield from _judge_mail(plan, mail, refused))
    refusals = [judge(Phase.RCPT, reply) for reply in rest[: len(plan.rcpts)]]
    refusals += [judge(Phase.CHUNK, reply) for reply in rest[len(plan.rcpts) :]]
    return _worst(refusals, len(plan.rcpts))


def _opening_by_steps(plan: Plan) -> _Part:
    (mail,) = yield Exchange((plan.mail,))
    if refused := judge(Phase.MAIL, mail, sized=plan.sized):
        return (yield from _judge_mail(plan, mail, refused))
    for rcpt in plan.rcpts:
        (reply,) = yield Exchange((rcpt,))
        if refused := judge(Phase.RCPT, reply):
            return refused
    return None


def _judge_mail(plan: Plan, reply: Reply, refused: Outcome) -> Dialogue:
    """Whether a refusal of MAIL is about this mail or about the session."""
    suspicious = isinstance(refused, SessionTrouble) and not is_about_the_session(reply)
    if not suspicious or plan.mail == PROBE:
        return refused
    yield Exchange((RSET,))
    (probe,) = yield Exchange((PROBE,))
    judged = judge(Phase.MAIL, probe)
    if judged is None:
        return Permanent(f"{reply} (to MAIL, with this sender or these parameters)")
    return judged if isinstance(judged, Temporary) else refused


def _worst(refusals: Sequence[Outcome | None], rcpts: int) -> Outcome | None:
    """The gravest refusal of a recipient; that of the content counts where there is none."""
    for refused in refusals:
        if isinstance(refused, Temporary) and refused.broken:
            return refused
    for kind in (SessionTrouble, Permanent, Temporary):
        for refused in refusals[:rcpts]:
            if isinstance(refused, kind):
                return refused
    return next((refused for refused in refusals[rcpts:] if refused), None)


def _chunked_end(plan: Plan) -> Dialogue:
    if not plan.early and plan.size:
        (reply,) = yield Exchange((_chunk(plan),), content=True)
        if refused := judge(Phase.CHUNK, reply):
            return refused
    (reply,) = yield Exchange((LAST,), final=True)
    return _final(reply)


def _data() -> Dialogue:
    (reply,) = yield Exchange((b"DATA",))
    if refused := judge(Phase.DATA, reply):
        return refused
    (reply,) = yield Exchange(content=True, final=True)
    return _final(reply)


def _final(reply: Reply) -> Outcome:
    outcome = judge(Phase.END, reply)
    assert outcome is not None, "every reply to the end of the message decides"
    return outcome


def _chunk(plan: Plan) -> bytes:
    assert plan.chunked
    return b"BDAT %d" % plan.size
