"""What goes wrong on the way of the mail, one thing after another."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from powercut import Disk
from way import Service, Way

Deck = dict[str, Callable[[], None]]


class Trouble:
    """What goes wrong, one thing at a time. longest: seconds."""

    def __init__(self, way: Way, chance: random.Random, longest: float) -> None:
        self._way = way
        self._chance = chance
        self._longest = longest
        self.events: Counter[str] = Counter()

    def gentle(self) -> Deck:
        """After which milter and receiver still live."""
        way = self._way
        deck: Deck = {
            "milter stands still": lambda: self._stall(way.milter),
            "receiver stands still": lambda: self._stall(way.receiver),
            "forwarder killed": way.forwarder.kill,
            "forwarder stopped": lambda: way.forwarder.signal(signal.SIGTERM),
            "spool full": lambda: self._fill(way.milter.disk),
            "import directory full": lambda: self._fill(way.receiver.disk),
        }
        if way.network is not None:
            deck["link cut"] = self._cut_link
        return deck

    def all(self) -> Deck:
        way = self._way
        return {
            **self.gentle(),
            "milter killed": lambda: self._restart(way.milter, way.milter.kill),
            "receiver killed": lambda: self._restart(way.receiver, way.receiver.kill),
            "milter stopped": lambda: self._restart(way.milter, way.milter.stop),
            "receiver stopped": lambda: self._restart(way.receiver, way.receiver.stop),
            "power of the spool cut": self._cut_power_of_spool,
            "power of the import directory cut": self._cut_power_of_inbox,
        }

    def go_on(self, deck: Deck, until: Callable[[], bool]) -> None:
        """Each of the deck before any a second time, and so on until the condition holds."""
        over = False
        while not over:
            for name in self._chance.sample(sorted(deck), len(deck)):
                time.sleep(self._chance.uniform(0.1, 0.1 + self._longest / 7))
                deck[name]()
                self.events[name] += 1
                if error := self._way.failed():
                    raise error
            over = until()

    def _pause(self) -> None:
        """Most are short."""
        time.sleep(self._longest * self._chance.random() ** 3)

    def _stall(self, service: Service) -> None:
        os.kill(service.pid, signal.SIGSTOP)
        try:
            self._pause()
        finally:
            os.kill(service.pid, signal.SIGCONT)

    def _cut_link(self) -> None:
        assert self._way.network is not None
        self._way.network.cut()
        self._pause()
        self._way.network.mend()

    def _restart(self, service: Service, end: Callable[[], None]) -> None:
        end()
        self._pause()
        service.start()

    def _fill(self, disk: Disk) -> None:
        ballast = disk.path / "lost+found" / "ballast"
        try:
            ballast.parent.mkdir(exist_ok=True)
            _allocate(ballast, disk)
        except OSError as error:
            if error.errno != errno.ENOSPC:  # mails have filled it already
                raise
        try:
            self._pause()
        finally:
            ballast.unlink(missing_ok=True)

    def _cut_power_of_spool(self) -> None:
        """Of the mail server, on which milter and forwarder run."""
        milter = self._way.milter
        milter.disk.shut_down()
        with self._way.forwarder.away():
            milter.kill()
            milter.disk.restart()
        milter.start()

    def _cut_power_of_inbox(self) -> None:
        """Of the archive host, on which receiver and archiver run."""
        receiver = self._way.receiver
        with self._way.archiver.rests:
            receiver.disk.shut_down()
            receiver.kill()
            receiver.disk.restart()
        receiver.start()


def _allocate(path: Path, disk: Disk) -> None:
    """Take all the space that is left."""
    status = os.statvfs(disk.path)
    size, end = status.f_bavail * status.f_frsize, 0
    with path.open("wb") as file:
        while size >= status.f_frsize:
            try:
                os.posix_fallocate(file.fileno(), end, size)
                end += size
            except OSError:
                size //= 2
