"""Several processes of a daemon on one socket that was passed to them, and one that is restarted."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import daemon
import passing
import receiver_daemon
from benno_common.identity import is_marked
from daemons import EACH, RECEIVER, Kind
from load import Story, send
from smtp import Client
from waiting import wait_for

pytestmark = pytest.mark.slow

CLIENTS = 16


@EACH
def test_one_after_the_other_ends(kind: Kind, tmp_path: Path) -> None:
    """All the time a process is there for new connections: no mail is lost, doubled or refused."""
    story, files = Story(), tmp_path / "files"
    with ExitStack() as stack:
        sock = stack.enter_context(kind.listen(tmp_path / "socket"))
        one, two = (stack.enter_context(kind.start_on(sock, files, name)) for name in ("one", "two"))
        with kind.load(two, story, clients=CLIENTS, seed=1):
            wait_for(lambda: len(story.accepted) > 100, "both serve")
            assert one.stop() == 0
            seen_to_store(two, story)
            three = stack.enter_context(kind.start_on(sock, files, "three"))
            assert two.stop() == 0
            seen_to_store(three, story)
        assert three.stop() == 0
        assert kind is RECEIVER or (tmp_path / "socket").is_socket()
    assert "passed=1" in three.log
    assert story.faults(two.files()) == []
    assert len(two.files()) == len({story.judge(path)[0] for path in two.files()})
    assert sum("ERROR" in each.log for each in (one, two, three)) == 0
    told = sum(count for reply, count in story.replies.items() if reply != "accepted")
    assert story.torn_off + told <= 2 * CLIENTS, story.replies  # each once, when its process ended
    assert not [reply for reply in story.replies if not re.match("accepted|421 4.3.2", reply)]


def seen_to_store(running: daemon.Daemon, story: Story) -> None:
    before = len(story.accepted)
    wait_for(lambda: len(story.accepted) > before + 50, "mail flows")
    running.wait_for_log("stored file=.* answered=yes")


@EACH
def test_while_none_is_there_connections_wait(kind: Kind, tmp_path: Path) -> None:
    story, files = Story(), tmp_path / "files"
    with kind.listen(tmp_path / "socket") as sock, ThreadPoolExecutor() as clients:
        with kind.start_on(sock, files, "before") as before:
            assert before.stop() == 0
        waiting = [clients.submit(kind.send, before, story) for _ in range(3)]
        with kind.start_on(sock, files, "after") as after:
            assert [each.result(30) for each in waiting] == ["accepted"] * 3
            assert story.faults(after.files()) == []


def test_each_process_of_a_receiver_has_its_mark(tmp_path: Path) -> None:
    """By which a forwarder sees that it would send a spool into itself."""
    with (
        RECEIVER.listen(tmp_path) as sock,
        RECEIVER.start_on(sock, tmp_path / "files", "one") as one,
        RECEIVER.start_on(sock, tmp_path / "files", "two") as two,
        opened(tmp_path / "files") as directory,
    ):
        assert isinstance(one, receiver_daemon.Receiver)
        seen = [identity(one.port) for _ in range(20)]
        assert all(is_marked(directory, each) for each in seen)
        assert one.stop() == 0
        assert is_marked(directory, identity(one.port))
        assert two.stop() == 0


@contextmanager
def opened(directory: Path) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def identity(port: int) -> str:
    with Client(port) as client:
        (found,) = re.findall(r"XBENNODIR (\S+)", " ".join(client.replies))
    return str(found)


# A socket of IPv6 that takes IPv4 too


@pytest.fixture
def both() -> Iterator[socket.socket]:
    try:
        with passing.inet("::", both=True) as sock:
            yield sock
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_receiver_on_both_families(tmp_path: Path, both: socket.socket) -> None:
    """A client over IPv4 is known by the address that the configuration has."""
    port = both.getsockname()[1]
    settings = f'listen = []\nport = {port}\nallowed_networks = ["127.0.0.0/8"]\n'
    settings += 'gateways = { "127.0.0.1" = "gw1" }'
    with receiver_daemon.running(tmp_path / "inbox", settings, passed=[both]) as receiver:
        with Client(port) as client:
            assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")
        receiver.wait_for_log(r"stored file=\S+ client=127.0.0.1 ")
        assert b"X-BENNO-GW: gw1" in receiver.files()[0].read_bytes()
        with Client(port, host="::1", greeting=b"") as client:
            assert client.replies[0].startswith("554 5.7.1")


def test_milter_on_both_families(tmp_path: Path, both: socket.socket) -> None:
    address = f"inet:{both.getsockname()[1]}"
    with daemon.running(tmp_path / "spool", socket=address, passed=[both]) as milter:
        assert send(milter.address) == "accepted"
    options = ("--allow", "192.0.2.1", "::1")
    with daemon.running(tmp_path / "spool", *options, socket=address, passed=[both]) as milter:
        with pytest.raises((EOFError, OSError)):
            send(milter.address)
        milter.wait_for_log(
            "connect from 127.0.0.1 refused: .* --allow 192.0.2.1/32 ::1/128 127.0.0.1\n"
        )


# The start


def attempt(sock: socket.socket | None, *arguments: str) -> tuple[int, str]:
    """Start a milter that ends by itself: exit code, and what it says."""
    passed = [sock] if sock else []
    command = [*passing.wrapper(passed), *daemon.COMMAND, "--log", "stderr", *arguments]
    done = subprocess.run(
        command,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
        pass_fds=passing.descriptors(passed),
    )
    return done.returncode, done.stderr


def test_a_socket_that_is_not_configured(tmp_path: Path) -> None:
    with passing.unix(tmp_path / "b.sock") as sock:
        code, said = attempt(sock, "-p", f"unix:{tmp_path}/c.sock", "-o", str(tmp_path))
    assert code == os.EX_CONFIG
    assert (
        f"passed socket unix:{tmp_path}/b.sock is not what is configured, unix:{tmp_path}/c.sock"
        in said
    )
    assert sorted(os.listdir(tmp_path)) == ["b.sock"]


def test_check(tmp_path: Path) -> None:
    """It has nothing against a socket that was passed."""
    with passing.unix(tmp_path / "b.sock") as sock:
        arguments = ("--check", "-p", f"unix:{tmp_path}/b.sock", "-o", str(tmp_path), "--min-free", "0")
        assert attempt(sock, *arguments)[0] == 0
        code, said = attempt(None, *arguments)
        assert code == os.EX_UNAVAILABLE
        assert "another instance answers there" in said


def test_mode_of_a_passed_socket_is_not_ours(tmp_path: Path) -> None:
    with passing.unix(tmp_path / "b.sock") as sock:
        (tmp_path / "b.sock").chmod(0o604)
        address = f"unix:{tmp_path}/b.sock"
        with daemon.running(tmp_path / "spool", "-m", "666", socket=address, passed=[sock]) as milter:
            assert (tmp_path / "b.sock").stat().st_mode & 0o777 == 0o604
            assert milter.stop() == 0
        assert (tmp_path / "b.sock").is_socket()
