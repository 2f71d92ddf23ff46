"""Any order of events, on one connection and on a hundred, against a model of what must be archived."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import daemon
from milter_memory import MemoryMilter, Model
from milter_packets import (
    ABORT,
    END_OF_HEADERS,
    NEW_SESSION,
    body,
    header,
    macros,
    mail,
    negotiation,
    rcpt,
)
from mta import ALL_PROTOCOL, LEADING_SPACE, MTA, packet
from processes import descriptors
from waiting import wait_for

pytestmark = pytest.mark.slow

addresses = st.sampled_from([b"<a@b>", b"<c@d>", b"<>", b"", b"e", b"<<f>>", b"<g", b"<x\ry>", b"x\ny"])
octets = st.binary(min_size=1, max_size=10)
NOISE = [
    macros(b"M"),
    macros(b"E", b"i", b"Q"),
    packet(b"H", b"mx\0"),
    packet(b"T"),
    negotiation(),
    body(b""),
]


class OneConnection(RuleBasedStateMachine):
    """Events in any order, legal or not, each packet cut in two anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.milter, self.model = MemoryMilter(), Model()
        self.milter.receive(negotiation())

    def send(self, data: bytes, place: int) -> None:
        place %= len(data)
        self.milter.receive(data[:place], data[place:])

    @rule(address=addresses, place=st.integers(0, 30))
    def mail(self, address: bytes, place: int) -> None:
        self.send(mail(address), place)
        self.model.mail(address)

    @rule(address=addresses, place=st.integers(0, 30))
    def rcpt(self, address: bytes, place: int) -> None:
        self.send(rcpt(address), place)
        self.model.rcpt(address)

    @rule(place=st.integers(0, 30))
    def header(self, place: int) -> None:
        self.send(header(b"Name", b" a\n b\r\n c"), place)
        self.model.content(b"Name: a\r\n b\r\n c\r\n")

    @rule(place=st.integers(0, 30))
    def end_of_headers(self, place: int) -> None:
        self.send(END_OF_HEADERS, place)
        self.model.content(b"\r\n")

    @rule(data=octets, place=st.integers(0, 30))
    def body(self, data: bytes, place: int) -> None:
        self.send(body(data), place)
        self.model.content(data)

    @rule(data=st.just(b"") | octets, place=st.integers(0, 30))
    def end(self, data: bytes, place: int) -> None:
        refused = len(self.milter.archive.refused)
        self.send(packet(b"E", data), place)
        self.model.content(data)
        accepted = self.model.end()
        assert len(self.milter.archive.refused) - refused == (not accepted)
        assert self.milter.assembly.idle

    @rule(ending=st.sampled_from([ABORT, NEW_SESSION, NEW_SESSION + negotiation()]))
    def abort(self, ending: bytes) -> None:
        self.send(ending, 3)
        self.model.forget()
        assert self.milter.assembly.idle
        assert not self.milter.archive.open

    @rule(noise=st.sampled_from(NOISE), place=st.integers(0, 30))
    def say_nothing_of_the_mail(self, noise: bytes, place: int) -> None:
        self.send(noise, place)

    @invariant()
    def kept(self) -> None:
        assert self.milter.archive.kept == self.model.kept


TestOneConnection = OneConnection.TestCase
TestOneConnection.settings = settings(
    derandomize=True, deadline=None, max_examples=60, stateful_step_count=25
)

# Version, actions, flags: Postfix, Sendmail, an old MTA, and one that wants an answer to everything.
OFFERS = [(6, 0x1FF, ALL_PROTOCOL), (6, 0x1FF, 0x301FFFFF), (2, 0x3F, 0x7F), (6, 0, LEADING_SPACE)]
ADDRESSES = [b"<%d@example.org>", b"%d@example.net", b'<"%d <x>"@d>', b"<\xff%d@e>"]


class Session:
    """An MTA's connection that does one random legal thing at each step, and its model."""

    def __init__(self, address: str | tuple[str, int], number: int, chance: random.Random) -> None:
        self.address, self.number, self.chance = address, number, chance
        self.model = Model()
        self.connect()

    def connect(self) -> None:
        self.mta = MTA(self.address)
        self.next = self.greet
        self.awaited: bool | None = None  # the verdict that was not read yet

    def unique(self, form: bytes) -> bytes:
        """No two sessions ever say the same."""
        return form % (self.number * 1_000_000 + self.chance.randrange(1_000_000))

    def step(self) -> None:
        if self.awaited is not None:
            self.finish()
        elif self.next != self.greet and self.chance.random() < 0.08:
            self.interrupt()
        else:
            self.next()

    def greet(self) -> None:
        self.mta.negotiate(*self.chance.choice(OFFERS))
        self.next = self.begin

    def begin(self) -> None:
        sender = self.chance.choice([b"<>", b"", self.unique(self.chance.choice(ADDRESSES))])
        self.mta.macros(b"M")
        self.mta.mail(sender, b"SIZE=10")
        self.model.mail(sender)
        self.next = self.add_recipient

    def add_recipient(self) -> None:
        recipient = self.unique(self.chance.choice(ADDRESSES))
        if self.chance.random() < 0.05:
            recipient = b"<bad\r%s>" % recipient
        self.mta.rcpt(recipient)
        self.model.rcpt(recipient)
        self.next = self.chance.choice([self.add_recipient, self.add_header])

    def add_header(self) -> None:
        value = self.unique(b" %d\n\tfolded")
        self.mta.header(b"X-Unique", value)
        self.model.content(b"X-Unique:" + value.replace(b"\n", b"\r\n") + b"\r\n")
        self.next = self.chance.choice([self.add_header, self.end_headers])

    def end_headers(self) -> None:
        self.mta.end_of_headers()
        self.model.content(b"\r\n")
        self.next = self.add_body

    def add_body(self) -> None:
        data = self.unique(b"%d\r\n") * self.chance.choice([1, 10, 1000, 10_000])
        self.mta.body(data)
        self.model.content(data)
        self.next = self.chance.choice([self.add_body, self.end])

    def end(self) -> None:
        """Other sessions go on before the verdict is read."""
        data = self.unique(b"last %d") if self.chance.random() < 0.2 else b""
        self.mta.macros(b"E", i=f"Q{self.number}")
        self.mta.send(b"E", data)
        self.model.content(data)
        self.awaited = self.model.end()
        self.next = self.begin

    def finish(self) -> None:
        """Read the verdict, or hang up before it comes; then ABORT, as Postfix does, or not."""
        if self.chance.random() < 0.1:
            self.hang_up()
            return
        verdict = self.mta.verdict()
        assert (verdict == "accepted") is self.awaited, verdict
        self.awaited = None
        if self.chance.random() < 0.5:
            self.mta.send(b"A")

    def interrupt(self) -> None:
        self.model.forget()
        self.next = self.begin
        how = self.chance.choice(["abort", "new session", "negotiation", "mail again", "gone"])
        if how == "abort":
            self.mta.send(b"A")
        elif how == "mail again":
            self.begin()
        elif how == "gone":
            self.hang_up()
        else:
            self.mta.send(b"K")
            if how == "negotiation":
                self.greet()

    def hang_up(self) -> None:
        self.mta.socket.close()
        self.connect()


def stories(address: str | tuple[str, int], chance: random.Random) -> Iterator[Session]:
    """A hundred sessions that take turns as chance has it; at the end all have hung up."""
    sessions = [Session(address, number, chance) for number in range(100)]
    for _ in range(4000):
        chance.choice(sessions).step()
    for session in sessions:
        while session.awaited is not None:
            session.step()
        session.mta.socket.close()
    yield from sessions


def test_a_hundred_interleaved_sessions(tmp_path: Path) -> None:
    with daemon.running(tmp_path / "spool") as milter:
        before = descriptors(milter.pid)
        sessions = list(stories(milter.address, random.Random(4711)))
        expected = Counter(mail for session in sessions for mail in session.model.kept)
        assert expected.total() > 150, "too few mails to mean anything"
        wait_for(lambda: descriptors(milter.pid) == before, "the descriptors of before, and no other")
        assert milter.stop() == 0
        assert Counter(milter.mails()) == expected
