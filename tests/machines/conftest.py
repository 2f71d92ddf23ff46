"""The machines of the stories, for each direction: mail server → archive host.

The stories of a direction share a pair of machines, each as an administrator made it with apt and an
editor. A story leaves the pair as it found it: running, without mail.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from machines.room import Room
from machines.site import Pair

_DIRECTIONS = [("bookworm", "trixie"), ("trixie", "bookworm")]

_ROOM = pytest.StashKey[Room]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A story that fails is told by the machines too."""
    report = yield
    room = item.session.stash.get(_ROOM, None)
    if report.failed and room:
        report.sections += room.logs()
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only the stories of our part: those whose host, or mail server, has this Debian."""
    part = os.environ["BENNO_MACHINE_PART"]
    ours = [item for item in items if _suite(item) == part]
    config.hook.pytest_deselected(items=[item for item in items if item not in ours])
    items[:] = ours


def _suite(item: pytest.Item) -> str:
    assert isinstance(item, pytest.Function)
    (given,) = item.callspec.params.values()
    return given if isinstance(given, str) else str(given[0])  # type: ignore[index]


@pytest.fixture(scope="session")
def room(request: pytest.FixtureRequest) -> Iterator[Room]:
    room = Room()
    request.session.stash[_ROOM] = room
    try:
        yield room
    finally:
        room.clear()


@pytest.fixture(scope="session", params=_DIRECTIONS, ids="to".join)
def direction(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The suites of the mail server and of the archive host."""
    suites: tuple[str, str] = request.param
    return suites


@pytest.fixture(scope="session")
def shared_pair(room: Room, direction: tuple[str, str]) -> Iterator[Pair]:
    """Both machines, with the packages installed and set up as the guide says."""
    pair = Pair(room.booted("mail", direction[0]), room.booted("archive", direction[1]))
    pair.install(room.packages)
    yield pair
    room.clear(pair.mail, pair.archive)


@pytest.fixture
def pair(shared_pair: Pair) -> Iterator[Pair]:
    shared_pair.begin()
    yield shared_pair
    shared_pair.end()
