"""What the randomised tests count: rounds, mails, faults; their number of rounds, and their seed.

BENNO_ROUNDS: power cuts of the durability module (1000); of each daemon a twentieth of them.
BENNO_SEED: what is sent and what is meant to happen when, again; the system's own moments differ.

    ./test.sh faults ROUNDS [SEED]

sets both and shows, as this plugin, one line for each kind of test.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest

ROUNDS = int(os.environ.get("BENNO_ROUNDS", "1000"))
DAEMON_ROUNDS = max(2, ROUNDS // 20)

_PROPERTY = "tally"
# How a fault begins or ends in the words of the oracles (load.Story, test_cuts_durable.Story).
_LOST = ("lost: ", "was reported and is gone")
_TORN = ("is torn",)


@dataclass
class Tally:
    """What one test saw. what: the kind of test, of which many may have the same."""

    what: str = ""
    rounds: int = 0
    mails: int = 0
    lost: int = 0
    torn: int = 0
    wrong: int = 0  # an envelope or a mail that nobody sent

    def round(self, faults: Iterable[str], mails: int = 0) -> list[str]:
        """One round more, after which so many mails were looked at; returns the faults."""
        self.rounds += 1
        self.mails += mails
        found = list(faults)
        for fault in found:
            if any(words in fault for words in _LOST):
                self.lost += 1
            elif any(words in fault for words in _TORN):
                self.torn += 1
            else:
                self.wrong += 1
        return found

    def __add__(self, other: Tally) -> Tally:
        ours, theirs = dataclasses.astuple(self)[1:], dataclasses.astuple(other)[1:]
        return Tally(self.what, *map(sum, zip(ours, theirs, strict=True)))


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Shown in the table if the test says what it is."""
    made = Tally()
    yield made
    request.node.user_properties.append((_PROPERTY, dataclasses.asdict(made)))


@pytest.fixture(scope="session")
def given_seed() -> str:
    return os.environ.get("BENNO_SEED") or str(random.randrange(10**9))


@pytest.fixture
def seed(request: pytest.FixtureRequest, given_seed: str) -> str:
    """Of this test; the same for the same BENNO_SEED."""
    print(f"BENNO_SEED={given_seed} repeats it")
    return f"{given_seed}.{request.node.name}"


class _Table:
    """Collects what the tests counted, and prints it."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        for name, value in report.user_properties:
            if name == _PROPERTY and isinstance(value, dict) and value["what"]:
                one = Tally(**value)
                before = self._tallies.get(one.what, Tally(one.what))
                self._tallies[one.what] = before + one

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(f"seed {os.environ.get('BENNO_SEED')}")
        for line in _lines(list(self._tallies.values())):
            terminalreporter.write_line(line)


def _lines(tallies: list[Tally]) -> Iterator[str]:
    yield f"{'':52}{'rounds':>9}{'mails':>9}{'lost':>6}{'torn':>6}{'wrong':>6}"
    for one in tallies:
        yield f"{one.what:52}{one.rounds:9}{one.mails:9}{one.lost:6}{one.torn:6}{one.wrong:6}"


def pytest_configure(config: pytest.Config) -> None:
    """As a plugin, `-p tally`; a conftest takes the fixtures only."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Table())
