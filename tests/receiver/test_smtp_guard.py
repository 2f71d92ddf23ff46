"""Who fails to log in waits, and longer each time; with a clock of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benno_smtp import guard
from benno_smtp.guard import Guard


def test_longer_each_time() -> None:
    one, now = Guard(), 0.0
    waited = []
    for number in range(8):
        delay = one.delay("192.0.2.1", now)
        assert delay is not None
        waited.append(delay)
        now += delay
        assert one.failed("192.0.2.1", now) == number + 1
    assert waited == [0, 1, 2, 4, 8, 16, 30, 30]
    assert one.delay("192.0.2.2", now) == 0, "another address"


def test_attempts_wait_in_line() -> None:
    """However many connections it has; those that would wait too long are not made."""
    one = Guard()
    for _ in range(4):
        one.failed("192.0.2.1", 0.0)
    delays = [one.delay("192.0.2.1", 100.0) for _ in range(100)]
    assert delays[:11] == [8.0 * number for number in range(1, 12)]
    assert delays[11:] == [None] * 89
    assert one.delay("192.0.2.1", 110.0) is not None, "one of them has had its answer"


def test_a_fresh_start() -> None:
    one = Guard()
    one.failed("192.0.2.1", 0.0)
    one.succeeded("192.0.2.1")
    one.succeeded("192.0.2.9")
    assert one.delay("192.0.2.1", 0.0) == 0
    one.failed("192.0.2.1", 0.0)
    assert one.delay("192.0.2.1", 3599.0) == 1
    assert one.delay("192.0.2.1", 3600.0) == 0
    assert one.failed("192.0.2.1", 7200.0) == 1


def test_memory_is_bounded() -> None:
    """The oldest are forgotten, not those who go on."""
    one = Guard()
    for number in range(3 * guard.MAX_ADDRESSES):
        one.failed(f"address {number}", 0.0)
        if number % 5000 == 0:
            one.failed("the one", 0.0)
    assert len(one) == guard.MAX_ADDRESSES
    assert one.delay("address 0", 0.0) == 0
    assert one.delay("the one", 0.0) == guard.LONGEST_SECONDS


def test_any_number_of_failures() -> None:
    one = Guard()
    for _ in range(5000):
        one.failed("192.0.2.1", 0.0)
    assert one.delay("192.0.2.1", 0.0) == 30


def test_a_host_has_many_addresses_of_ipv6() -> None:
    one = Guard()
    one.failed("2001:db8::1", 0.0)
    assert one.delay("2001:db8::ffff:2", 0.0) == 1
    assert one.delay("2001:db8:0:1::1", 0.0) == 0
    one.failed("::ffff:192.0.2.1", 0.0)
    assert one.delay("192.0.2.1", 0.0) == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.floats(0, 100))))
def test_no_faster_than_that(events: list[tuple[str, bool, float]]) -> None:
    """After n failures of an address its answers are as far apart as it says, whoever else comes."""
    one, now, last, failures = Guard(), 0.0, -1e9, 0
    for client, works, seconds in events:
        now += seconds
        delay = one.delay(client, now)
        if client == "b":
            one.failed("b", now)
        elif delay is not None:
            due = now + delay
            apart = min(2.0 ** (failures - 1), 30.0) if failures else 0.0
            assert due >= max(now, last) + apart - 1e-6 or failures == 0
            last = due
            if works:
                one.succeeded("a")
            else:
                one.failed("a", now)
            failures = 0 if works else failures + 1
