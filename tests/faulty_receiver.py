"""A running benno-smtp with faults planted in it, which act when a test wants them to.

A few lines of Python run before the program and wrap functions of its own, or of the system. Each acts
as long as a certain file names its place.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import receiver_daemon
from processes import descriptors
from receiver_daemon import Receiver
from waiting import wait_for

# What is planted fails, or waits, while the file names its place. The file has the place, and what is
# raised there; nothing: it waits, and says so.
PRELUDE = """
import os, sys, time
import benno_common.mail, benno_common.maildrop, benno_smtp.reception, benno_smtp.session
import benno_smtp.connection, benno_smtp.policy
FILE, PLACES = {file!r}, {places!r}
def acts(place):
    try:
        with open(FILE) as file:
            named, error = file.read().split("|")
            return named == place and (error or "wait")
    except (FileNotFoundError, ValueError):  # not there, or not yet
        return None
def plant(place):
    module, *path, name = place.split(".")
    owner = sys.modules[module.replace("-", ".")]
    for step in path:
        owner = getattr(owner, step)
    real = getattr(owner, name)
    def planted(*given, **named):
        while (error := acts(place)) == "wait":
            open(FILE + ".reached", "w").close()
            time.sleep(0.01)
        if error:
            raise eval(error)
        return real(*given, **named)
    setattr(owner, name, planted)
for place in PLACES:
    plant(place)
"""


class Faulty(Receiver):
    """trigger: the file that has a fault act. begin: where this test's part of the log begins.

    sockets: as many are open when there is no client.
    """

    trigger: Path
    sockets: int
    begin = 0

    @property
    def said(self) -> str:
        return self.log[self.begin :]

    def wait_until_it_said(self, pattern: str) -> None:
        wait_for(lambda: re.search(pattern, self.said), f"{pattern!r} in the log")

    @contextlib.contextmanager
    def broken(self, place: str, error: str = 'RuntimeError("planted")') -> Iterator[None]:
        """Within it this function raises the error, or waits where it is empty.

        place: module (with - for dots), classes, function.
        """
        self.reached.unlink(missing_ok=True)
        self.trigger.write_text(f"{place}|{error}")
        try:
            yield
        finally:
            self.trigger.unlink()

    def begin_anew(self) -> None:
        """With an empty inbox, without a client, and a log that nothing was written to."""
        wait_for(lambda: self.open_sockets() == self.sockets, "the clients of before have gone")
        for path in self.files():
            path.unlink()
        self.begin = len(self.log)

    def open_sockets(self) -> int:
        return sum(lead.startswith("socket:") for lead in descriptors(self.pid))

    @property
    def reached(self) -> Path:
        """Is there when something waits."""
        return self.trigger.with_name(f"{self.trigger.name}.reached")


@contextlib.contextmanager
def faulty(directory: Path, places: Sequence[str], more: str = "") -> Iterator[Faulty]:
    """A receiver with faults in the places. more: Python that runs before it."""
    trigger = directory / "trigger"
    prelude = PRELUDE.format(file=str(trigger), places=list(places)) + more
    with receiver_daemon.running(directory / "inbox", prelude=prelude) as receiver:
        receiver.__class__ = Faulty
        assert isinstance(receiver, Faulty)
        receiver.trigger = trigger
        receiver.sockets = receiver.open_sockets()
        yield receiver
