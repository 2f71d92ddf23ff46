"""Where the machines stand."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from machines import network, site
from machines.machine import Machine


class Room:
    """packages: the .deb files by package name, as ./test.sh machines has made them."""

    def __init__(self) -> None:
        network.make()
        self.packages = site.packages(Path(os.environ["BENNO_MACHINE_PACKAGES"]))
        self._directory = Path(os.environ["BENNO_MACHINE_ROOM"])
        self._addresses = (f"{network.NET}.{host}" for host in itertools.count(11))
        self._machines: list[Machine] = []

    def machine(self, name: str, suite: str) -> Machine:
        """A new one, without power."""
        image = Path(os.environ[f"BENNO_MACHINE_{suite.upper()}"])
        machine = Machine(name, suite, image, self._directory, next(self._addresses))
        self._machines.append(machine)
        return machine

    def booted(self, name: str, suite: str) -> Machine:
        machine = self.machine(name, suite)
        machine.boot()
        return machine

    def logs(self) -> Iterator[tuple[str, str]]:
        """What the machines have said last."""
        for machine in self._machines:
            if machine.has_power:
                log = machine.attempt("journalctl", "--boot", "--no-hostname", "--lines=60").stdout
                yield str(machine), log.decode(errors="replace")

    def clear(self, *machines: Machine) -> None:
        """Scrap these, or all."""
        for machine in machines or [*self._machines]:
            self._machines.remove(machine)
            machine.scrap()
