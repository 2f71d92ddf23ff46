"""Places, time and memory that clients may have, without clients; the clock is the test's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benno_common.networks import Networks, origin
from benno_smtp.limits import (
    COMMAND,
    CONTENT,
    IDLE,
    Limits,
    Memory,
    Patience,
    Phase,
    Places,
)

NOBODY = Networks([])


def test_places() -> None:
    places = Places(Limits(connections=5, per_address=2), NOBODY)
    assert [places.enter("192.0.2.1") for _ in range(3)] == [None, None, "max_connections_per_address"]
    assert [places.enter(f"192.0.2.{last}") for last in (2, 3, 4)] == [None, None, None]
    assert places.enter("192.0.2.5") == "max_connections"
    places.leave("192.0.2.1")
    assert places.enter("192.0.2.5") is None
    assert places.enter("192.0.2.1") == "max_connections"


def test_places_without_limits() -> None:
    places = Places(Limits(connections=0, per_address=0), NOBODY)
    assert {places.enter("192.0.2.1") for _ in range(5000)} == {None}


def test_places_of_those_who_are_many() -> None:
    """They have more than one address may, but not more than there are."""
    places = Places(Limits(connections=10, per_address=2), Networks(["127.0.0.0/8", "::1"]))
    assert {places.enter("127.0.0.1") for _ in range(10)} == {None}
    assert places.enter("127.0.0.1") == places.enter("::1") == "max_connections"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "b", "::1", "::2"])), max_size=200))
def test_places_and_their_number(steps: list[tuple[bool, str]]) -> None:
    """Never more than may; never fewer, and nothing is kept of who has gone."""
    places, inside = Places(Limits(connections=6, per_address=3), NOBODY), list[str]()
    for enters, client in steps:
        if enters:
            same = sum(origin(other) == origin(client) for other in inside)
            expected = "max_connections_per_address" if same >= 3 else None
            expected = "max_connections" if len(inside) >= 6 else expected
            assert places.enter(client) == expected
            inside += [] if expected else [client]
        elif client in inside:
            inside.remove(client)
            places.leave(client)
    for client in inside:
        places.leave(client)
    assert places._taken == {}


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("a:b", "a:b"),
    ],
)
def test_origin(client: str, expected: str) -> None:
    assert origin(client) == expected


LIMITS = Limits(command=300, idle=600, content=300, rate=500)


def test_silence_in_a_command() -> None:
    patience = Patience(LIMITS)
    outcomes = [patience.tick(1.0, Phase.COMMAND) for _ in range(301)]
    assert outcomes == [None] * 300 + [COMMAND]


def test_each_command_has_its_time() -> None:
    """But not for ever: NOOP is no mail."""
    patience = Patience(LIMITS)
    for second in range(1, 10_000):
        if second % 250 == 0:
            patience.command()
        outcome = patience.tick(1.0, Phase.COMMAND)
        if outcome:
            break
    assert (outcome, second) == (IDLE, 600)


def test_a_mail_begins_it_anew() -> None:
    patience = Patience(LIMITS)
    for _ in range(50):
        for _ in range(290):
            assert patience.tick(1.0, Phase.COMMAND) is None
        patience.command()
        patience.mail()


def test_replies_that_nobody_reads() -> None:
    patience = Patience(LIMITS)
    outcomes = [patience.tick(1.0, Phase.REPLIES) for _ in range(301)]
    assert outcomes == [None] * 300 + [COMMAND]


def test_many_recipients_far_away() -> None:
    """Each has its command and its reply: 20,000 at two a second take three hours."""
    patience = Patience(LIMITS)
    for _ in range(10_000):
        for _ in range(2):
            patience.command()
            patience.recipient()
        assert patience.tick(1.0, Phase.COMMAND) is None


def test_silence_in_content() -> None:
    patience = Patience(LIMITS)
    outcomes = [patience.tick(1.0, Phase.CONTENT) for _ in range(300)]
    assert outcomes == [None] * 299 + [CONTENT]


# Octets that come each second, and after how many seconds it is enough.
RATES = [(1, 301), (100, 375), (250, 599), (499, None), (500, None), (5_000, None)]


@pytest.mark.parametrize(("octets", "seconds"), RATES)
def test_slow_content(octets: int, seconds: int | None) -> None:
    patience = Patience(LIMITS)
    for second in range(1, 50_000_000 // octets if octets > 1000 else 20_000):
        patience.octets += octets
        if patience.tick(1.0, Phase.CONTENT) == CONTENT:
            assert second == seconds
            return
    assert seconds is None


def test_a_pause_is_made_up_for() -> None:
    """A line that stands still for 4 minutes and then goes on, again and again: but no credit."""
    patience = Patience(LIMITS)
    for _ in range(20):
        for _ in range(240):
            assert patience.tick(1.0, Phase.CONTENT) is None
        patience.octets += 1_000_000
        assert patience.tick(1.0, Phase.CONTENT) is None
    patience.octets += 100_000_000
    outcomes = [patience.tick(1.0, Phase.CONTENT) for _ in range(300)]
    assert outcomes == [None] * 299 + [CONTENT]


def test_any_rate_will_do() -> None:
    patience = Patience(Limits(content=300, rate=0))
    for _ in range(100):
        for _ in range(299):
            assert patience.tick(1.0, Phase.CONTENT) is None
        patience.octets += 1


def test_small_chunks_are_no_way_round() -> None:
    """BDAT 60, an octet a second, RSET: each command is a new one, the time for content is not."""
    patience = Patience(LIMITS)
    for second in range(1, 10_000):
        if second % 60 == 0:
            patience.command()
        patience.octets += 1
        if patience.tick(1.0, Phase.CONTENT):
            break
    assert second == 301


def test_a_large_chunk_leaves_time_for_the_next_command() -> None:
    """It takes hours, on a line that does its best."""
    patience = Patience(LIMITS)
    for _ in range(20_000):
        patience.octets += 1000
        assert patience.tick(1.0, Phase.CONTENT) is None
    assert [patience.tick(1.0, Phase.COMMAND) for _ in range(300)] == [None] * 300


def test_the_disk_is_not_the_clients_fault() -> None:
    patience = Patience(LIMITS)
    for _ in range(299):
        patience.tick(1.0, Phase.CONTENT)
    for _ in range(10_000):
        assert patience.tick(1.0, None) is None
    assert patience.tick(1.0, Phase.CONTENT) == CONTENT


@pytest.mark.parametrize("phase", Phase)
def test_nor_is_a_receiver_that_stood_still(phase: Phase) -> None:
    """A machine that was halted for a night: nobody is hung up on for it."""
    patience = Patience(LIMITS)
    patience.tick(1.0, phase)
    assert patience.tick(36_000.0, phase) is None


def test_memory() -> None:
    memory = Memory(100)
    assert memory.take(60)
    assert not memory.take(41)
    assert memory.take(40)
    memory.give_back(60)
    assert memory.take(60)
