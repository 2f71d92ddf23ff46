"""What a daemon has done since its start."""

from __future__ import annotations

from dataclasses import dataclass

from benno_common import log


@dataclass(slots=True)
class Statistics:
    """Times run from the end of a message to its reply, in seconds; sizes are octets of messages."""

    mails: int = 0
    size: int = 0
    refused: int = 0
    total: float = 0.0
    worst: float = 0.0

    def stored(self, size: int, seconds: float) -> None:
        self.mails += 1
        self.size += size
        self.total += seconds
        self.worst = max(self.worst, seconds)

    def log(self) -> None:
        log.statistics(
            mails=self.mails,
            size=self.size,
            refused=self.refused,
            mean_ms=1000 * self.total / self.mails if self.mails else 0.0,
            worst_ms=1000 * self.worst,
        )
