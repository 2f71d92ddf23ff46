"""The whole way of the mail, to be broken while it flows: milter, spool, forwarder, receiver, inbox.

Spool and import directory lie on file systems of their own. Forwarder and receiver talk over the
loopback of a network namespace of their own, where their link can be cut. The forwarder is started
again and again, and an archiver takes out of the import directory what it has looked at.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import daemon
import forwarding
import powercut
import receiver_daemon
from daemon import Daemon
from link import Network
from load import Story
from powercut import MIB, Disk
from processes import descriptors
from waiting import free_port, wait_for

_SECONDS = 5  # that the forwarder waits for a reply; ten minutes in life
_FORWARDER = f"""
import sys
from benno_milter2smtp import delivery
from benno_milter2smtp.program import main
delivery.FINAL_SECONDS = {_SECONDS}
sys.exit(main())
"""
_ENDINGS = {os.EX_OK, os.EX_TEMPFAIL, -signal.SIGKILL, -signal.SIGTERM}


class Service:
    """A daemon on a disk of its own that can be started again."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._stack = ExitStack()
        self.start()

    def _running(self) -> contextlib.AbstractContextManager[Daemon]:
        raise NotImplementedError

    def start(self) -> None:
        self.running = self._stack.enter_context(self._running())
        self.pid = self.running.pid
        self._idle = len(descriptors(self.pid))

    def is_idle(self) -> bool:
        """Whether it has no more open than at its start."""
        return len(descriptors(self.pid)) <= self._idle

    def stop(self) -> None:
        """As the system stops it."""
        code = self.running.stop()
        assert code in {0, -signal.SIGKILL}, f"{self.running.log[-2000:]}"
        self._stack.close()

    def kill(self) -> None:
        self.running.process.kill()
        self.running.process.wait()
        self._stack.close()


class Milter(Service):
    def _running(self) -> contextlib.AbstractContextManager[Daemon]:
        return daemon.running(self.disk.path)


class Receiver(Service):
    def __init__(self, disk: Disk, port: int, wrapper: tuple[str, ...]) -> None:
        self.port, self._wrapper = port, wrapper
        super().__init__(disk)

    def _running(self) -> contextlib.AbstractContextManager[Daemon]:
        settings = f"port = {self.port}"
        return receiver_daemon.running(self.disk.path, settings, wrapper=self._wrapper)


class _Worker(threading.Thread):
    """Does its work again and again, but not while it `rests`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.rests = threading.Lock()
        self.ending = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ending.wait(0.05):
                with self.rests:
                    self.work()
        except BaseException as error:
            self.error = error

    def work(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        self.ending.set()
        self.join(60)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


class Forwarder(_Worker):
    """Runs one after the other. endings: their exit codes. log: of the run that went wrong."""

    def __init__(self, spool: Path, port: int, wrapper: tuple[str, ...]) -> None:
        super().__init__()
        options = ["--timeout", str(_SECONDS), f"127.0.0.1:{port}"]
        command = [*forwarding.command(spool), *options]
        self._command = [*wrapper, command[0], command[1], _FORWARDER, *command[3:]]
        self._log = spool.parent / "forwarder.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.endings: Counter[int] = Counter()

    def work(self) -> None:
        with self._log.open("wb") as stream:
            self.process = subprocess.Popen(self._command, stderr=stream)
        code = self.process.wait()
        self.endings[code] += 1
        assert code in _ENDINGS, f"exit code {code}: {self._log.read_text()[-2000:]}"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Killed, and not started again within."""
        while not self.rests.acquire(timeout=0.01):
            self.kill()
        try:
            yield
        finally:
            self.rests.release()


class Archiver(_Worker):
    """Looks at each mail in the import directory and takes it out. faults: what was wrong."""

    def __init__(self, disk: Disk, story: Story) -> None:
        super().__init__()
        self._disk = disk
        self._story = story
        self.taken = 0
        self.faults: list[str] = []

    def work(self) -> None:
        for path in _mails(self._disk):
            key, fault = self._story.judge(path)
            if fault is not None:
                self.faults.append(fault)
            path.unlink()
            self._story.archived.add(key)
            self.taken += 1


def _mails(disk: Disk) -> list[Path]:
    """Not what the receiver makes for a moment when it tries its directory."""
    return [path for path in disk.files() if path.suffix == ".eml"]


class Way:
    """All of it. story: what was sent, and what became of it."""

    def __init__(self, directory: Path, story: Story, stack: ExitStack) -> None:
        self.story = story
        spool, inbox = directory / "milter", directory / "receiver"
        spool.mkdir()
        inbox.mkdir()
        disks = [
            stack.enter_context(powercut.disk(spool, "xfs")),
            stack.enter_context(powercut.disk(inbox, "ext4", 96 * MIB)),
        ]
        self.network: Network | None = None
        if shutil.which("nft") and shutil.which("ip"):
            self.network = Network()
            stack.callback(self.network.close)
        wrapper = self.network.wrapper if self.network else ()
        port = 2500 if self.network else free_port()
        self.milter = Milter(disks[0])
        stack.callback(self.milter.stop)
        self.receiver = Receiver(disks[1], port, wrapper)
        stack.callback(self.receiver.stop)
        self.forwarder = Forwarder(disks[0].path, port, wrapper)
        self.archiver = Archiver(disks[1], story)
        for worker in (self.forwarder, self.archiver):
            worker.start()
        stack.callback(self._abandon)

    def _abandon(self) -> None:
        """Whatever has happened, nobody uses the disks any more."""
        for worker in (self.forwarder, self.archiver):
            worker.ending.set()
        self.forwarder.kill()
        for worker in (self.forwarder, self.archiver):
            worker.join(60)

    def failed(self) -> BaseException | None:
        """What ended a part of it that ought to go on."""
        return self.forwarder.error or self.archiver.error

    def empty(self) -> None:
        """Wait until all that was accepted has arrived and is archived; end forwarder and archiver."""
        disks = (self.milter.disk, self.receiver.disk)
        wait_for(
            lambda: self.failed() or not any(map(_mails, disks)), "all mail has arrived", seconds=300
        )
        self.forwarder.end()
        self.archiver.end()

    def left(self) -> list[str]:
        """What lies where nothing should."""
        disks = (self.milter.disk, self.receiver.disk)
        return [path.name for disk in disks for path in disk.files()]
