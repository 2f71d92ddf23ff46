"""Guessing passwords takes long: who fails waits before the next answer, and longer each time.

It is counted by address, of IPv6 by the network of 64 bits that one host can have, whatever the number
of connections; attempts of one address wait in line. One that would wait too long is not answered at
all. A login that succeeds, or an hour without a failure, is a fresh start. No more addresses than
MAX_ADDRESSES are remembered, the latest ones. This module does no I/O; times are seconds of any
monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from benno_common.networks import origin

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0
PATIENCE_SECONDS = 90.0  # less than a client waits for a reply
FORGET_SECONDS = 3600.0
MAX_ADDRESSES = 10_000


@dataclass
class _Failures:
    """count: of logins. last: when. free: when the next attempt can begin to wait."""

    count: int
    last: float
    free: float

    @property
    def seconds(self) -> float:
        return min(FIRST_SECONDS * 2.0 ** min(self.count - 1, 60), LONGEST_SECONDS)


class Guard:
    """The failures of each address."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def delay(self, client: str, now: float) -> float | None:
        """Seconds until the client's attempt may be judged; None: it may not be made."""
        failures = self._known(origin(client), now)
        if failures is None:
            return 0.0
        due = max(now, failures.free) + failures.seconds
        if due - now > PATIENCE_SECONDS:
            return None
        failures.free = due
        return due - now

    def failed(self, client: str, now: float) -> int:
        """How often in a row it has failed now."""
        key = origin(client)
        failures = self._known(key, now) or _Failures(0, now, now)
        failures.count += 1
        failures.last = now
        self._failures[key] = failures
        self._failures.move_to_end(key)
        while len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
        return failures.count

    def succeeded(self, client: str) -> None:
        self._failures.pop(origin(client), None)

    def _known(self, key: str, now: float) -> _Failures | None:
        failures = self._failures.get(key)
        return failures if failures and now - failures.last < FORGET_SECONDS else None
