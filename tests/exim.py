"""A real Exim as a receiver, unpacked beside any other mail server; Debian installs only one.

test.sh unpacks Debian's exim4-daemon-light into .venv/exim. All mail that it accepts stays in its
queue. It looks for its user Debian-exim at the start, so it gets a user table of its own, in a mount
namespace of its own.
"""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import free_port, wait_for

ROOT = Path(__file__).parent.parent / ".venv" / "exim"
BINARY = ROOT / "usr" / "sbin" / "exim4"

_CONFIGURATION = """\
spool_directory = {root}/spool
log_file_path = {root}/log/%slog
pid_file_path = {root}/pid
primary_hostname = exim.test
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
tls_advertise_hosts =
chunking_advertise_hosts = *
dsn_advertise_hosts = *
queue_only
smtp_accept_max = 100
message_size_limit = 100M
acl_smtp_rcpt = accept
acl_smtp_data = accept
never_users =
keep_environment =
begin acl
accept:
  accept
"""


class Exim:
    """A running Exim. port: where it listens. root: its directory."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.port = port

    def mails(self) -> list[tuple[list[str], bytes]]:
        """Recipients and body of each transaction in its queue, in order. Exim keeps lines with LF."""
        found = []
        for path in sorted((self.root / "spool" / "input").rglob("*-D")):
            head = path.with_name(path.name[:-2] + "-H").read_text(errors="surrogateescape")
            body = path.read_bytes().partition(b"\n")[2]
            found.append((_recipients(head), body))
        return found


def _recipients(head: str) -> list[str]:
    """From a spool header file: a count, and as many lines (Exim's specification, chapter 56)."""
    lines = iter(head.split("\n\n", 1)[0].splitlines())
    for line in lines:
        if line.isdigit():
            return [next(lines).split(" ")[0] for _ in range(int(line))]
    return []


def missing() -> str | None:
    """What this machine lacks to run one."""
    if os.geteuid() != 0:
        return "needs root"
    if not BINARY.exists():
        return "needs exim4-daemon-light unpacked in .venv/exim (test.sh does it)"
    libraries = subprocess.run(["ldd", BINARY], capture_output=True, check=False, text=True).stdout
    return f"exim lacks libraries: {libraries}" if "not found" in libraries else None


@contextmanager
def running(root: Path) -> Iterator[Exim]:
    """Start one with its files in `root`."""
    port = free_port()
    for name in ("spool", "log"):
        (root / name).mkdir(parents=True)
        os.chown(root / name, 8, 8)  # mail, in Debian
    for parent in [root, *root.parents]:
        if str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    configuration = root / "exim.conf"
    configuration.write_text(_CONFIGURATION.format(root=root, port=port))
    users = root / "passwd"
    users.write_text(Path("/etc/passwd").read_text() + "Debian-exim:x:8:8::/nonexistent:/bin/false\n")
    groups = root / "group"
    groups.write_text(Path("/etc/group").read_text() + "Debian-exim:x:8:\n")
    script = (
        f"mount --bind {users} /etc/passwd && mount --bind {groups} /etc/group && "
        f"exec {BINARY} -C {configuration} -bdf"
    )
    with (root / "log" / "stderr").open("wb") as stream:
        process = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stderr=stream)
    exim = Exim(root, port)
    try:
        wait_for(lambda: process.poll() is not None or _answers(port), "exim answers")
        assert process.poll() is None, (root / "log" / "stderr").read_text()
        yield exim
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)


def _answers(port: int) -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            return client.noop()[0] == 250
    except OSError:
        return False
