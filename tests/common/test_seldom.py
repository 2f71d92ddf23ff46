"""Events that others cause as often as they like: few lines, none forgotten, little memory."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benno_common.daemon import Sessions
from benno_common.maildrop import MailDrop
from benno_common.seldom import LINES, SECONDS, Seldom


def test_one_kind() -> None:
    seldom = Seldom()
    assert seldom.others("a", 0.0) == 0
    assert [seldom.others("a", 1.0 * second) for second in range(1, 60)] == [None] * 59
    assert seldom.others("a", SECONDS) == 59
    assert seldom.others("a", 2 * SECONDS) == 0


def test_another_kind_does_not_wait_for_it() -> None:
    seldom = Seldom()
    assert seldom.others("a", 0.0) == 0
    assert seldom.others("a", 1.0) is None
    assert seldom.others("b", 2.0) == 1
    assert seldom.others("b", 3.0) is None
    assert seldom.others("a", SECONDS) == 1


def test_many_kinds() -> None:
    seldom = Seldom()
    shown = [seldom.others(f"{number}", 0.0) for number in range(1000)]
    assert shown == [0] * LINES + [None] * (1000 - LINES)
    assert seldom.others("another", SECONDS) == 1000 - LINES


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([0.0, 0.1, 5.0, 30.0, 61.0]))))
def test_whatever_comes(events: list[tuple[int, float]]) -> None:
    """In no stretch of SECONDS are there more lines than LINES, and each event is counted once."""
    seldom, now, lines, told = Seldom(), 0.0, list[float](), 0
    for kind, pause in events:
        now += pause
        others = seldom.others(f"{kind}", now)
        if others is not None:
            lines.append(now)
            told += 1 + others
        assert len(seldom._since) <= LINES
        assert len([line for line in lines if now - line < SECONDS]) <= LINES
    assert told + seldom._held_back == len(events)


ADDRESSES = {
    "one of IPv4": (["192.0.2.1"] * 9, 1),
    "some of IPv4": (["192.0.2.1", "192.0.2.2"] * 9, 2),
    "one and the same, mapped": (["192.0.2.1", "::ffff:192.0.2.1"] * 9, 1),
    "all that one host of IPv6 has": ([f"2001:db8::{number:x}" for number in range(99)], 1),
    "any number": ([f"192.0.2.{number}" for number in range(99)], LINES),
}


@pytest.mark.parametrize(("addresses", "lines"), ADDRESSES.values(), ids=ADDRESSES)
def test_strangers(caplog: pytest.LogCaptureFixture, addresses: list[str], lines: int) -> None:
    sessions = Sessions(cast(MailDrop, None))
    for address in addresses:
        sessions.stranger_refused(address, "no")
    assert len(caplog.messages) == lines
    assert caplog.messages[0] == f"connect from {addresses[0]} refused: no"
