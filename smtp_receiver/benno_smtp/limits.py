"""What a client may take of the receiver: places, time, and memory for recipients.

Each client holds a descriptor and some memory, and a flood of them must not keep a good one out. So
there are so many places in all and for each address (of IPv6 the network of 64 bits that one host can
have); addresses that many clients share are exempt, but not from the number in all.

Time is taken by clients that are slow on purpose. Only while the receiver waits for its client does the
clock run, never while the disk is slow, and at most MAX_STEP_SECONDS a tick, for it is not the client's
fault if the receiver stood still:

* command: seconds for one command, however it drips, and for the client to read the replies;
* idle: seconds in commands in all since its last mail; a recipient gives one back, NOOP nothing;
* content: seconds that a mail's content is behind `rate`, octets a second. Nothing for so long is too
  long, one octet a second is too, and a slow line that does its best is never behind.

Recipients of one mail take little memory; those beyond have a share that is common to all sessions.

This module does no I/O; times are seconds of any monotonic clock.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from benno_common.networks import origin

MAX_STEP_SECONDS = 2.0

# Octets of memory for recipients: what each mail may have, and what all share that need more.
OWN_OCTETS = 64 << 10
SHARED_OCTETS = 64 << 20

# What a client has exceeded: settings.
COMMAND = "command_timeout"
IDLE = "idle_timeout"
CONTENT = "content_timeout and min_rate"


@dataclass(frozen=True)
class Limits:
    """connections, per_address: 0 for no limit. rate: octets a second, 0 for any. Others: seconds."""

    connections: int = 1000
    per_address: int = 50
    command: float = 300.0
    idle: float = 600.0
    content: float = 300.0
    rate: int = 500


class Phase(enum.Enum):
    """What a client is waited for; the value is for people."""

    COMMAND = "a command"
    REPLIES = "the replies to be read"
    CONTENT = "the content of a mail"


class Clients(Protocol):
    """A set of addresses, as `Networks`."""

    def __contains__(self, client: str, /) -> bool: ...


class Places:
    """Who is connected. exempt: addresses that may connect more often than others."""

    def __init__(self, limits: Limits, exempt: Clients) -> None:
        self._limits = limits
        self._exempt = exempt
        self._taken: dict[str, int] = {}
        self._in_all = 0

    def enter(self, client: str) -> str | None:
        """Take a place; else the setting that does not allow it."""
        limits, key = self._limits, origin(client)
        if limits.connections and self._in_all >= limits.connections:
            return "max_connections"
        taken = self._taken.get(key, 0)
        if limits.per_address and taken >= limits.per_address and client not in self._exempt:
            return "max_connections_per_address"
        self._taken[key] = taken + 1
        self._in_all += 1
        return None

    def leave(self, client: str) -> None:
        key = origin(client)
        self._in_all -= 1
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]


class Patience:
    """The time that one client has taken. octets: of content that have come since the last tick."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting = 0.0  # for this command
        self._fresh = True  # it is another one than at the last tick
        self._idle = 0.0
        self._behind = 0.0
        self.octets = 0

    def command(self) -> None:
        """A command has come."""
        self._fresh = True

    def recipient(self) -> None:
        """A recipient was taken."""
        self._idle = max(0.0, self._idle - 1.0)

    def mail(self) -> None:
        """A mail has come to its end."""
        self._idle = self._behind = 0.0
        self._fresh = True

    def tick(self, seconds: float, phase: Phase | None) -> str | None:
        """So many seconds have gone since the last time; phase: what is waited for, if anything.

        Returns the settings that were exceeded.
        """
        self._give_back()
        seconds = min(seconds, MAX_STEP_SECONDS)
        self._waiting = 0.0 if self._fresh else self._waiting + seconds
        self._fresh = phase is None or phase is Phase.CONTENT
        if phase is None:
            return None
        if phase is Phase.CONTENT:
            self._behind += seconds
            return CONTENT if self._behind >= self._limits.content else None
        self._idle += seconds
        if self._waiting >= self._limits.command:
            return COMMAND
        return IDLE if self._idle >= self._limits.idle else None

    def _give_back(self) -> None:
        """For the octets that have come."""
        if not self.octets:
            return
        worth = self.octets / self._limits.rate if self._limits.rate else float("inf")
        self._idle = max(0.0, self._idle - worth)
        self._behind = max(0.0, self._behind - worth)
        self.octets = 0


class Memory:
    """What the sessions share, in octets."""

    def __init__(self, octets: int = SHARED_OCTETS) -> None:
        self._free = octets

    def take(self, octets: int) -> bool:
        """Whether there are as many."""
        if octets > self._free:
            return False
        self._free -= octets
        return True

    def give_back(self, octets: int) -> None:
        self._free += octets
