"""A real Postfix as the host that benno-milter2smtp sends to. What it accepts stays in its queue."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import journey
import policy
import postfix
from forwarding import Run
from journey import Queued
from policy import Answers

# Postfix adds nothing and takes nothing away that it can leave alone.
_AS_IT_IS = "local_header_rewrite_clients =\nmessage_drop_headers =\n"


class Host:
    """mta: to send to its port. service: what it answers."""

    def __init__(self, mta: postfix.Postfix, service: policy.Service) -> None:
        self.mta = mta
        self.service = service

    def prepare(self, answers: Answers) -> None:
        """Empty its queue, and forget what was before."""
        command = ["postsuper", "-c", str(self.mta.root / "etc"), "-d", "ALL"]
        subprocess.run(command, check=True, env=self.mta.environment, capture_output=True)
        self.service.answers = answers
        self.service.asked.clear()

    def count(self) -> int:
        """How many mails its queue holds."""
        return sum(path.is_file() for path in (self.mta.queue / "hold").rglob("*"))

    def queued(self, run: Run) -> dict[str, Queued]:
        """What became of the mails in the log of a forwarder, by file."""
        replies = {file: reply for file, (_, reply) in journey.sent(run.log).items()}
        ids = {file: re.findall(r"queued as (\w+)", reply)[0] for file, reply in replies.items()}
        mails = journey.queued(self.mta, ids.values())
        return {file: mails[queue_id] for file, queue_id in ids.items()}


@contextmanager
def running(root: Path, extra: str = "") -> Iterator[Host]:
    """extra: more lines of main.cf."""
    with policy.serving() as service:
        configuration = _AS_IT_IS + service.configuration + extra
        with postfix.running(root, "", extra=configuration) as mta:
            yield Host(mta, service)
