"""Mails by SMTP: how many, how large, over how many connections; sent by smtpload or smtp-source."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass

from bench.rounds import Latency, Sample
from bench.setting import Setting

KIB, MB = 1 << 10, 1_000_000


@dataclass(frozen=True)
class Load:
    """size: octets of a message. each: mails of a connection, 0 for no limit."""

    mails: int
    size: int
    sessions: int
    bdat: bool = False
    recipients: int = 1
    each: int = 0

    def __str__(self) -> str:
        size = f"{self.size // MB} MB" if self.size >= MB else f"{self.size // KIB} KiB"
        sessions = "1 session" if self.sessions == 1 else f"{self.sessions} sessions"
        recipients = f", {self.recipients} recipients" if self.recipients > 1 else ""
        return f"{size}, {sessions}{recipients}"


def send(setting: Setting, port: int, load: Load) -> Sample:
    """Send them with smtpload to a port of loopback. Raises RuntimeError if one is refused."""
    options = {"-s": load.sessions, "-m": load.mails, "-l": load.size, "-r": load.recipients}
    words = [str(word) for option in {**options, "-k": load.each}.items() for word in option]
    more = ["-b"] if load.bdat else []
    done = subprocess.run(
        [setting.program("smtpload"), *words, *more, "127.0.0.1", str(port)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{load}: {done.stderr}")
    told = json.loads(done.stdout)
    return Sample(
        mails=told["mails"],
        seconds=told["seconds"],
        latency=Latency(told["median"], told["high"], told["worst"]),
        octets=told["mails"] * told["octets"],
    )


def send_by_smtp_source(port: int, load: Load) -> Sample:
    """The same with Debian's smtp-source: without pipelining, by DATA. each: 0 or 1 only.

    Its start and its connections are within the seconds: it says nothing of them.
    """
    options = ["-s", str(load.sessions), "-m", str(load.mails), "-l", str(load.size)]
    addresses = ["-f", "sender@example.org", "-t", "recipient@example.net"]
    more = [] if load.each == 1 else ["-d"]
    command = ["smtp-source", *options, *addresses, *more, f"127.0.0.1:{port}"]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return Sample(load.mails, time.monotonic() - began, octets=load.mails * load.size)
