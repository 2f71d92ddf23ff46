"""benno-milter and benno-smtp as one: what is to hold for both is tested with both.

@EACH
def test_it(kind: Kind, tmp_path: Path) -> None:
    story = Story()
    with kind.start(tmp_path / "files") as running:
        assert kind.send(running, story, b"hello") == "accepted"
        with kind.load(running, story, clients=4, seed=1):
            ...
        assert story.faults(running.files()) == []
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

import daemon
import load
import passing
import receiver_daemon
import smtp_load
from daemon import Daemon
from load import Sizes, Story, small_and_large
from mta import MTA, Header, message_of
from receiver_daemon import Receiver
from smtp_load import Connection, make_message, note_accepted, note_sent

_RECIPIENTS = (b"c@d", b"bcc@d")
_numbers = itertools.count()


class Kind:
    """One of the two daemons."""

    name: str

    def __str__(self) -> str:
        return self.name

    def start(
        self, directory: Path, wrapper: Sequence[str] = (), prelude: str = ""
    ) -> AbstractContextManager[Daemon]:
        """wrapper: a command that starts it. prelude: Python that runs before it."""
        raise NotImplementedError

    def listen(self, path: Path) -> socket.socket:
        """A socket to pass to several of them. path: of one that has a file."""
        raise NotImplementedError

    def start_on(
        self, sock: socket.socket, directory: Path, name: str
    ) -> AbstractContextManager[Daemon]:
        """One of several processes. name: of its log."""
        raise NotImplementedError

    def load(
        self,
        running: Daemon,
        story: Story,
        *,
        clients: int,
        seed: object,
        sizes: Sizes = small_and_large,
    ) -> AbstractContextManager[None]:
        """Clients that send while the body runs."""
        raise NotImplementedError

    def send(self, running: Daemon, story: Story, body: bytes = b"hello\r\n") -> str:
        """One mail on a connection of its own: `accepted`, or the reply."""
        raise NotImplementedError


class _Milter(Kind):
    name = "milter"

    def start(
        self, directory: Path, wrapper: Sequence[str] = (), prelude: str = ""
    ) -> AbstractContextManager[Daemon]:
        command = (*daemon.COMMAND[:2], f"{prelude}\n{daemon.COMMAND[2]}")
        # Over TCP, for a socket in a directory that a wrapper may take away could not be made.
        return daemon.running(directory, wrapper=wrapper, socket="inet:0@127.0.0.1", command=command)

    def listen(self, path: Path) -> socket.socket:
        return passing.unix(path)

    def start_on(
        self, sock: socket.socket, directory: Path, name: str
    ) -> AbstractContextManager[Daemon]:
        address, log = f"unix:{sock.getsockname()}", directory.parent / f"{name}.log"
        return daemon.running(directory, socket=address, passed=[sock], log=log)

    def load(
        self,
        running: Daemon,
        story: Story,
        *,
        clients: int,
        seed: object,
        sizes: Sizes = small_and_large,
    ) -> AbstractContextManager[None]:
        return load.load(running.address, story, clients=clients, seed=seed, sizes=sizes)

    def send(self, running: Daemon, story: Story, body: bytes = b"hello\r\n") -> str:
        sender = b"one.%d@example.org" % next(_numbers)
        headers: list[Header] = [(b"Subject", b" " + sender)]
        message = message_of(headers, body)
        note_sent(story, message, sender, _RECIPIENTS)
        with MTA(running.address) as mta:
            mta.negotiate()
            verdict = mta.deliver(
                b"<" + sender + b">", [b"<" + one + b">" for one in _RECIPIENTS], headers, body
            )
        if verdict == "accepted":
            note_accepted(story, message)
        return verdict


class _Receiver(Kind):
    name = "receiver"

    def start(
        self, directory: Path, wrapper: Sequence[str] = (), prelude: str = ""
    ) -> AbstractContextManager[Daemon]:
        return receiver_daemon.running(directory, wrapper=wrapper, prelude=prelude)

    def listen(self, path: Path) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0), backlog=128)

    def start_on(
        self, sock: socket.socket, directory: Path, name: str
    ) -> AbstractContextManager[Daemon]:
        settings, log = f"port = {sock.getsockname()[1]}", directory.parent / f"{name}.log"
        return receiver_daemon.running(directory, settings, passed=[sock], log=log)

    def load(
        self,
        running: Daemon,
        story: Story,
        *,
        clients: int,
        seed: object,
        sizes: Sizes = small_and_large,
    ) -> AbstractContextManager[None]:
        assert isinstance(running, Receiver)
        return smtp_load.load(running.port, story, clients=clients, seed=seed, sizes=sizes)

    def send(self, running: Daemon, story: Story, body: bytes = b"hello\r\n") -> str:
        assert isinstance(running, Receiver)
        sender = b"one.%d@example.org" % next(_numbers)
        message = make_message(sender, body)
        note_sent(story, message, sender, _RECIPIENTS)
        with Connection(running.port) as connection:
            reply = connection.send(sender, _RECIPIENTS, message)
        if not reply.startswith("250"):
            return reply
        note_accepted(story, message)
        return "accepted"


MILTER, RECEIVER = _Milter(), _Receiver()
EACH = pytest.mark.parametrize("kind", [MILTER, RECEIVER], ids=str)


def kill(running: Daemon) -> None:
    """SIGKILL, and the wrapper's too, if there is one."""
    running.process.kill()
    with suppress(ProcessLookupError):
        os.kill(running.pid, 9)
    running.process.wait()
