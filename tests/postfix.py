"""A real Postfix with a configuration directory, a queue and a port of its own.

It listens on loopback, runs as root beside any other Postfix, and is ended by its master's process id.
Mail that it accepts is discarded after the milter has seen it (`default_transport = discard`), unless a
test says otherwise.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import free_port, wait_for

_MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/log/maillog
maillog_file_prefixes = {root}
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = mx.test
mydestination =
mynetworks = 127.0.0.0/8
local_recipient_maps =
alias_maps =
alias_database =
default_transport = discard:
relay_transport = discard:
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_client_restrictions =
smtpd_peername_lookup = no
smtputf8_autodetect_classes = all
message_size_limit = 104857600
header_size_limit = 10485760
line_length_limit = 2048
in_flow_delay = 0
milter_default_action = tempfail
smtpd_milters = {milter}
non_smtpd_milters = {milter}
"""

_MASTER = """\
127.0.0.1:{port} inet n - {chroot} - - smtpd
pickup    unix  n - n 1 1 pickup
cleanup   unix  n - {chroot} - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
showq     unix  n - n - - showq
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A running Postfix. port: of its smtpd. root: its directory; queue: below it, the chroot."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.queue = root / "queue"
        self.port = port
        self.environment = {**os.environ, "MAIL_CONFIG": str(root / "etc")}

    @property
    def log(self) -> str:
        """What it has logged."""
        path = self.root / "log" / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""

    def sendmail(self, *arguments: str, message: bytes) -> subprocess.CompletedProcess[bytes]:
        """Submit a mail with sendmail(1), as cron and web mail do."""
        command = ["/usr/sbin/sendmail", "-C", str(self.root / "etc"), *arguments]
        return subprocess.run(
            command, input=message, env=self.environment, capture_output=True, check=False, timeout=60
        )

    def flush(self) -> None:
        """Try all deferred mail again, also what sendmail(1) left to be picked up."""
        subprocess.run(
            ["postqueue", "-c", str(self.root / "etc"), "-f"], check=True, env=self.environment
        )


def available() -> bool:
    """Whether this machine can run one."""
    return os.geteuid() == 0 and shutil.which("postfix") is not None


@contextmanager
def running(root: Path, milter: str, *, chroot: bool = False, extra: str = "") -> Iterator[Postfix]:
    """Start a Postfix in `root`. milter: as in smtpd_milters; extra: more lines of main.cf."""
    port = free_port()
    for name in ("etc", "queue", "data", "log"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for parent in [root, *root.parents]:  # the mail system's users must reach its directories
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    shutil.chown(root / "data", "postfix")
    (root / "etc" / "main.cf").write_text(_once_each(_MAIN.format(root=root, milter=milter) + extra))
    (root / "etc" / "master.cf").write_text(_MASTER.format(port=port, chroot="y" if chroot else "n"))
    postfix = Postfix(root, port)
    command = ["postfix", "-c", str(root / "etc")]
    started = subprocess.run(
        [*command, "start"], check=False, env=postfix.environment, capture_output=True
    )
    assert started.returncode == 0, (started.stderr, postfix.log)
    pid = int((postfix.queue / "pid" / "master.pid").read_text())
    try:
        wait_for(lambda: _answers(port), "smtpd answers")
        yield postfix
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "Postfix has ended")


def _once_each(main_cf: str) -> str:
    """Each parameter as it was set last.

    Of a parameter that is set twice all processes warn, postlogd too, to itself and before it reads: it
    then waits for ever where its socket is full.
    """
    settings = {line.partition("=")[0].strip(): line for line in re.split(r"\n(?!\s)", main_cf)}
    return "\n".join(settings.values()) + "\n"


def _answers(port: int) -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            return client.noop()[0] == 250
    except OSError:
        return False
