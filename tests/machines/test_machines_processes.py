"""Several processes of a daemon, as the guide says it: its lines are typed as they stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from machines import sending
from machines.machine import Machine
from machines.site import Pair
from waiting import wait_for

pytestmark = pytest.mark.system

_GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "install.md").read_text()


def _lines(begin: str, unit: str) -> str:
    """The commands of the guide's last chapter that begin so, and are for this unit."""
    chapter = _GUIDE.partition("\n## 10. ")[2]
    blocks = re.findall(r"^```sh\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if block.startswith(begin) and unit in block)
    return str(found)


@contextmanager
def _several(machine: Machine, unit: str) -> Iterator[None]:
    """Two processes; then one again, as it was before."""
    machine.shell(_lines("cat ", unit))
    try:
        wait_for(lambda: _passed(machine, unit)[-2:] == [True, True], "both say what they were passed")
        yield
    finally:
        machine.shell(_lines("systemctl disable", unit))
    wait_for(lambda: not _passed(machine, unit)[-1], f"{unit} has bound a socket itself")
    assert machine.is_active(unit)
    assert not machine.is_active(f"{unit}@2")


def _passed(machine: Machine, unit: str) -> list[bool]:
    """Of each start, whether systemd passed a socket."""
    starts = re.findall("^started .*", machine.log(unit), re.MULTILINE)
    return ["passed=1" in line for line in starts]


def test_two_processes(pair: Pair) -> None:
    """Each takes mail; whether one is restarted or both, Postfix always finds a socket."""
    with _several(pair.mail, "benno-milter"), _several(pair.archive, "benno-smtp"):
        before = _unreachable(pair.mail)
        with sending.load(pair.story, pair.mail.address, clients=8):
            for units in (["benno-milter@2"], ["benno-milter"], ["benno-milter@2"]):
                _seen_to_flow(pair)
                pair.mail.restart(*units)
            _seen_to_flow(pair)
        assert _unreachable(pair.mail) == before
        for unit in ("benno-milter", "benno-milter@2"):
            assert ": stored " in pair.mail.run("journalctl", "-q", "-b", "-o", "cat", "-u", unit)
        pair.forward()
        pair.settle()


def _seen_to_flow(pair: Pair) -> None:
    before = len(pair.story.accepted)
    wait_for(lambda: len(pair.story.accepted) > before + 40, "mail flows")


def _unreachable(mail: Machine) -> int:
    """How often Postfix could not connect to the milter."""
    return mail.log("postfix/smtpd").count("connect to Milter service")


def test_mail_waits_where_nothing_can_be_stored(pair: Pair) -> None:
    """The processes are started again and again; the socket stays, and all flows when it can."""
    inbox = pair.mail.path("/srv/benno/inbox")
    with _several(pair.mail, "benno-milter"):
        inbox.rename(inbox.with_name("away"))
        pair.mail.attempt("systemctl", "restart", "benno-milter")
        with sending.load(pair.story, pair.mail.address, clients=4):
            begun = len(re.findall("No such file", pair.mail.log("benno-milter")))
            wait_for(
                lambda: len(re.findall("No such file", pair.mail.log("benno-milter"))) > begun + 8,
                "both were tried again",
                90,
            )
            inbox.with_name("away").rename(inbox)
            _seen_to_flow(pair)
        wait_for(lambda: pair.mail.is_active("benno-milter@2"), "the other one is there too")
        assert pair.mail.is_active("benno-milter.socket")
        pair.forward()
        pair.settle()
