"""Servers that refuse, stall, close or store without saying so, at each phase: what becomes of it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from benno_common.envelope import Envelope
from benno_common.identity import Mark
from benno_milter2smtp import delivery, greeting, route
from forwarding import MESSAGE, forward, names, put
from scripted import CLOSE, EVERYTHING, STALL, Action, After, Script, Stored, Then, Where, serving
from waiting import free_port

pytestmark = pytest.mark.slow

ONE = ("--connections", "1")
PHASES = {
    "MAIL": EVERYTHING,
    "RCPT": EVERYTHING,
    "CHUNK": EVERYTHING,
    "LAST": EVERYTHING,
    "DATA": (),
    "END": (),
}

# What the first of two mails meets at a phase; the second meets a good server. Exit code, and what
# became of the first: sent, kept, held, or stopped where neither was sent and both are there.
ANSWERS: dict[str, tuple[Action, str]] = {
    "put off": ("451 4.3.0 later", "kept"),
    "closing": (Then("421 4.3.2 closing"), "kept"),
    "closing, and open": ("421 4.3.2 closing", "kept"),
    "refused": ("554 5.6.0 no", "held"),
    "policy, once": ("550 5.7.1 not this", "kept"),
    "authentication": ("530 5.5.1 who are you?", "stopped"),
    "wrong password": ("535 no", "stopped"),
    "close": (CLOSE, "kept"),
    "stall": (STALL, "kept"),
    "no reply at all": ("hello", "kept"),
    "out of step": ("220 hello", "kept"),
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FINAL_SECONDS", 1.0)
    monkeypatch.setattr(delivery, "QUIT_SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("phase", PHASES)
def test_each_phase(spool: Path, phase: str, answer: str) -> None:
    action, expected = ANSWERS[answer]
    script: Script = {phase: [action, "354 go on" if phase == "DATA" else "250 ok"]}
    first, second = put(spool), put(spool, b"Subject: second\r\n\r\n")
    with serving(offers=PHASES[phase], script=script) as server:
        run = forward(
            spool, server.port, options=(*ONE, "--timeout", "1" if answer == "stall" else "60")
        )
    left = {
        "kept": (75, [first], 1, "sent=1 kept=1 held=0"),
        "held": (65, [f"{first}.err"], 1, "sent=1 kept=0 held=1"),
        "stopped": (75, [first, second], 0, "sent=0 kept=2 held=0"),
    }[expected]
    assert (run.code, names(spool), len(server.mails), run.summary) == left, run.log
    if expected == "stopped":
        assert f"ERROR: 127.0.0.1:{server.port} takes no mail: " in run.log
        assert "nothing is held for that" in run.log


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("phase", ["LAST", "END"])
@pytest.mark.parametrize("octets", [b"", b"2", b"250", b"250 ok", b"250 ok\r", b"250-ok\r\n"])
def test_a_lost_final_reply_is_no_delivery(spool: Path, phase: str, octets: bytes) -> None:
    """The mail stays, and comes twice; the server's second copy has the same octets and recipients."""
    name = put(spool)
    with serving(offers=PHASES[phase], script={phase: [Stored(octets), "250 ok"]}) as server:
        run = forward(spool, server.port)
        assert (run.code, names(spool)) == (75, [name])
        assert forward(spool, server.port).code == 0
    assert names(spool) == []
    assert len(server.mails) == 2
    assert server.mails[0] == server.mails[1]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("phase", ["LAST", "END"])
@pytest.mark.parametrize("before", [0, 1])
def test_a_mail_that_may_be_stored_does_not_go_again_in_the_same_run(
    spool: Path, phase: str, before: int
) -> None:
    """Neither over a new connection nor to the next host, where mails that nobody stored do go.

    After two losses it went on in the middle of what was left.
    """
    stored = [put(spool) for _ in range(before + 4)]
    del stored[before + 2]
    script: Script = {phase: ["250 ok"] * before + [Stored(b"")]}
    with serving(offers=PHASES[phase], script=script) as bad, serving() as good:
        run = forward(spool, bad.port, good.port, options=ONE)
    assert (run.code, names(spool)) == (75, stored[before : before + 3]), run.log
    assert (len(bad.mails), len(good.mails)) == (before + 3, 1)


# One of three recipients


@pytest.mark.parametrize("offers", [EVERYTHING, ("PIPELINING",), ("CHUNKING",), ()])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(("reply", "code"), [("550 5.1.1 unknown", 65), ("452 4.5.3 too many", 75)])
def test_one_of_three_recipients_refused(
    spool: Path, offers: tuple[str, ...], place: int, reply: str, code: int
) -> None:
    name = put(spool, MESSAGE, Envelope(b"a", (b"b", b"c", b"d")))
    replies = ["250 ok"] * 3
    replies[place] = reply
    with serving(offers=offers, script={"RCPT": replies}) as server:
        run = forward(spool, server.port)
    assert server.mails == []
    assert run.code == code
    assert names(spool) == [f"{name}.err" if code == 65 else name]
    dialogue = server.dialogue()
    assert "C: BDAT 0 LAST" not in dialogue
    assert "C: DATA" not in dialogue
    assert "C: RSET" in dialogue


# A refusal of MAIL


def test_a_sender_that_is_refused_alone_is_held(spool: Path) -> None:
    first = put(spool)
    put(spool)
    with serving(script={"MAIL": ["550 5.1.8 bad sender", "250 ok"]}) as server:
        run = forward(spool, server.port, options=ONE)
    assert (run.code, names(spool)) == (65, [f"{first}.err"])
    verbs = [line.split()[1] for line in server.dialogue() if line.startswith("C: ")]
    assert verbs[1:9] == ["MAIL", "RCPT", "RCPT", "BDAT", "(24", "RSET", "MAIL", "RSET"]
    assert "250 ok" in run.log


def test_where_every_sender_is_refused_nothing_is_held(spool: Path) -> None:
    stored = [put(spool) for _ in range(30)]
    with serving(script={"MAIL": ["550 no"]}) as server:
        run = forward(spool, server.port)
    assert (run.code, names(spool), run.summary) == (75, stored, "sent=0 kept=30 held=0")
    assert server.count("MAIL") <= 8


def test_552_to_mail_with_size_is_held(spool: Path) -> None:
    name = put(spool)
    with serving(script={"MAIL": ["552 5.3.4 too large"]}) as server:
        assert forward(spool, server.port).code == 65
    assert names(spool) == [f"{name}.err"]
    assert server.count("MAIL") == 1


# In a row


@pytest.mark.parametrize("connections", ["1", "4"])
def test_ten_refusals_in_a_row_stop_the_run(spool: Path, connections: str) -> None:
    """It is not about these mails, then: none is held, also not bit by bit by a night of runs."""
    stored = [put(spool) for _ in range(30)]
    with serving(script={"RCPT": ["550 5.1.1 unknown"]}) as server:
        run = forward(spool, server.port, options=("--connections", connections))
    assert (run.code, names(spool), run.summary) == (75, stored, "sent=0 kept=30 held=0")
    assert server.count("MAIL") <= 13
    assert "takes no mail: 10 mails in a row were refused, the last one: 550 5.1.1 unknown" in run.log


@pytest.mark.parametrize("connections", ["1", "4"])
def test_ten_put_off_in_a_row_stop_the_run(spool: Path, connections: str) -> None:
    stored = [put(spool) for _ in range(30)]
    with serving(script={"MAIL": ["452 4.3.1 disk full"]}) as server:
        run = forward(spool, server.port, options=("--connections", connections))
    assert (run.code, names(spool), run.summary) == (75, stored, "sent=0 kept=30 held=0")
    assert "too many mails in a row were put off, the last one: 452 4.3.1 disk full" in run.log
    assert server.count("MAIL") <= 13


def test_ten_mails_that_are_put_off_do_not_block_the_others(spool: Path) -> None:
    """It is about their recipients, not about the host."""
    stored = [put(spool) for _ in range(12)]
    put(spool)
    with serving(script={"RCPT": ["450 4.1.8 unknown"] * 2 * 12 + ["250 ok"]}) as server:
        run = forward(spool, server.port, options=ONE)
    assert (run.code, names(spool), run.summary) == (75, stored, "sent=1 kept=12 held=0")


@pytest.mark.parametrize(
    ("answer", "bad"),
    [(CLOSE, 5), ("451 4.3.0 the content filter failed", 15)],
    ids=["lost connections", "put off"],
)
@pytest.mark.parametrize("connections", ["1", "4"])
def test_the_oldest_mails_do_not_block_the_others_for_ever(
    spool: Path, connections: str, answer: str, bad: int
) -> None:
    """It is they that trouble the server: whatever it answers, the others leave in one run or a few."""
    for _ in range(bad):
        put(spool, MESSAGE, Envelope(b"bad@a", (b"b@c",)))
    for _ in range(40):
        put(spool)
    with serving(script={"RCPT": [Where(b"b@c", answer)]}) as server:
        for _ in range(3):
            run = forward(spool, server.port, options=("--connections", connections))
    assert (run.code, len(names(spool)), len(server.mails)) == (75, bad, 40), run.log


@pytest.mark.parametrize("connections", ["1", "4"])
@pytest.mark.parametrize(
    "script", [{"RCPT": "550 5.1.1 unknown"}, {"MAIL": "550 5.1.8 bad sender"}], ids=str
)
def test_ten_mails_that_are_refused_do_not_block_the_others(
    spool: Path, connections: str, script: dict[str, str]
) -> None:
    odd = [put(spool, MESSAGE, Envelope(b"bad@a", (b"bad@c",))) for _ in range(15)]
    for _ in range(40):
        put(spool)
    where = {phase: [Where(b"bad@", reply)] for phase, reply in script.items()}
    with serving(script=where) as server:
        for _ in range(4):
            run = forward(spool, server.port, options=("--connections", connections))
    assert len(server.mails) == 40, run.log
    assert {name.removesuffix(".err") for name in names(spool)} == {*odd}


@pytest.mark.parametrize("connections", ["1", "4"])
@pytest.mark.parametrize("phase", ["MAIL", "RCPT"])
@pytest.mark.parametrize("bad", [1, 3])
def test_mails_that_a_filter_refuses_do_not_block_the_others(
    spool: Path, connections: str, phase: str, bad: int
) -> None:
    """Filters say 5.7.1 too. Nothing is held for that, and every run says so."""
    odd = [put(spool, MESSAGE, Envelope(b"bad@a", (b"bad@c",))) for _ in range(bad)]
    for _ in range(10):
        put(spool)
    with serving(script={phase: [Where(b"bad@", "550 5.7.1 content rejected")]}) as server:
        run = forward(spool, server.port, options=("--connections", connections))
        assert (run.code, names(spool), run.summary) == (75, odd, f"sent=10 kept={bad} held=0"), run.log
        assert f"WARNING: {odd[0]}: kept" in run.log
        run = forward(spool, server.port, options=("--connections", connections))
        assert (run.code, run.summary) == (75, f"sent=0 kept={bad} held=0")
        assert run.log.count("takes no mail: 550 5.7.1 content rejected") == 1, "it may be the host"


@pytest.mark.parametrize("connections", ["1", "4", "10"])
@pytest.mark.parametrize("mails", [1, 2, 3, 8, 10])
def test_few_mails_get_to_the_next_host_too(spool: Path, mails: int, connections: str) -> None:
    for _ in range(mails):
        put(spool)
    with serving(script={"MAIL": [CLOSE]}) as bad, serving() as good:
        run = forward(spool, bad.port, good.port, options=("--connections", connections))
    assert (run.code, run.summary) == (0, f"sent={mails} kept=0 held=0"), run.log
    assert len(good.mails) == mails
    assert run.log.count("takes no mail") == 1


@pytest.mark.parametrize("mails", [1, 30])
@pytest.mark.parametrize("connections", ["1", "4"])
def test_a_host_that_cannot_take_mail_gives_way_to_the_next(
    spool: Path, mails: int, connections: str
) -> None:
    for _ in range(mails):
        put(spool)
    with serving(script={"MAIL": ["452 4.3.1 disk full"]}) as full, serving() as good:
        run = forward(spool, full.port, good.port, options=("--connections", connections))
    assert (run.code, run.summary) == (0, f"sent={mails} kept=0 held=0"), run.log
    assert len(good.mails) == mails
    assert full.count("MAIL") <= 14


def test_losses_at_one_host_do_not_count_at_the_next(spool: Path) -> None:
    odd = put(spool, MESSAGE, Envelope(b"bad@a", (b"c@d",)))
    for _ in range(30):
        put(spool)
    script: Script = {"MAIL": [Where(b"bad@", CLOSE)]}
    with serving(script={"MAIL": [CLOSE]}) as bad, serving(script=script) as good:
        run = forward(spool, bad.port, good.port)
    assert (run.code, names(spool), run.summary) == (75, [odd], "sent=30 kept=1 held=0"), run.log
    assert run.log.count("takes no mail") == 1


def test_a_mail_replaced_while_it_is_refused_is_not_held_for_the_other(spool: Path) -> None:
    name = put(spool)

    def replace() -> None:
        (spool / ".new").write_bytes((spool / name).read_bytes())
        (spool / ".new").rename(spool / name)

    with serving(script={"RCPT": [After("550 5.1.1 unknown", replace), "250 ok"]}) as server:
        run = forward(spool, server.port)
        assert (run.code, names(spool), run.summary) == (75, [name], "sent=0 kept=1 held=0"), run.log
        assert forward(spool, server.port).code == 0


def test_a_delivery_in_between_begins_a_new_row(spool: Path) -> None:
    for _ in range(40):
        put(spool)
    replies = (["550 no"] * 2 * 9 + ["250 ok"] * 2) * 4
    with serving(script={"RCPT": replies}) as server:
        run = forward(spool, server.port, options=ONE)
    assert (run.code, run.summary) == (65, "sent=4 kept=0 held=36")


def test_three_lost_connections_in_a_row_stop_the_run(spool: Path) -> None:
    stored = [put(spool) for _ in range(30)]
    with serving(script={"RCPT": [CLOSE]}) as server:
        run = forward(spool, server.port, options=ONE)
    assert (run.code, names(spool)) == (75, stored)
    assert len(server.dialogues) == 3
    assert "3 connections in a row were lost, the last one: connection" in run.log


def test_a_server_that_closes_after_each_mail_gets_all(spool: Path) -> None:
    """Nobody has stored a mail whose end was not sent, so that it goes again at once."""
    for _ in range(20):
        put(spool)
    with serving(script={"LAST": [Then("250 ok")]}) as server:
        run = forward(spool, server.port)
    assert (run.code, run.summary) == (0, "sent=20 kept=0 held=0"), run.log
    assert len(server.mails) == 20
    with serving(script={"MAIL": ["250 ok", "421 4.7.0 enough"] * 20}) as server:
        for _ in range(10):
            put(spool)
        run = forward(spool, server.port, options=ONE)
    assert (run.code, run.summary) == (0, "sent=10 kept=0 held=0"), run.log


# Hosts


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"GREETING": ["554 5.7.1 go away"]}, "554"),
        ({"GREETING": ["421 4.3.2 busy"]}, "421"),
        ({"GREETING": [CLOSE]}, "before it greeted us"),
        ({"GREETING": [STALL]}, "it did not greet us or answer EHLO for 1 s"),
        ({"GREETING": ["hello"]}, "hello"),
        ({"EHLO": ["421 4.3.2 busy"]}, "421"),
        ({"EHLO": ["451 4.3.2 busy"]}, "451"),
        ({"EHLO": ["550 5.7.1 no"], "HELO": ["550 5.7.1 no"]}, "550 5.7.1 no (to EHLO)"),
        ({"EHLO": [CLOSE]}, "or answered EHLO"),
        ({"EHLO": [STALL]}, "it did not greet us or answer EHLO for 1 s"),
    ],
)
def test_the_next_host_is_tried(spool: Path, script: Script, reason: str) -> None:
    put(spool)
    with serving(script=script) as bad, serving() as good:
        run = forward(spool, bad.port, good.port, options=("--timeout", "1"))
        assert (run.code, len(good.mails)) == (0, 1)
        assert f"ERROR: 127.0.0.1:{bad.port} takes no mail: " in run.log
        assert reason in run.log
        name = put(spool)
        run = forward(spool, bad.port, options=("--timeout", "1"))
    assert (run.code, names(spool), run.summary) == (75, [name], "sent=0 kept=1 held=0")


def test_a_dead_host_is_not_tried_a_thousand_times(spool: Path) -> None:
    stored = [put(spool) for _ in range(100)]
    dead = free_port()
    run = forward(spool, dead)
    assert (run.code, names(spool), run.summary) == (75, stored, "sent=0 kept=100 held=0")
    assert run.log.count("takes no mail: Connect call failed") == 1, run.log
    with serving() as server:
        assert forward(spool, dead, server.port).code == 0
    assert len(server.mails) == 100


def test_a_name_that_nobody_has(spool: Path) -> None:
    put(spool)
    run = forward(spool, "no-such-host.invalid")
    assert run.code == 75
    assert "ERROR: no-such-host.invalid:2500 takes no mail: " in run.log


def test_all_addresses_of_a_name_are_tried(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(spool)
    dead = free_port()
    with serving() as server:

        async def both(*_: object, **__: object) -> list[tuple[object, ...]]:
            addresses = [("127.0.0.1", dead), ("127.0.0.1", server.port)]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", both)
        run = forward(spool, "two.example")
    assert (run.code, len(server.mails)) == (0, 1), run.log


def test_an_address_that_does_not_answer_is_tried_once(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting to one whose packets are dropped takes half a minute."""
    for _ in range(20):
        put(spool)
    tried: list[int] = []
    connect = greeting.connect

    async def watched(address: tuple[Any, ...], host: str, access: greeting.Access) -> object:
        tried.append(address[4][1])
        return await connect(address, host, access)

    dead = free_port()
    with serving(script={"LAST": [Then("250 ok")]}) as server:

        async def both(*_: object, **__: object) -> list[tuple[object, ...]]:
            addresses = [("127.0.0.1", dead), ("127.0.0.1", server.port)]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", both)
        monkeypatch.setattr(route, "connect", watched)
        run = forward(spool, "two.example", options=ONE)
    assert (run.code, len(server.mails)) == (0, 20), run.log
    assert tried.count(dead) == 1


def test_mails_lost_by_a_bad_host_go_to_the_next_in_the_same_run(spool: Path) -> None:
    """Else the oldest would wait for ever while all others overtake them."""
    for number in range(10):
        put(spool, b"Subject: %d\r\n\r\n" % number)
    with serving(script={"RCPT": [CLOSE]}) as bad, serving() as good:
        run = forward(spool, bad.port, good.port, options=ONE)
    assert (run.code, run.summary) == (0, "sent=10 kept=0 held=0")
    sent = b"".join(mail.message[9:10] for mail in good.mails)
    assert sent[:2] == b"01"
    assert sorted(sent) == [*b"0123456789"]


def test_policy_does_not_go_to_the_next_host(spool: Path) -> None:
    name = put(spool)
    with serving(script={"MAIL": ["550 5.7.1 not you"]}) as first, serving() as second:
        run = forward(spool, first.port, second.port)
    assert (run.code, names(spool), second.dialogues) == (75, [name], [])


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_fewer_connections_than_we_would_like(spool: Path, limit: int) -> None:
    """A host that takes fewer at once is not bad for that."""
    for _ in range(30):
        put(spool)
    with serving(limit=limit) as server:
        run = forward(spool, server.port)
    assert (run.code, len(server.mails)) == (0, 30), run.log
    assert "takes no mail" not in run.log


@pytest.mark.parametrize("offers", [EVERYTHING, ()])
def test_the_way_back_into_the_same_spool_is_seen_before_the_first_mail(
    spool: Path, offers: tuple[str, ...]
) -> None:
    name = put(spool)
    mark = Mark("some receiver")
    fd = os.open(spool, os.O_RDONLY)
    mark.put(fd)
    os.close(fd)
    (hidden,) = [file for file in names(spool) if file != name]
    identity = mark.identity
    with serving(offers=(*offers, f"XBENNODIR {identity}")) as server:
        run = forward(spool, server.port)
    assert (run.code, names(spool)) == (78, [hidden, name])
    assert "writes into this spool" in run.log
    assert not [line for line in server.dialogue() if "MAIL" in line]
    with serving(offers=(*offers, f"XBENNODIR {Mark('some receiver').identity}")) as server:
        assert forward(spool, server.port).code == 0, "it wrote another word"


def test_a_mark_that_cannot_be_read_is_no_reason_to_go_on(spool: Path) -> None:
    """Who put it there may write into this spool; and the error says what to look at."""
    name = put(spool)
    identity = Mark("some receiver").identity
    hidden = f".benno-smtp.{identity.split('.')[0]}"
    (spool / hidden).symlink_to("/nowhere")  # as root may read everything
    with serving(offers=(*EVERYTHING, f"XBENNODIR {identity}")) as server:
        run = forward(spool, server.port)
    assert (run.code, names(spool), server.mails) == (78, [hidden, name], []), run.log
    assert f"127.0.0.1:{server.port} may write into this spool" in run.log
    assert f"{hidden} in it cannot be read: " in run.log
    assert "unexpected" not in run.log


# What is told of a mail that goes again


@pytest.mark.parametrize("script", [{"MAIL": [CLOSE]}, {"MAIL": ["452 4.3.1 disk full"]}], ids=str)
def test_a_mail_that_the_next_host_takes_was_not_kept(spool: Path, script: Script) -> None:
    for _ in range(5):
        put(spool)
    with serving(script=script) as bad, serving() as good:
        run = forward(spool, bad.port, good.port, options=ONE)
    assert (run.code, len(good.mails)) == (0, 5)
    assert ": kept" not in run.log
    assert "takes no mail" in run.log


@pytest.mark.parametrize("script", [{"MAIL": [CLOSE]}, {"MAIL": ["452 4.3.1 disk full"]}], ids=str)
def test_a_mail_that_nobody_takes_is_told_once(spool: Path, script: Script) -> None:
    """Before the summary, with what its host said; also where another mail was taken after it."""
    first = put(spool)
    with serving(script=script) as bad:
        run = forward(spool, bad.port, options=ONE)
        assert run.log.count(f"WARNING: {first}: kept host=127.0.0.1:{bad.port} reason=") == 1
        assert run.summary == "sent=0 kept=1 held=0"
    put(spool)
    with serving(script={"MAIL": [*script["MAIL"], "250 ok"]}) as server:
        run = forward(spool, server.port, options=ONE)
    assert (run.code, names(spool), run.summary) == (75, [first], "sent=1 kept=1 held=0"), run.log
    assert run.log.count(f"{first}: kept") == 1
