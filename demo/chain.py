"""The whole chain on loopback in one directory, from the MTA to the import directory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import daemon
import embedded
import postfix
import receiver_daemon
from samples import Sample
from smtp import Client
from waiting import wait_for

EXPORT = Path(__file__).resolve().parent.parent / "cron" / "benno-export2archive"

# Where the commands of this environment are, benno-milter2smtp among them.
COMMANDS = str(Path(sys.executable).parent)


@dataclass(frozen=True)
class MTA:
    """port: of its SMTP server. exact: whether it leaves a bare LF as it is."""

    name: str
    port: int
    exact: bool
    note: str = ""


@dataclass(frozen=True)
class Run:
    """One of the forwarder. code: its exit code."""

    code: int
    log: str
    seconds: float


@dataclass(frozen=True)
class Chain:
    """A running one. root: its directory; settings: of benno-export2archive."""

    root: Path
    mta: MTA
    milter: daemon.Daemon
    receiver: receiver_daemon.Receiver
    settings: Path

    def send(self, sample: Sample) -> str:
        """One mail by SMTP; the last reply. Past the MTA if that would alter it."""
        if self.goes_past_mta(sample):
            socket = str(self.milter.address)
            return embedded.hand_over(socket, sample.sender, list(sample.recipients), sample.message)
        with Client(self.mta.port) as client:
            return client.send(sample.sender, sample.recipients, sample.message)

    def goes_past_mta(self, sample: Sample) -> bool:
        return sample.bare and not self.mta.exact

    def forward(self) -> Run:
        """Do what cron does every 15 minutes."""
        start = time.monotonic()
        done = subprocess.run(  # noqa: S603 - our own script
            [EXPORT, "-c", self.settings, "--log", "stderr"],
            env={**os.environ, "PATH": f"{COMMANDS}:{os.environ['PATH']}"},
            capture_output=True,
            check=False,
            timeout=50,
        )
        log = (done.stdout + done.stderr).decode(errors="replace")
        (self.root / "forwarder.log").write_text(log)
        return Run(done.returncode, log, time.monotonic() - start)


@contextmanager
def running(root: Path, *, with_postfix: bool) -> Iterator[Chain]:
    """Start all of it below `root`, and end all of it.

    Raises AssertionError, with its log, if a program does not start.
    """
    with ExitStack() as stack:
        root.chmod(0o711)  # Postfix's users go through to the milter's socket
        receiver = stack.enter_context(receiver_daemon.running(root / "import"))
        milter = stack.enter_context(daemon.running(root / "spool", "-m", "666"))
        for directory in (milter.spool, receiver.inbox):
            directory.chmod(0o700)
        settings = root / "benno-milter"
        settings.write_text(f"SPOOLDIR={milter.spool}\nBENNOHOST=127.0.0.1:{receiver.port}\n")
        mta = _start_mta(stack, root, str(milter.address), with_postfix=with_postfix)
        yield Chain(root, mta, milter, receiver, settings)


def _start_mta(stack: ExitStack, root: Path, milter: str, *, with_postfix: bool) -> MTA:
    note = ""
    if with_postfix and shutil.which("postfix") and not postfix.available():
        note = "Postfix is installed, but only root can start one"
    if with_postfix and postfix.available():
        stack.callback(_end_postfix, root / "postfix" / "queue")
        try:
            server = stack.enter_context(postfix.running(root / "postfix", f"unix:{milter}"))
        except (AssertionError, OSError) as error:
            note = f"Postfix did not start here: {error}"
        else:
            return MTA(f"Postfix {_postfix_version()}", server.port, exact=False)
    return MTA("embedded MTA", stack.enter_context(embedded.running(milter)), exact=True, note=note)


def _end_postfix(queue: Path) -> None:
    """End a master that is there although its start seemed to fail."""
    try:
        pid = int((queue / "pid" / "master.pid").read_text())
        if Path(f"/proc/{pid}/cwd").readlink() != queue:
            return
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):  # none, or ended
        return
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "Postfix has ended")


def _postfix_version() -> str:
    command = ["postconf", "-dh", "mail_version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()
