"""A Postfix of its own: configuration directory, queue, port; in the foreground, on loopback, as root.

Its settings are those of a new installation, except: names of clients are not looked up in the DNS,
and any size of mail is taken. What is done with mail that was accepted says `extra`:

* HELD: it stays in the queue, where nobody looks at it. Postfix has only received it.
* DISCARDED: its queue manager takes it, a delivery agent throws it away and it is removed, meanwhile.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import listening, place, process
from bench.logfile import Count

HELD = "smtpd_end_of_data_restrictions = check_client_access static:HOLD\n"
DISCARDED = "default_transport = discard:\n"


def relayed(port: int, connections: int) -> str:
    """Mail that was held and let go is sent to a port of loopback, over so many connections."""
    return (
        f"{HELD}default_transport = smtp:[127.0.0.1]:{port}\n"
        f"initial_destination_concurrency = {connections}\n"
        f"default_destination_concurrency_limit = {connections}\n"
    )


_MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/log/maillog
maillog_file_prefixes = {root}
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = mx.example
mydestination =
mynetworks = 127.0.0.0/8
local_recipient_maps =
alias_maps =
alias_database =
smtpd_peername_lookup = no
message_size_limit = 0
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
scache    unix  - - n - 1 scache
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
showq     unix  n - n - - showq
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Server:
    """A running Postfix. daemon: its master, of which all its processes are children."""

    root: Path
    port: int
    daemon: process.Daemon

    @property
    def queue(self) -> Path:
        return self.root / "queue"

    @property
    def configuration(self) -> str:
        """For the -c of its commands."""
        return str(self.root / "etc")

    @property
    def log(self) -> Path:
        return self.root / "log" / "maillog"

    def files(self, *queues: str) -> list[Path]:
        """The mails in these of its queues: `hold`, `incoming`, `active`, `deferred`."""
        return [path for name in queues for path in (self.queue / name).rglob("*") if path.is_file()]

    def release(self) -> None:
        """Let go of what is held, for `send_on`."""
        command = ["postsuper", "-c", self.configuration, "-H", "ALL"]
        subprocess.run(command, check=True, capture_output=True)

    def send_on(self, mails: int) -> float:
        """Send all that was let go of: seconds, from the order until the last of them is removed."""
        removed = Count(self.log, b": removed\n")
        began = time.monotonic()
        subprocess.run(["postqueue", "-c", self.configuration, "-f"], check=True)
        process.wait_for(lambda: removed.now() >= mails, f"{mails} mails sent on", 600)
        return time.monotonic() - began

    def empty(self) -> None:
        """Wait until nothing is on its way, and take away what is held."""
        process.wait_for(lambda: not self.files("incoming", "active"), "an empty queue", 600)
        place.put_away(self.files("hold"))


def missing() -> str | None:
    """Why none can be run here."""
    if os.geteuid() != 0:
        return "Postfix is started by root only"
    return None if shutil.which("postfix") else "Postfix is not installed"


@contextmanager
def running(root: Path, *, milter: str = "", extra: str = "") -> Iterator[Server]:
    """Start one whose queue lies below `root`. milter: as in smtpd_milters; extra: more of main.cf."""
    port = listening.free_port()
    for name in ("etc", "queue", "data", "log"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for parent in [root, *root.parents]:  # its users must reach its directories
        if parent.stat().st_uid == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    shutil.chown(root / "data", "postfix")
    milters = f"smtpd_milters = {milter}\nmilter_default_action = tempfail\n" if milter else ""
    (root / "etc" / "main.cf").write_text(_MAIN.format(root=root) + milters + extra)
    (root / "etc" / "master.cf").write_text(_MASTER.format(port=port))
    command = ["postfix", "-c", str(root / "etc"), "start-fg"]
    with process.running(
        command, ready=lambda: listening.answers(("127.0.0.1", port)), log=root / "log" / "start"
    ):
        master = int((root / "queue" / "pid" / "master.pid").read_text())
        try:
            yield Server(root, port, process.Daemon(master, root / "log" / "maillog"))
        finally:  # what was started is a script that does not pass signals on
            os.kill(master, signal.SIGTERM)
            process.wait_for(lambda: not Path(f"/proc/{master}").exists(), "the end of Postfix")
