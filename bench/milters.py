"""What takes mail from an MTA by the milter protocol and keeps it: benno-milter, and its peers.

    with benno(setting, root) as milter:
        sample = load(setting, milter, Work(mails=1000, octets=4096, connections=8))
        milter.empty()

The peers are this project's own, and as quick as what they are made of lets a plain program be. They
write the same block of trusted headers, and sync file and directory for each mail; they do not escape,
hash, log, check their directory or keep a reserve.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench import listening, process, receivers, several
from bench.rounds import Latency, Sample
from bench.setting import PEERS, Setting, command, environment

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Work:
    """octets: of a message with its headers."""

    mails: int
    octets: int
    connections: int
    headers: int = 12
    recipients: int = 1

    def __str__(self) -> str:
        size = f"{self.octets // MIB} MiB" if self.octets >= MIB else f"{self.octets // KIB} KiB"
        headers = f", {self.headers} headers" if self.headers != 12 else ""
        recipients = f", {self.recipients} recipients" if self.recipients > 1 else ""
        return f"{size}, {_many(self.connections, 'connection')}{headers}{recipients}"


@dataclass(frozen=True)
class Milter:
    """address: for milterload, and in smtpd_milters with the kind before it."""

    address: str
    spool: Path
    daemon: process.Daemon

    @property
    def for_postfix(self) -> str:
        return f"unix:{self.address}" if "/" in self.address else f"inet:127.0.0.1:{self.address}"

    def empty(self) -> None:
        """Take away what it has kept, and let the disk come to rest."""
        receivers.empty(self.spool)

    def count(self) -> int:
        return sum(entry.name.endswith(".eml") for entry in os.scandir(self.spool))


Start = Callable[[Setting, Path], AbstractContextManager[Milter]]


def benno(
    _setting: Setting, root: Path, *, start: Sequence[str] | None = None
) -> AbstractContextManager[Milter]:
    """start: the command, instead of the usual one."""
    return _running(root, [*(start or command("benno_milter")), *_options(root)], f"{root}/socket")


@contextmanager
def benno_twice(_setting: Setting, root: Path) -> Iterator[Milter]:
    """Two processes, one socket, one spool."""
    spool, address = root / "spool", f"{root}/socket"
    spool.mkdir(parents=True)
    words = [*command("benno_milter"), *_options(root)]
    with several.running(
        words, several.unix(address), 2, log=root / "log", env=environment()
    ) as daemon:
        yield Milter(address, spool, daemon)


def _options(root: Path) -> list[str]:
    return ["-p", f"unix:{root}/socket", "-o", f"{root}/spool", "-m", "666", "--log", "stderr"]


def c_peer(setting: Setting, root: Path, *, durable: bool = True) -> AbstractContextManager[Milter]:
    """On Debian's libmilter. durable: with both syncs."""
    options = [] if durable else ["-n"]
    words = [
        setting.program("spoolmilter"),
        *options,
        "-o",
        f"{root}/spool",
        "-p",
        f"unix:{root}/socket",
    ]
    return _running(root, words, f"{root}/socket")


def pymilter(setting: Setting, root: Path) -> AbstractContextManager[Milter]:
    words = [sys.executable, str(PEERS / "pymilter_spool.py"), f"{root}/spool", f"unix:{root}/socket"]
    path = {**os.environ, "PYTHONPATH": setting.program("pymilter")}
    return _running(root, words, f"{root}/socket", path)


def purepythonmilter(_setting: Setting, root: Path) -> AbstractContextManager[Milter]:
    """It knows no Unix sockets: TCP on loopback."""
    port = str(listening.free_port())
    words = [sys.executable, str(PEERS / "purepythonmilter_spool.py"), f"{root}/spool", port]
    return _running(root, words, port)


BENNO, TWICE = "benno-milter", "benno-milter, 2 processes"
C_PEER, C_UNSAFE = "C peer", "C peer, no sync"
PURE = "purepythonmilter"
ALL: Mapping[str, Start] = {
    BENNO: benno,
    TWICE: benno_twice,
    C_PEER: c_peer,
    C_UNSAFE: partial(c_peer, durable=False),
    "pymilter": pymilter,
    PURE: purepythonmilter,
}


@contextmanager
def _running(
    root: Path, words: Sequence[str], address: str, env: Mapping[str, str] | None = None
) -> Iterator[Milter]:
    spool = root / "spool"
    spool.mkdir(parents=True)
    where = address if "/" in address else ("127.0.0.1", int(address))
    with process.running(
        words, ready=lambda: listening.answers(where), log=root / "log", env=env or environment()
    ) as daemon:
        if "/" in address:
            os.chmod(address, 0o666)  # for Postfix, which is not root
        yield Milter(address, spool, daemon)


def load(setting: Setting, milter: Milter, work: Work) -> Sample:
    """Send mails to a milter that has none yet. Raises RuntimeError if not all are kept.

    Context switches are left out: libmilter's threads come and go.
    """
    timed = process.measured(milter.daemon, lambda: send(setting, milter.address, work))
    sample = replace(timed, switches=None)
    if milter.count() != work.mails:
        raise RuntimeError(f"{work}: {milter.count()} files of {work.mails} mails")
    return sample


def send(setting: Setting, address: str, work: Work) -> Sample:
    """Send mails with milterload. Raises RuntimeError if not all are accepted."""
    options = {
        "-m": work.mails,
        "-s": work.octets,
        "-c": work.connections,
        "-H": work.headers,
        "-r": work.recipients,
    }
    words = [str(word) for option in options.items() for word in option]
    command = [setting.program("milterload"), *words, address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout or "{}")
    if told.get("replies") != {"c": work.mails}:
        raise RuntimeError(f"{work}: {told} {done.stderr}")
    latency = Latency(told["median"], told["high"], told["worst"])
    return Sample(work.mails, told["seconds"], latency, octets=work.mails * work.octets)


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
