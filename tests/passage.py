"""Mails on their way from a spool to an import directory, and the oracle: none lost, none invented.

    passage = Passage(spool)
    passage.fill(20)
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        with passage.run(receiver.port) as forwarder:
            ... whatever is to happen meanwhile ...
        passage.finish(receiver)  # another run, and all is there

Each mail that was put into the spool is in the end at least once in the import directory, with the
octets and the envelope that it had, and there is nothing else. At every moment before that it is there,
or still in the spool.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import daemon
import forwarding
import injection
from benno_common.envelope import Envelope
from forwarding import Run
from injection import Trace
from load import Sizes, Story
from receiver_daemon import Receiver
from smtp_load import make_message, note_accepted, note_sent
from waiting import wait_for

MAIN = "import sys; from benno_milter2smtp.program import main; sys.exit(main())"

# Its threads, main and worker, are there before it begins, and it waits until it may.
_ONE_WORKER = (
    "import concurrent.futures, sys",
    "from benno_milter2smtp import program",
    "worker = concurrent.futures.ThreadPoolExecutor(1)",
    "worker.submit(int).result()",
    "concurrent.futures.ThreadPoolExecutor = lambda *_, **__: worker",
    "sys.stdin.read()",
)


def small_or_large(chance: random.Random) -> int:
    """One in ten is not held in memory, by forwarder and receiver."""
    return chance.choice([0, *[chance.randrange(20_000)] * 8, (1 << 20) + chance.randrange(200_000)])


def main_thread(pid: int) -> int:
    """It talks to the receiver, and opens and locks the spool."""
    return pid


def worker(pid: int) -> int:
    """It reads mails, takes them out of the spool, holds them."""
    _, only = injection.threads(pid)
    return only


class Forwarder:
    """A run that is under way. process: the wrapper (strace, say) or the forwarder itself."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def begin(self) -> None:
        """It was started so that it waits for this."""
        assert self.process.stdin
        self.process.stdin.close()

    def end(self, seconds: float = 60.0) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Passage:
    """spool: a directory that exists. story: the mails that were put there, all of them accepted."""

    def __init__(self, spool: Path, seed: object = None) -> None:
        self.spool = spool
        self.seed = random.randrange(10**9) if seed is None else seed
        self.story = Story()
        self._chance = random.Random(str(self.seed))

    def fill(self, count: int, sizes: Sizes = small_or_large) -> None:
        """Put mails into the spool, safe from a power cut. sizes: of their bodies."""
        for _ in range(count):
            number = len(self.story.sent)
            sender = b"%s.%d@example.org" % (str(self.seed).encode(), number)
            names = range(self._chance.choice([1, 2, 30]))
            recipients = tuple(b"r%d.%d@example.net" % (number, one) for one in names)
            self.put(
                make_message(sender, self._chance.randbytes(sizes(self._chance))), sender, recipients
            )
        subprocess.run(["sync", "-f", self.spool], check=True)

    def put(
        self, message: bytes, sender: bytes = b"a@b", recipients: tuple[bytes, ...] = (b"c@d", b"e@f")
    ) -> None:
        forwarding.put(self.spool, message, Envelope(sender, recipients))
        note_sent(self.story, message, sender, recipients)
        note_accepted(self.story, message)

    def waiting(self) -> list[Path]:
        """The mails that lie in the spool, held ones among them."""
        return sorted(path for path in self.spool.iterdir() if ".eml" in path.name)

    @contextlib.contextmanager
    def run(
        self,
        *ports: int,
        options: Sequence[str] = (),
        wrapper: Sequence[str] = (),
        prelude: Sequence[str] = (),
        name: str = "run",
    ) -> Iterator[Forwarder]:
        """A run in a process of its own; killed at the end of the body.

        prelude: Python before it. name: of the log, beside the spool.
        """
        _, flag, _, *arguments = forwarding.command(self.spool, *options)
        program = [forwarding.COMMAND[0], flag, "\n".join([*prelude, MAIN])]
        hosts = [f"127.0.0.1:{port}" for port in ports]
        log = self.spool.parent / f"{self.spool.name}.{name}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*wrapper, *program, *arguments, *hosts],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
            )
        try:
            yield Forwarder(process, log)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            assert process.stdin
            process.stdin.close()

    @contextlib.contextmanager
    def injected(
        self,
        port: int,
        find: Callable[[int], int],
        *faults: str,
        traced: str = "",
        options: Sequence[str] = (),
        prelude: Sequence[str] = (),
    ) -> Iterator[tuple[Forwarder, Trace]]:
        """A run over one connection, with faults in one of its threads from its beginning on.

        find: main_thread or worker; faults, traced: as for injection.into().
        """
        options = ("--connections", "1", *options)
        with self.run(port, options=options, prelude=[*prelude, *_ONE_WORKER]) as forwarder:
            pid = forwarder.process.pid
            wait_for(lambda: len(injection.threads(pid)) == 2, "main thread and worker")
            with injection.into(find(pid), *faults, traced=traced) as trace:
                forwarder.begin()
                yield forwarder, trace

    def forward(self, *ports: int, options: Sequence[str] = ()) -> Run:
        """A run in this process, to its end."""
        return forwarding.forward(self.spool, *ports, options=options)

    def faults(self, receiver: Receiver) -> list[str]:
        """What is amiss now, with the mails that are still in the spool counted as there."""
        return self.story.faults([*self.waiting(), *receiver.files()])

    def finish(self, receiver: Receiver, options: Sequence[str] = ()) -> Counter[int]:
        """Have another run send what is left, and look at it all; how many came once, twice, …"""
        assert self.faults(receiver) == [], f"seed {self.seed}"
        run = self.forward(receiver.port, options=options)
        assert run.code == os.EX_OK, run.log
        assert set(os.listdir(self.spool)) <= {"lost+found"}, run.log
        assert self.story.faults(receiver.files()) == [], f"seed {self.seed}"
        return Counter(self.copies(receiver).values())

    def copies(self, receiver: Receiver) -> Counter[bytes]:
        """How often each mail, by its sender, lies in the import directory."""
        return Counter(daemon.read(path)[0] for path in receiver.files())
