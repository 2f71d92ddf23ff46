"""Many clients, slow clients and greedy ones: they have their limits, and a good one does not wait."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

import receiver_daemon
from benno_smtp import limits
from receiver_daemon import Receiver
from smtp import Client
from waiting import wait_for

pytestmark = pytest.mark.slow

SMALL = b"Subject: x\r\n\r\nbody\r\n"
NO_PLACE = "421 4.7.0 Too many connections; come again later"


class From(Client):
    """A client whose address is another one of loopback."""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 60, source_address=(address, 0))
        self.stream = self.socket.makefile("rb")
        self.replies: list[str] = []
        self.read()

    def __enter__(self) -> From:
        return self


def pause(clock: Client, seconds: float) -> None:
    """Nothing comes to a client that is silent itself."""
    clock.socket.settimeout(seconds)
    with pytest.raises(TimeoutError):
        clock.socket.recv(1)
    clock.socket.settimeout(60)


# Loopback as any other network, so that addresses of it are limited like others.
ANY = "benno_smtp.settings._LOOPBACK = ()"


def counting(settings: str, tmp_path: Path):  # type: ignore[no-untyped-def]
    prelude = f"import benno_smtp.settings; {ANY}"
    wanted = f"{settings}\ntrusted_gateways = []\n"
    return receiver_daemon.running(tmp_path / "inbox", wanted, prelude=prelude)


def test_places_of_one_address(tmp_path: Path) -> None:
    """Others still come in, and so does it when one of its connections has ended."""
    with counting("max_connections_per_address = 2", tmp_path) as receiver, ExitStack() as stack:
        first, second = (stack.enter_context(From("127.0.0.2", receiver.port)) for _ in range(2))
        for _ in range(5):
            with From("127.0.0.2", receiver.port) as third:
                assert third.replies == [NO_PLACE]
                assert third.hung_up()
        with From("127.0.0.3", receiver.port) as other:
            other.command(b"EHLO c")
            assert other.send(b"a@b", [b"c@d"], SMALL).startswith("250")
        first.close()
        wait_for(lambda: comes_in("127.0.0.2", receiver), "the place of the first")
        second.command(b"EHLO c")
        assert second.send(b"a@b", [b"c@d"], SMALL).startswith("250")
        line = (
            "connect from 127.0.0.2 refused: "
            "2 connections of its address are open, see max_connections_per_address\n"
        )
        assert receiver.log.count("refused: ") == receiver.log.count(line) == 1, "one line in a minute"


def comes_in(address: str, receiver: Receiver) -> bool:
    with From(address, receiver.port) as client:
        return client.replies[0].startswith("220")


def test_places_in_all(tmp_path: Path) -> None:
    with counting("max_connections = 3", tmp_path) as receiver, ExitStack() as stack:
        clients = [stack.enter_context(From(f"127.0.0.{last}", receiver.port)) for last in (2, 3, 4)]
        for last in range(5, 10):
            assert not comes_in(f"127.0.0.{last}", receiver)
        clients[1].close()
        wait_for(lambda: comes_in("127.0.0.9", receiver), "the place of the second")
        line = "connect from 127.0.0.5 refused: 3 connections are open, see max_connections\n"
        assert line in receiver.log


def test_every_place_is_given_back(tmp_path: Path) -> None:
    """However a session ends, also one that was turned away."""
    with counting("max_connections = 2\nmax_connections_per_address = 1", tmp_path) as receiver:
        for _ in range(20):
            with From("127.0.0.2", receiver.port) as client, From("127.0.0.3", receiver.port) as other:
                assert not comes_in("127.0.0.2", receiver)
                client.command(b"QUIT")
                other.socket.sendall(b"EHLO x\r\nMAIL FROM:<a@b>\r\n")
                other.reset()
            wait_for(lambda: comes_in("127.0.0.2", receiver), "a place")
            wait_for(lambda: comes_in("127.0.0.3", receiver), "a place")


def test_loopback_and_trusted_gateways_have_as_many_as_they_want(tmp_path: Path) -> None:
    """Behind a tunnel, whose end is on loopback, there are many."""
    limited = "max_connections_per_address = 1\nmax_connections = 5"
    with receiver_daemon.running(tmp_path / "inbox", limited) as receiver, ExitStack() as stack:
        clients = [stack.enter_context(Client(receiver.port)) for _ in range(5)]
        assert all(client.replies[0].startswith("220") for client in clients)
        assert not comes_in("127.0.0.1", receiver), "but not more than there are"
    trusted = 'trusted_gateways = ["127.0.0.2"]\n'
    prelude = f"import benno_smtp.settings; {ANY}"
    limited = f"{trusted}max_connections_per_address = 1"
    with (
        receiver_daemon.running(tmp_path / "inbox", limited, prelude=prelude) as receiver,
        From("127.0.0.2", receiver.port),
        From("127.0.0.3", receiver.port),
    ):
        assert comes_in("127.0.0.2", receiver)
        assert not comes_in("127.0.0.3", receiver)


def test_fewer_descriptors_than_places(tmp_path: Path) -> None:
    """It does not run out of them: some clients are turned away, and those inside send their mail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wrapper = ("prlimit", "--nofile=64:64")
    with (
        receiver_daemon.running(tmp_path / "inbox", wrapper=wrapper) as receiver,
        ExitStack() as stack,
    ):
        assert (
            "max_connections = 1000: only 20 can be served, for there are 64 descriptors; "
            "set LimitNOFILE=2024\n" in receiver.log
        )
        clients = [stack.enter_context(From("127.0.0.1", receiver.port)) for _ in range(25)]
        inside = [client for client in clients if client.replies[0].startswith("220")]
        assert len(inside) == 20
        large = b"x" * 300_000 + b"\r\n"
        for client in inside:  # each has begun a file
            client.command(b"EHLO c")
            assert client.envelope(b"a@b", [b"c@d"]) == []
            assert client.bdat(large).startswith("250")
        for client in inside:
            assert client.bdat(b"", last=True).startswith("250")
        assert "ERROR" not in receiver.log
        assert "Too many open files" not in receiver.log
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def test_two_hundred_slow_clients(tmp_path: Path) -> None:
    """In all phases, and none of them moves: a good one is served as if they were not there."""
    stops = [
        b"",
        b"EHLO slow",
        b"EHLO slow\r\nMAIL FROM:<a@b>\r\n",
        b"EHLO slow\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: slow\r\n",
        b"EHLO slow\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 300000\r\n" + b"x" * 200_000,
    ]
    with receiver_daemon.running(tmp_path / "inbox") as receiver, ExitStack() as stack:
        for number in range(200):
            slow = stack.enter_context(Client(receiver.port, greeting=b""))
            slow.socket.sendall(stops[number % len(stops)])
        longest = 0.0
        with Client(receiver.port) as good:
            for _ in range(100):
                began = time.monotonic()
                assert good.send(b"good@b", [b"c@d"], SMALL).startswith("250")
                longest = max(longest, time.monotonic() - began)
        print(f"the longest of 100 mails took {1000 * longest:.0f} ms")
        assert longest < 5.0
        assert len(receiver.files()) == 100


# Clients that are slow on purpose: a bit in each second, and more often than they would have to.

DRIPS = {
    "a command": (b"", b"E", "command_timeout", "421 4.4.2 Nothing came for too long"),
    "commands": (b"EHLO x\r\n", b"NOOP\r\n", "idle_timeout", "421 4.4.2 No mail came for too long"),
    "content": (
        b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
        b"x",
        "content_timeout and min_rate",
        "421 4.4.2 The mail came too slowly",
    ),
    "a chunk": (
        b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 100000 LAST\r\n",
        b"x",
        "content_timeout and min_rate",
        "421 4.4.2 The mail came too slowly",
    ),
    "a chunk that nobody wants": (
        b"BDAT 100000 LAST\r\n",
        b"x",
        "content_timeout and min_rate",
        "421 4.4.2 The mail came too slowly",
    ),
    "AUTH": (
        b"EHLO x\r\nAUTH LOGIN\r\n",
        b"A",
        "command_timeout",
        "421 4.4.2 Nothing came for too long",
    ),
}
IMPATIENT = "command_timeout = 2\nidle_timeout = 3\ncontent_timeout = 2\n"
AUTH = 'auth_user = "a"\nauth_pass = "b"\nauth_without_tls = true\n'


@pytest.mark.parametrize(("begin", "drop", "setting", "reply"), DRIPS.values(), ids=DRIPS)
def test_drips(tmp_path: Path, begin: bytes, drop: bytes, setting: str, reply: str) -> None:
    """It is told, and the setting is in the log."""
    wanted = IMPATIENT + (AUTH if b"AUTH" in begin else "")
    with receiver_daemon.running(tmp_path / "inbox", wanted) as receiver:
        with Client(receiver.port, timeout=0.2, greeting=b"") as client:
            client.socket.sendall(begin)
            said = b""
            deadline = time.monotonic() + 30
            while b"421 " not in said:
                assert time.monotonic() < deadline, said
                try:
                    client.socket.sendall(drop)
                    said += client.socket.recv(1000)
                except TimeoutError:
                    pass
            assert said.decode().splitlines()[-1] == reply
        line = receiver.wait_for_log(r"\w+: 127.0.0.1: closed, waited for .* too long.*")
        assert line.endswith(f"; see {setting}")
        assert ("in the middle of a mail" in line) == (b"RCPT" in begin)
        assert line.startswith("WARNING" if b"RCPT" in begin else "INFO")
        assert receiver.files() == []


def test_a_slow_honest_mail(tmp_path: Path) -> None:
    """It takes many times as long as any limit, and comes; so do others of its time."""
    wanted = f"{IMPATIENT}min_rate = 250\n"
    message = b"0123456789" * 100
    with receiver_daemon.running(tmp_path / "inbox", wanted) as receiver:
        with Client(receiver.port) as slow, Client(receiver.port) as clock:
            slow.envelope(b"a@b", [b"c@d"])
            slow.command(b"DATA")
            for _ in range(40):
                slow.socket.sendall(message)
                pause(clock, 0.2)
                assert clock.send(b"clock@b", [b"c@d"], SMALL).startswith("250")
            assert slow.raw(b"\r\n.\r\n").startswith("250")
        assert (b"a@b", (b"c@d",), message * 40 + b"\r\n") in receiver.mails()
        assert "closed" not in receiver.log


def test_silence_after_a_mail(tmp_path: Path) -> None:
    """Content has come to its end, and a command is waited for, also between chunks."""
    wanted = "command_timeout = 1"
    mail = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
    with receiver_daemon.running(tmp_path / "inbox", wanted) as receiver:
        for number, content in enumerate(
            (b"DATA\r\nx\r\n.\r\n", b"BDAT 1 LAST\r\nx", b"BDAT 1\r\nx"), 1
        ):
            with Client(receiver.port, greeting=b"") as client:
                client.socket.sendall(mail + content)
                while not client.read().startswith("421 4.4.2 Nothing came for too long"):
                    pass
            line = "closed, waited for a command too long"
            wait_for(lambda: receiver.log.count(line) == number, f"{line!r} in the log")  # noqa: B023
        assert receiver.log.count("in the middle of a mail; see command_timeout") == 1


def test_a_mail_now_and_then(tmp_path: Path) -> None:
    """In all longer than idle_timeout, but between two mails never: it is not hung up on."""
    wanted = "command_timeout = 5\nidle_timeout = 4"
    with (
        receiver_daemon.running(tmp_path / "inbox", wanted) as receiver,
        Client(receiver.port) as client,
        Client(receiver.port) as clock,
    ):
        for _ in range(6):
            assert client.send(b"a@b", [b"c@d"], SMALL).startswith("250")
            pause(clock, 2.0)
            assert clock.send(b"a@b", [b"c@d"], SMALL).startswith("250")
        assert "closed" not in receiver.log


def test_who_stays_when_it_is_hung_up_on(tmp_path: Path) -> None:
    """Its time is up while it should read the last reply: others are watched as before."""
    with receiver_daemon.running(tmp_path / "inbox", IMPATIENT) as receiver:
        with Client(receiver.port) as staying:
            assert staying.raw(b"BDAT\t5\r\n").startswith("501")
            for _ in range(2):
                with Client(receiver.port) as stalled:
                    assert stalled.read() == "421 4.4.2 Nothing came for too long"
            assert staying.hung_up()
        assert "ERROR" not in receiver.log
        assert receiver.log.count("closed, waited") == 2


def test_who_never_reads_the_replies(tmp_path: Path) -> None:
    """It sends commands until all buffers are full: its place is free again."""
    wanted = f"{IMPATIENT}max_connections = 1\n"
    with receiver_daemon.running(tmp_path / "inbox", wanted) as receiver:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", receiver.port))
        client.setblocking(False)
        line, commands, sent = (
            "closed, waited for the replies to be read too long; see",
            b"EHLO c\r\n",
            0,
        )

        def go_on() -> bool:
            nonlocal sent
            with contextlib.suppress(BlockingIOError, ConnectionError):
                sent += client.send((commands * 1000)[sent % len(commands) :])
            return line in receiver.log

        wait_for(go_on, f"{line!r} in the log")
        wait_for(lambda: comes_in("127.0.0.1", receiver), "its place", 60)
        client.close()


def test_replies_that_are_read_slowly(tmp_path: Path) -> None:
    """A client that goes on reading is no stalled one, however many replies there are."""
    with (
        receiver_daemon.running(tmp_path / "inbox", IMPATIENT) as receiver,
        Client(receiver.port) as client,
    ):
        client.socket.sendall(b"NOOP\r\n" * 20_000)
        for _ in range(20_000):
            assert client.read().startswith("250")


def test_a_receiver_that_stood_still(tmp_path: Path) -> None:
    """Stopped for longer than its limits: no client is hung up on for that."""
    with receiver_daemon.running(tmp_path / "inbox", "command_timeout = 4\n") as receiver:
        with Client(receiver.port) as client, Client(receiver.port) as clock:
            clock.socket.settimeout(6.0)
            os.kill(receiver.pid, signal.SIGSTOP)
            with pytest.raises(TimeoutError):
                clock.socket.recv(1)
            os.kill(receiver.pid, signal.SIGCONT)
            assert client.send(b"a@b", [b"c@d"], SMALL).startswith("250")
        assert "closed" not in receiver.log


# Recipients


def test_recipients_of_all_sessions(tmp_path: Path) -> None:
    """Many sessions with very many recipients: at some time one is told to come again, with all of its
    recipients; small mails still come, and so does the large one later."""
    shared = (
        "import benno_smtp.limits; m = benno_smtp.limits.Memory.__init__; m.__defaults__ = (400_000,)"
    )
    many = [b"recipient%d@example.net" % number for number in range(3000)]
    refused = "451 4.3.2 The mails under way have too many recipients; come again later"
    with receiver_daemon.running(tmp_path / "inbox", prelude=shared) as receiver:
        with Client(receiver.port) as first, Client(receiver.port) as second:
            assert first.envelope(b"first@b", many) == []
            said = second.envelope(b"second@b", many)
            assert 0 < len(said) < 3000
            assert set(said) == {refused}
            with Client(receiver.port) as small:
                assert small.send(b"small@b", many[:500], SMALL).startswith("250")
            assert second.command(b"DATA") == refused, "not for a part of its recipients"
            assert second.envelope(b"second@b", many)[-1] == refused
            assert second.bdat(SMALL) == refused
            assert second.bdat(SMALL, last=True).startswith("503")
            second.command(b"RSET")
            assert second.envelope(b"second@b", many)[-1] == refused
            assert second.bdat(SMALL, last=True) == refused
            assert first.bdat(SMALL, last=True).startswith("250")
            assert second.send(b"second@b", many, SMALL).startswith("250")
            assert first.envelope(b"first@b", many) == []
            assert second.envelope(b"second@b", many)[-1] == refused
            first.command(b"RSET")
            assert second.command(b"RCPT TO:<one.more@b>") == refused, "it has to come again anyway"
            second.command(b"RSET")
            for leave in (b"RSET", b"EHLO again", b"QUIT"):
                assert first.envelope(b"first@b", many) == []
                assert first.command(leave)[:3] in {"250", "221"}
            assert second.send(b"second@b", many, SMALL).startswith("250")
        senders = sorted((sender, len(to)) for sender, to, _ in receiver.mails())
        assert senders == [(b"first@b", 3000), *[(b"second@b", 3000)] * 2, (b"small@b", 500)]
        line = 'reason="the memory that all sessions share for recipients is full"'
        assert len(re.findall(re.escape(line), receiver.log)) == 4
    assert limits.OWN_OCTETS > 500 * (64 + 23)
