"""What takes mail by SMTP and makes it durable: benno-smtp, stock aiosmtpd with a handler, Postfix.

Each is a context: a Receiver that runs, in a directory of its own, until the context ends.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import listening, mta, place, process, several
from bench.setting import PEERS, command, environment

_CONFIGURATION = """\
import_directory = "{inbox}"
port = {port}
listen = ["127.0.0.1"]
hostname = "archive.example"
"""


@dataclass(frozen=True)
class Receiver:
    """port: of loopback. empty: takes all away that it stored, and lets the disk come to rest."""

    port: int
    daemon: process.Daemon
    empty: Callable[[], None]


@contextmanager
def benno_smtp(root: Path, inbox: Path | None = None) -> Iterator[Receiver]:
    """With its configuration and log in `root`; inbox: there where nothing else is said."""
    inbox, port = inbox or root / "inbox", listening.free_port()
    words = _configured(root, inbox, port)
    with process.running(
        words, ready=lambda: greets(port), log=root / "benno-smtp.log", env=environment()
    ) as daemon:
        yield Receiver(port, daemon, lambda: empty(inbox))


@contextmanager
def benno_smtp_twice(root: Path) -> Iterator[Receiver]:
    """Two processes, one socket, one import directory."""
    inbox = root / "inbox"
    sock = several.loopback()
    port = int(sock.getsockname()[1])
    words = _configured(root, inbox, port)
    with several.running(words, sock, 2, log=root / "benno-smtp.log", env=environment()) as daemon:
        yield Receiver(port, daemon, lambda: empty(inbox))


def _configured(root: Path, inbox: Path, port: int) -> list[str]:
    """The command."""
    for directory in (root, inbox):
        directory.mkdir(parents=True, exist_ok=True)
    configuration = root / "benno-smtp.conf"
    configuration.write_text(_CONFIGURATION.format(inbox=inbox, port=port))
    return [*command("benno_smtp"), "-c", str(configuration), "--log", "stderr"]


@contextmanager
def aiosmtpd(root: Path) -> Iterator[Receiver]:
    """Stock aiosmtpd with a handler that stores durably."""
    inbox, port = root / "inbox", listening.free_port()
    inbox.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, str(PEERS / "aiosmtpd_durable.py"), str(inbox), str(port)]
    with process.running(words, ready=lambda: greets(port), log=root / "aiosmtpd.log") as daemon:
        yield Receiver(port, daemon, lambda: empty(inbox))


@contextmanager
def postfix(root: Path, afterwards: str = mta.HELD) -> Iterator[Receiver]:
    """Postfix's smtpd. afterwards: what becomes of mail that it accepted, as of `mta`."""
    with mta.running(root, extra=afterwards) as server:

        def empty_queue() -> None:
            server.empty()
            place.rest(root)

        yield Receiver(server.port, server.daemon, empty_queue)


@contextmanager
def smtp_sink() -> Iterator[int]:
    """Debian's smtp-sink, which takes all mail and keeps none: the port that it listens on."""
    port = listening.free_port()
    command = ["smtp-sink", "-u", "nobody", f"127.0.0.1:{port}", "256"]
    with process.running(command, ready=lambda: greets(port), log=Path("/dev/null")):
        yield port


def empty(directory: Path) -> None:
    """Take the mail files away, not the directory, which a daemon knows; let the disk come to rest."""
    place.put_away(directory.glob("*.eml"))
    place.rest(directory)


def greets(port: int) -> bool:
    """Whether an SMTP server is there, and says so."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            return client.recv(512).startswith(b"220")
    except OSError:
        return False
