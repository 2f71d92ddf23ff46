"""Which of many like events are a line of the log, so that nobody who causes them can fill it.

Each kind of them has a line at once, and then one in SECONDS, for as long as it goes on; of all kinds
together there are LINES in that time at the most, and no more kinds are remembered. Each line says how
many had none since the one before.
"""

from __future__ import annotations

SECONDS = 60.0
LINES = 5


class Seldom:
    """Events of one sort. Kinds: what tells them apart, an address for instance."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._held_back = 0

    def others(self, kind: str, now: float) -> int | None:
        """None: this one has no line. Else how many had none since the last line.

        now: seconds of any monotonic clock.
        """
        self._since = {one: since for one, since in self._since.items() if now - since < SECONDS}
        if kind in self._since or len(self._since) >= LINES:
            self._held_back += 1
            return None
        self._since[kind] = now
        others, self._held_back = self._held_back, 0
        return others


def and_others(others: int) -> str:
    """The end of such a line."""
    return f" ({others} more were, since the last such line)" if others else ""
