"""Other arrangements: the milter on the archive host, reached by TCP, and several mail servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from machines import sending, tree
from machines.machine import Machine
from machines.room import Room
from machines.site import (
    INBOX,
    SETTINGS,
    Pair,
    answers,
    apt_install,
    check,
    edit,
    mail_files,
    make_mail_server,
    read_envelope,
)
from waiting import wait_for

pytestmark = pytest.mark.system

OVERRIDE = "/etc/systemd/system/benno-milter.service.d/override.conf"
RECEIVER_CONFIG = "/etc/benno-smtp/benno-smtp.conf"


@contextmanager
def _milter_by_tcp(pair: Pair, room: Room) -> Iterator[None]:
    """benno-milter on the archive host, where there is no Postfix; the mail server's connects to it."""
    apt_install(pair.archive, room.packages["benno-milter"])
    assert not pair.archive.path("/usr/sbin/postfix").exists()
    before = pair.mail.run("postconf", "-h", "smtpd_milters").strip()
    milter = f"{{ inet:{pair.archive.address}:22500, default_action=tempfail }}"
    try:
        pair.mail.run("postconf", "-e", f"smtpd_milters = {milter}")
        pair.mail.restart("postfix")
        wait_for(lambda: answers(pair.mail, sending.SMTP), "Postfix is back")
        yield
    finally:
        pair.mail.run("postconf", "-e", f"smtpd_milters = {before}")
        pair.mail.restart("postfix")
        pair.archive.run("apt-get", "purge", "--yes", "benno-milter")
    assert pair.archive.is_active("benno-smtp")
    assert not pair.archive.path(OVERRIDE).parent.exists()


def test_without_postfix(pair: Pair, room: Room) -> None:
    """The package finds no Postfix and lets the milter listen on TCP; mail lands in its directory."""
    with _milter_by_tcp(pair, room):
        assert "22500" in pair.archive.path(OVERRIDE).read_text()
        assert re.search(r"started .*port=22500", pair.archive.log("benno-milter"))
        sending.send(pair.story, pair.mail.address, *[sending.letter(size) for size in (10, 100_000)])
        sending.sendmail(pair.story, pair.mail, sending.letter())
        wait_for(lambda: len(pair.inbox()) == 3, "all lies in the archive host's directory")
        pair.settle()


def test_milter_and_receiver_on_one_host(pair: Pair, room: Room) -> None:
    """Both write into the import directory at the same time; nothing is forwarded."""
    with _milter_by_tcp(pair, room):
        with sending.load(pair.story, pair.mail.address, clients=2):
            letters = [sending.letter(size) for size in (10, 2000, 100_000) * 30]
            sending.send(pair.story, pair.archive.address, *letters, port=sending.RECEIVER)
            wait_for(lambda: len(pair.story.accepted) > 150, "mail flows on both ways")
        pair.settle()
        assert len(pair.inbox()) >= len(pair.story.accepted)
        _see_that_it_sends_nothing_to_itself(pair.archive)
    check(pair.story, pair.inbox())  # purge takes no mail


def _see_that_it_sends_nothing_to_itself(machine: Machine) -> None:
    """Receiver and forwarder are hardened units, and know each other's directory all the same."""
    before = mail_files(machine, INBOX)
    edit(machine, SETTINGS, r"^#\s*BENNOHOST=.*", "BENNOHOST=localhost")
    done = machine.attempt("systemctl", "start", "benno-export2archive.service")
    assert done.returncode != 0
    assert "writes into this spool" in machine.log("benno-export2archive")
    assert mail_files(machine, INBOX) == before


def test_without_unnamed_files(pair: Pair) -> None:
    """As on NFS: here there is no /proc to give them names. The hardened units allow what it takes.

    The milter runs with group postfix, and the directory around hands on no group.
    """
    with _without_proc(pair.mail, "benno-milter"), _without_proc(pair.archive, "benno-smtp"):
        sending.send(pair.story, pair.mail.address, *[sending.letter(size) for size in (10, 1_000_000)])
        assert _groups(pair.spool()) == {_gid(pair.mail)}
        pair.forward()
        pair.settle()
        assert len(pair.inbox()) == len(pair.story.accepted) == 2
        assert _groups(pair.inbox()) == {_gid(pair.archive)}


@contextmanager
def _without_proc(machine: Machine, unit: str) -> Iterator[None]:
    parent = machine.path(INBOX).parent
    drop_in = machine.path(f"/etc/systemd/system/{unit}.service.d/test.conf")
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nInaccessiblePaths=/proc\n")
    machine.run("chown", "benno:root", "/srv/benno")
    try:
        machine.run("systemctl", "daemon-reload")
        machine.restart(unit)
        assert list(parent.glob(".inbox.*.staging")), "no file is staged"
        yield
    finally:
        drop_in.unlink()
        drop_in.parent.rmdir()
        machine.run("chown", "benno:benno", "/srv/benno")
        machine.run("systemctl", "daemon-reload")
        machine.restart(unit)


def _groups(files: list[Path]) -> set[int]:
    return {path.stat().st_gid for path in files}


def _gid(machine: Machine) -> int:
    return int(machine.run("getent", "group", "benno").split(":")[2])


@pytest.fixture(scope="session")
def others(room: Room) -> Iterator[list[Machine]]:
    """Two more mail servers."""
    machines = [
        room.booted(f"mail{number}", suite) for number, suite in enumerate(tree.SUITES, start=2)
    ]
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda machine: make_mail_server(machine, room.packages, "archive"), machines))
    yield machines
    room.clear(*machines)


def test_gateways(pair: Pair, others: list[Machine]) -> None:
    """Three mail servers, and each mail is known by the one that it came through."""
    for other in others:
        other.path("/etc/hosts").write_text(pair.mail.path("/etc/hosts").read_text())
    servers = {f"gw{number}": machine for number, machine in enumerate([pair.mail, *others], start=1)}
    with _trusted(pair.archive, [machine.address for machine in servers.values()]):
        with _gateways(servers):
            for name, machine in servers.items():
                sender = name.encode() + b"@example.org"
                sending.send(pair.story, machine.address, *_letters(), sender=sender)
                machine.run("runuser", "-u", "benno", "benno-export2archive")
                assert mail_files(machine, INBOX) == []
        pair.settle()
        envelopes = [read_envelope(path) for path in pair.inbox()]
        assert len(envelopes) == 3 * len(_letters())
        for envelope in envelopes:
            assert envelope.sender == (envelope.gateway or b"none") + b"@example.org"


def _letters() -> list[bytes]:
    return [sending.letter(size, headers=b"X-BENNO-GW: forged\r\n") for size in (10, 5000, 1_500_000)]


@contextmanager
def _gateways(servers: dict[str, Machine]) -> Iterator[None]:
    before = {name: machine.path(SETTINGS).read_text() for name, machine in servers.items()}
    for name, machine in servers.items():
        machine.path(SETTINGS).write_text(f"{before[name]}\nMILTERARGS=-g {name}\n")
        machine.restart("benno-milter")
    try:
        yield
    finally:
        for name, machine in servers.items():
            machine.path(SETTINGS).write_text(before[name])
            machine.restart("benno-milter")


@contextmanager
def _trusted(archive: Machine, addresses: list[str]) -> Iterator[None]:
    before = archive.path(RECEIVER_CONFIG).read_text()
    networks = ", ".join(f'"{address}"' for address in addresses)
    edit(archive, RECEIVER_CONFIG, r"^#\s*trusted_gateways\s*=.*", f"trusted_gateways = [{networks}]")
    archive.restart("benno-smtp")
    try:
        yield
    finally:
        archive.path(RECEIVER_CONFIG).write_text(before)
        archive.restart("benno-smtp")
