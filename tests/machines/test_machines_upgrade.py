"""Upgrade from the old packages, removal, purge; installation in a chroot. On one host for both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import load
import smtp
from directories import settle
from load import Story
from machines import keystore, network, old_packages, sending, tree
from machines.machine import Machine
from machines.room import Room
from machines.site import (
    CRON,
    GUIDE,
    INBOX,
    SETTINGS,
    WORLD,
    answers,
    apt_install,
    check,
    edit,
    install_in_chroot,
    mail_files,
)
from smtp_load import note_accepted, note_sent
from waiting import wait_for

pytestmark = pytest.mark.system

CONFIGURATION = "/etc/benno-smtp/benno-smtp.conf"

# Where a host of some years may have them: in /home, in /opt, a socket not in its usual directory.
SPOOL = "/home/mail spool"
IMPORT = "/opt/archive/import"
SOCKET = "archive/b.sock"  # below Postfix's queue directory

# What the packages make.
_MADE = (
    *("/etc/benno-smtp", SETTINGS, CRON),
    *("/etc/systemd/system/benno-milter.service.d", "/etc/systemd/system/benno-smtp.service.d"),
    *("/srv/benno", "/var/lib/benno-gateway", "/var/spool/postfix/benno-milter", "/run/benno-milter"),
    *("/usr/share/benno-milter", "/usr/share/benno-smtp"),
)

_OUTSIDE = "192.0.2"  # neither loopback nor private


@dataclass
class Host:
    """A machine with mail server, milter, forwarder and receiver.

    story: of the mails sent to it. said: by apt at the upgrade.
    """

    machine: Machine
    story: Story = field(default_factory=Story)
    said: str = ""


@pytest.fixture(scope="module", params=tree.SUITES)
def upgraded(
    request: pytest.FixtureRequest, room: Room, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """The old packages, changed by an administrator, mail of theirs in the spool; then the new ones."""
    host = Host(room.booted(f"old-{request.param}", request.param))
    machine = host.machine
    apt_install(machine, "postfix", *old_packages.build(tmp_path_factory.mktemp("old")))
    machine.shell(f"""\
        install -d -m 2770 -o benno -g benno "{SPOOL}" {Path(IMPORT).parent} {IMPORT}
        install -d -m 750 -o benno -g postfix /var/spool/postfix/{Path(SOCKET).parent}
    """)
    _edit_as_administrator(machine)
    _leave_old_mail(host)
    host.said = apt_install(machine, room.packages["benno-milter"], room.packages["benno-smtp"])
    machine.shell(WORLD + GUIDE.replace("benno-milter/benno-milter.sock", SOCKET))
    machine.restart("postfix")
    wait_for(lambda: answers(machine, sending.SMTP), "Postfix answers")
    yield host
    room.clear(machine)


def _edit_as_administrator(machine: Machine) -> None:
    edit(machine, SETTINGS, r"^SOCKET=.*", f"SOCKET=/var/spool/postfix/{SOCKET}")
    edit(machine, SETTINGS, r"^SPOOLDIR=.*", f'SPOOLDIR="{SPOOL}"')
    edit(machine, SETTINGS, r"^#BENNOHOST=.*", "# ours\nBENNOHOST=127.0.0.1")
    edit(machine, CRON, r"^#\*/15 ", "7 ")
    edit(machine, CONFIGURATION, r"^import_directory.*", f"import_directory = {IMPORT}")


def _leave_old_mail(host: Host) -> None:
    """As the C milter wrote it."""
    message, recipients = sending.letter(), (b"a@example.net", b"b@example.net")
    note_sent(host.story, message, b"old@example.org", recipients)
    note_accepted(host.story, message)
    lines = [b"X-REAL-MAILFROM: <old@example.org>"]
    lines += [b"X-REAL-RCPTTO: <%b>" % recipient for recipient in recipients]
    old = host.machine.path(SPOOL) / "arch.Xu7aKq2L.msg"
    old.write_bytes(b"\r\n".join(lines) + b"\r\n" + message)
    settle(old)
    host.machine.run("chown", "benno:benno", f"{SPOOL}/{old.name}")


def test_settings_stay(upgraded: Host) -> None:
    machine = upgraded.machine
    assert "\n# ours\nBENNOHOST=127.0.0.1\n" in machine.path(SETTINGS).read_text()
    assert machine.path(CRON).read_text().startswith("7 * * * * benno")
    assert f"import_directory = {IMPORT}" in machine.path(CONFIGURATION).read_text()


def test_units_are_hardened(upgraded: Host) -> None:
    """By systemd's own measure, in tenths."""
    for unit in ("benno-milter", "benno-smtp", "benno-export2archive"):
        upgraded.machine.run("systemd-analyze", "security", "--threshold=16", f"{unit}.service")


def test_milter_starts_before_postfix(upgraded: Host) -> None:
    """Its daemon is in postfix@-.service in Debian 12."""
    for unit in ("postfix.service", "postfix@-.service"):
        after = upgraded.machine.run("systemctl", "show", "--property=After", unit)
        assert "benno-milter.service" in after.split("=", 1)[1].split(), (unit, after)


def test_mail_flows(upgraded: Host) -> None:
    """Old mail and new, at the unusual places."""
    machine, story = upgraded.machine, upgraded.story
    sending.send(story, machine.address, sending.letter(), sending.letter(3_000_000))
    assert len(mail_files(machine, SPOOL)) == 3
    machine.run("runuser", "-u", "benno", "benno-export2archive")
    assert mail_files(machine, SPOOL) == []
    check(story, mail_files(machine, IMPORT))
    assert len(story.accepted) == 3


def test_receiver_stays_open(upgraded: Host) -> None:
    """Who could send before can send now, and the administrator was told."""
    configuration = upgraded.machine.path(CONFIGURATION).read_text()
    assert '\nallowed_networks = ["0.0.0.0/0", "::/0"]\n' in configuration
    outside = _connect_from_outside(upgraded.machine)
    (reply,) = sending.send(upgraded.story, outside, sending.letter(), port=sending.RECEIVER)
    assert reply.startswith("250"), reply
    assert "WARNING: everybody who reaches it may go on archiving any mail" in upgraded.said


def _connect_from_outside(machine: Machine) -> str:
    """The address where it then sees us come from somewhere that is neither loopback nor private."""
    network.also(f"{_OUTSIDE}.1/24")
    address = f"{_OUTSIDE}.{machine.address.rpartition('.')[2]}"
    machine.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
    return address


def test_removed_installed_purged(upgraded: Host, room: Room) -> None:
    """No error; what an administrator wrote stays until the purge, and each mail also after it.

    What goes on without the package is told.
    """
    machine, names = upgraded.machine, ("benno-milter", "benno-smtp")
    sending.send(upgraded.story, machine.address, sending.letter())
    said = machine.run("apt-get", "remove", "--yes", *names)
    assert f" mails wait in {SPOOL}; nothing sends them now" in said
    assert "Postfix still asks the milter" in said
    assert f"{CRON} still starts benno-export2archive" in said
    assert "BENNOHOST=127.0.0.1" in machine.path(SETTINGS).read_text()
    apt_install(machine, *(room.packages[name] for name in names))
    assert all(machine.is_active(name) for name in names)
    sending.send(upgraded.story, machine.address, sending.letter())
    machine.run("apt-get", "purge", "--yes", *names)
    assert not [file for file in (SETTINGS, CRON, CONFIGURATION) if machine.path(file).exists()]
    assert not machine.path("/usr/share/benno-milter").exists()
    kept = [*mail_files(machine, SPOOL), *mail_files(machine, IMPORT)]
    check(upgraded.story, kept)
    assert len(upgraded.story.accepted) == len(kept)
    assert machine.run("systemctl", "--failed", "--quiet", "--plain").strip() == ""


@pytest.mark.parametrize("suite", tree.SUITES[:1])
def test_milter_by_tcp_stays_open(room: Room, suite: str, tmp_path: Path) -> None:
    """The same for the old milter on a host without Postfix, which took connections from everywhere."""
    machine = room.booted("tcp", suite)
    old_milter, _ = old_packages.build(tmp_path)
    apt_install(machine, old_milter)
    edit(machine, SETTINGS, r"^SOCKET=.*", "SOCKET_TYPE=inet\nSOCKET=22500")
    said = apt_install(machine, room.packages["benno-milter"])
    assert "WARNING: --allow 0.0.0.0/0 ::/0; name your mail servers there instead" in said
    assert load.send((_connect_from_outside(machine), 22500)) == "accepted"
    assert len(mail_files(machine, INBOX)) == 1
    room.clear(machine)


@pytest.mark.parametrize("suite", tree.SUITES)
def test_receiver_is_not_root_any_more(room: Room, suite: str, tmp_path: Path) -> None:
    """The old one read a key that was root's alone, and had port 25: so has user benno now."""
    machine, story = room.booted("port25", suite), Story()
    _, old_receiver = old_packages.build(tmp_path)
    apt_install(machine, old_receiver)
    keys = f"key_file = {keystore.PATH}\nkeystore_pass = {keystore.PASSWORD}"
    edit(machine, CONFIGURATION, r"^port = .*", f"port = 25\ntls_enabled = true\n{keys}")
    keystore.put(machine, tmp_path, "first.example")
    said = apt_install(machine, room.packages["benno-smtp"])
    assert f"group benno may read the key {keystore.PATH} now" in said
    assert "port 25 is below 1024" in said
    assert b"first.example" in keystore.shown(machine.address, sending.SMTP)
    sending.send(story, machine.address, sending.letter())
    check(story, mail_files(machine, INBOX))
    assert len(story.accepted) == 1
    room.clear(machine)


@pytest.mark.parametrize("suite", tree.SUITES)
def test_installed_in_a_chroot(room: Room, suite: str) -> None:
    """Without a running systemd, both packages and Postfix at once; after the first boot it works.

    Then purged, where all mail has been taken out: of what the packages made nothing is left.
    """
    machine, story = room.machine(f"new-{suite}", suite), Story()
    install_in_chroot(machine, room.packages["benno-milter"], room.packages["benno-smtp"], "postfix")
    machine.boot()
    machine.shell(WORLD + GUIDE)
    machine.restart("postfix")
    wait_for(lambda: answers(machine, sending.SMTP), "Postfix answers")
    sending.send(story, machine.address, sending.letter())
    sending.send(story, machine.address, sending.letter(), port=sending.RECEIVER)
    assert len(story.accepted) == 2
    check(story, mail_files(machine, INBOX))
    outside = _connect_from_outside(machine)
    with smtp.Client(sending.RECEIVER, 30, host=outside, greeting=b"") as client:
        assert client.replies[0].startswith("554 5.7.1 ")
        assert client.hung_up()
    assert "write allowed_networks = [" in machine.log("benno-smtp")
    for path in mail_files(machine, INBOX):
        path.unlink()
    machine.run("apt-get", "purge", "--yes", "benno-milter", "benno-smtp")
    assert [place for place in _MADE if machine.path(place).exists()] == []
    room.clear(machine)
