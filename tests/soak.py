"""Mails without end through the whole chain, while one thing after another goes wrong.

Clients give the byte corpus to the milter, each mail again and again until it is accepted, as a mail
server does. Meanwhile, in a random order, and all of them before any a second time: daemons and
forwarder are killed, stopped, started anew; they stand still; the link is cut; a disk is full; a disk
loses its power. In the second half milter and receiver are left alive, so that it is seen whether they
grow.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import corpus
from corpus import Case
from embedded import split
from load import Sender, Story, at_work
from mta import MTA, message_of
from processes import resident
from smtp_load import note_accepted, note_sent
from trouble import Trouble
from waiting import wait_for
from way import Way

CLIENTS = 4
DIFFERENT = 1000  # mails of the corpus that are sent again and again, with another last line
NAMED = 0.2  # share of its named cases


@dataclass
class Result:
    """What came of it. faults: empty if all is well. taken: files that the archiver took out.

    endings: exit codes of the forwarder. resident: octets that milter and receiver had in use, at
    each look in the second half.
    """

    story: Story = field(default_factory=Story)
    faults: list[str] = field(default_factory=list)
    taken: int = 0
    events: Counter[str] = field(default_factory=Counter)
    endings: Counter[int] = field(default_factory=Counter)
    resident: dict[str, list[int]] = field(default_factory=dict)

    def growth(self, name: str) -> int:
        """Octets, from the first to the last third of the second half."""
        values = self.resident[name]
        third = len(values) // 3
        return int(statistics.median(values[-third:]) - statistics.median(values[:third]))


class Mails:
    """The mails, one after the other, no two alike. Used by many threads."""

    def __init__(self, seed: str, different: int) -> None:
        self._chance = random.Random(seed)
        cases = corpus.corpus(different, self._chance.randrange(10**9))
        carried = [case for case in cases if _is_carried(case.message)]
        self._mixed = [case for case in carried if case.name.startswith("mixed")]
        self._named = [case for case in carried if not case.name.startswith("mixed")]
        self._lock = threading.Lock()
        self.taken = 0

    def take(self) -> Case:
        with self._lock:
            self.taken += 1
            among = self._named if self._chance.random() < NAMED else self._mixed
            case = self._chance.choice(among)
            message = case.message + b"%d\r\n" % self.taken
            return Case(case.name, message, case.sender, case.recipients)


def _is_carried(message: bytes) -> bool:
    """Whether the milter protocol carries it unaltered."""
    return message_of(*split(message)) == message


class _Client(Sender):
    """Gives each mail to the milter until it is accepted."""

    def __init__(self, way: Way, mails: Mails, number: int) -> None:
        super().__init__(f"client {number}")
        self._way = way
        self._mails = mails
        self._case: Case | None = None  # that was not accepted yet

    def run(self) -> None:
        while self._goes_on():
            address = self._way.milter.running.address
            with contextlib.suppress(OSError, EOFError), MTA(address) as mta:
                mta.negotiate()
                while self._goes_on():
                    self._deliver(mta)
            time.sleep(0.05)

    def _goes_on(self) -> bool:
        return self._case is not None or not self.ending.is_set()

    def _deliver(self, mta: MTA) -> None:
        case = self._case = self._case or self._mails.take()
        story = self._way.story
        note_sent(story, case.message, case.sender, case.recipients)
        headers, body = split(case.message)
        recipients = [b"<" + one + b">" for one in case.recipients]
        verdict = mta.deliver(b"<" + case.sender + b">", recipients, headers, body)
        mta.recorded.clear()
        story.replies[verdict] += 1
        if verdict == "accepted":
            note_accepted(story, case.message)
            self._case = None
        else:
            time.sleep(0.05)


def run(directory: Path, mails: int, seed: str, longest: float) -> Result:
    """So many mails, or more until all that can go wrong has; longest: seconds that it takes."""
    result = Result()
    with ExitStack() as stack:
        way = Way(directory, result.story, stack)
        source = Mails(seed, min(DIFFERENT, mails))
        trouble = Trouble(way, random.Random(seed), longest)
        with at_work([_Client(way, source, number) for number in range(CLIENTS)]):
            trouble.go_on(trouble.all(), lambda: source.taken >= mails // 2)
            with _watched(way, result):
                trouble.go_on(trouble.gentle(), lambda: source.taken >= mails)
        way.empty()
        result.faults = way.archiver.faults + result.story.faults([])
        result.faults += [f"{name} is left" for name in way.left()]
        result.taken, result.endings = way.archiver.taken, way.forwarder.endings
        result.events = trouble.events
        for service in (way.milter, way.receiver):
            wait_for(service.is_idle, "no descriptor is left open")
    return result


@contextlib.contextmanager
def _watched(way: Way, result: Result) -> Iterator[None]:
    """Note the memory of milter and receiver, which are not started anew within."""
    ended = threading.Event()
    pids = {"milter": way.milter.pid, "receiver": way.receiver.pid}

    def watch() -> None:
        while not ended.wait(0.2):
            for name, pid in pids.items():
                result.resident.setdefault(name, []).append(resident(pid))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
