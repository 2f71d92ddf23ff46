"""Sockets that systemd passes: which are taken, what is still bound, and what is refused."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benno_common import passed
from benno_common.listener import BACKLOG, InetAddress, UnixAddress, parse_address
from benno_common.passed import PassedSocket, missing, take
from benno_common.service import Exit
from passing import inet, unix
from waiting import free_port

CONFIG = 78  # sysexits.h
MOST = 5  # descriptors that a test passes

Address = UnixAddress | InetAddress
Pass = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def first(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Descriptors that are free stand for those from 3 on, which pytest needs itself.

    Those just before are free too, for what a test opens.
    """
    used = set(map(int, os.listdir("/proc/self/fd")))
    number = next(n for n in itertools.count(100) if used.isdisjoint(range(n - 9, n + MOST)))
    monkeypatch.setattr(passed, "FIRST", number)
    yield number
    for each in range(number, number + MOST):
        with contextlib.suppress(OSError):
            os.close(each)


def hand_over(*sockets: socket.socket) -> dict[str, str]:
    """What systemd does: the environment."""
    for number, sock in enumerate(sockets, start=passed.FIRST):
        os.dup2(sock.fileno(), number)
        sock.close()
    return environment(len(sockets))


def environment(count: object) -> dict[str, str]:
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": "x", "A": "b"}


def addresses(*texts: str) -> list[Address]:
    return [parse_address(text) for text in texts]


def told(configured: list[Address], given: dict[str, str]) -> str:
    """What the administrator is told."""
    with pytest.raises(Exit) as caught:
        take(configured, given)
    assert caught.value.code == CONFIG, caught.value.reason
    return caught.value.reason


# Whether there are any


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": ""},
        {"LISTEN_FDS": "x", "LISTEN_PID": "x"},
        {"LISTEN_PID": "ours"},
        {"LISTEN_PID": "ours", "LISTEN_FDS": "0"},
    ],
    ids=str,
)
def test_none(tmp_path: Path, given: dict[str, str]) -> None:
    """Those of a parent are not ours, and no child of ours is to take them for its own."""
    hand_over(unix(tmp_path / "b.sock"))
    environment = {**given, "LISTEN_FDNAMES": "x", "LISTEN_PIDFDID": "7", "A": "b"}
    if given.get("LISTEN_PID") == "ours":
        environment["LISTEN_PID"] = str(os.getpid())
    assert take(addresses("unix:/other"), environment) == []
    assert environment == {"A": "b"}


@pytest.mark.parametrize("count", ["", "x", "-1", " 1", "1.0", "0x1", "²", "1" * 5000])
def test_no_number(count: str) -> None:
    reason = f"LISTEN_FDS={count}: it must be the number of passed sockets"
    assert told(addresses("unix:/b.sock"), environment(count)) == reason


def test_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in hand_over(unix(tmp_path / "b.sock")).items():
        monkeypatch.setenv(name, value)
    (sock,) = take(addresses(f"unix:{tmp_path}/b.sock"))
    assert sock.fileno() == passed.FIRST
    assert not sock.get_inheritable()
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    assert take([]) == []
    sock.close()


# Which are taken


@pytest.mark.parametrize("way", ["{0}/b.sock", "{0}/./b.sock", "b.sock", "{0}/link/b.sock"])
def test_unix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """However the path is written: /var/run is a link to /run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    configured = addresses("unix:" + way.format(tmp_path))
    (sock,) = take(configured, hand_over(unix(tmp_path / "b.sock")))
    with sock:
        assert missing(configured, [sock]) == []
        assert str(sock) == f"unix:{tmp_path}/b.sock"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_inet(host: str) -> None:
    port = free_port()
    configured = addresses(f"inet{'6' * (':' in host)}:{port}@{host}")
    (sock,) = take(configured, hand_over(inet(host, port)))
    with sock:
        assert missing(configured, [sock]) == []
        assert [str(sock)] == [str(one) for one in configured]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_inet_by_name() -> None:
    port = free_port()
    configured = addresses(f"inet:{port}@localhost")
    (sock,) = take(configured, hand_over(inet("127.0.0.1", port)))
    with sock:
        assert missing(configured, [sock]) == []


@pytest.fixture
def port() -> int:
    return free_port()


WILDCARDS = {
    "one for both": (["inet:{}"], [("::", True)], [], ["inet:{}"]),
    "one for both, configured as two": (
        ["inet:{}@0.0.0.0", "inet6:{}"],
        [("::", True)],
        [],
        ["inet:{}"],
    ),
    "two": (["inet:{}"], [("::", False), ("0.0.0.0", False)], [], ["inet6:{}", "inet:{}@0.0.0.0"]),
    "IPv4 alone": (["inet:{}"], [("0.0.0.0", False)], ["inet6:{}@::"], ["inet:{}@0.0.0.0"]),
    "IPv6 alone": (["inet:{}"], [("::", False)], ["inet:{}@0.0.0.0"], ["inet6:{}"]),
    "IPv6 is all that is configured": (["inet6:{}"], [("::", False)], [], ["inet6:{}"]),
    "another address too": (
        ["inet:{}@127.0.0.1", "inet6:{}@::1"],
        [("127.0.0.1", False)],
        ["inet6:{}@::1"],
        ["inet:{}@127.0.0.1"],
    ),
}


@pytest.mark.parametrize(("configured", "given", "ours", "shown"), WILDCARDS.values(), ids=WILDCARDS)
def test_all_addresses(
    port: int,
    configured: list[str],
    given: list[tuple[str, bool]],
    ours: list[str],
    shown: list[str],
) -> None:
    """systemd's ListenStream=PORT is one socket for IPv4 and IPv6; what is not passed is for us."""
    wanted = addresses(*(one.format(port) for one in configured))
    sockets = take(wanted, hand_over(*(inet(host, port, both=both) for host, both in given)))
    with contextlib.ExitStack() as stack:
        for sock in sockets:
            stack.enter_context(sock)
        assert [str(sock) for sock in sockets] == [one.format(port) for one in shown]
        left = missing(wanted, sockets)
        assert [str(one) for one in left] == [one.format(port) for one in ours]


def test_without_ipv6(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd makes a socket of IPv4 then, and it is all there is."""
    sockets = take(addresses(f"inet:{port}"), hand_over(inet("0.0.0.0", port)))
    monkeypatch.setattr("benno_common.listener._has", lambda family: family == socket.AF_INET)
    with sockets[0]:
        assert missing(addresses(f"inet:{port}"), sockets) == []


def test_nothing_was_passed() -> None:
    """Then no name is looked up twice."""
    configured = addresses("unix:/b.sock", "inet:0", "inet:25@no.such.host.invalid")
    assert missing(configured, []) == configured


# Which are refused


REFUSED = {
    "another path": (["unix:{0}/c.sock"], lambda path, _: unix(path / "b.sock"), "unix:{0}/b.sock"),
    "none of TCP": (["inet:25@127.0.0.1"], lambda path, _: unix(path / "b.sock"), "unix:{0}/b.sock"),
    "an abstract one": (["unix:@b"], lambda path, _: unix(Path(f"\0{path}")), "unix:@{0}"),
    "another port": (
        ["inet:1@127.0.0.1"],
        lambda _, p: inet("127.0.0.1", p),
        "inet:{1}@127.0.0.1",
    ),
    "another address": (
        ["inet:{1}@::1"],
        lambda _, p: inet("127.0.0.1", p),
        "inet:{1}@127.0.0.1",
    ),
    "any port": (["inet:0@127.0.0.1"], lambda _, p: inet("127.0.0.1", p), "inet:{1}@127.0.0.1"),
    "all addresses": (
        ["inet:{1}@127.0.0.1"],
        lambda _, p: inet("0.0.0.0", p),
        "inet:{1}@0.0.0.0",
    ),
    "less than all": (["inet:{1}"], lambda _, p: inet("127.0.0.1", p), "inet:{1}@127.0.0.1"),
    "IPv4 too": (["inet6:{1}"], lambda _, p: inet("::", p, both=True), "inet:{1}"),
    "IPv6 too": (["inet:{1}@0.0.0.0"], lambda _, p: inet("::", p, both=True), "inet:{1}"),
}


@pytest.mark.parametrize(("configured", "make", "shown"), REFUSED.values(), ids=REFUSED)
def test_not_what_is_configured(
    tmp_path: Path,
    port: int,
    configured: list[str],
    make: Callable[[Path, int], socket.socket],
    shown: str,
) -> None:
    texts = [
        text.format(tmp_path, port).replace(f"inet:{port}@::1", f"inet6:{port}@::1")
        for text in configured
    ]
    reason = told(addresses(*texts), hand_over(make(tmp_path, port)))
    said = (
        f"passed socket {shown.format(tmp_path, port)} is not what is configured, {texts[0]}; change "
    )
    assert reason.startswith(said)
    assert reason.endswith(
        "that, or ListenStream= (for IPv6 alone also BindIPv6Only=) of the .socket unit"
    )


def test_one_of_two_is_not_configured(tmp_path: Path) -> None:
    given = hand_over(unix(tmp_path / "a.sock"), unix(tmp_path / "b.sock"))
    reason = told(addresses(f"unix:{tmp_path}/a.sock"), given)
    assert f"passed socket unix:{tmp_path}/b.sock is not what is configured" in reason


def connected() -> socket.socket:
    """With Accept=yes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname())


def datagrams() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def not_listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def netlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)


@pytest.mark.parametrize("make", [connected, datagrams, not_listening, netlink])
def test_does_not_listen(make: Callable[[], socket.socket]) -> None:
    sock = make()
    where = sock.getsockname()
    assert told(addresses("inet:1"), hand_over(sock)) == (
        f"passed descriptor {passed.FIRST}, at {where!r}, does not listen; "
        "write ListenStream= and Accept=no into the .socket unit"
    )
    os.fstat(passed.FIRST)  # it stays open: it may be the log's


def test_no_socket(tmp_path: Path) -> None:
    given = hand_over(unix(tmp_path / "b.sock"))
    configured = addresses(f"unix:{tmp_path}/b.sock")
    assert told(configured, {**given, "LISTEN_FDS": "2"}).startswith(
        f"passed descriptor {passed.FIRST + 1} is no socket: Bad file descriptor; write ListenStream="
    )
    with (tmp_path / "file").open("wb") as file:
        os.dup2(file.fileno(), passed.FIRST)
    assert told(configured, given).startswith(
        f"passed descriptor {passed.FIRST} is no socket: Socket operation"
    )


# What it is like


def test_its_queue_stays_as_long(tmp_path: Path) -> None:
    """asyncio makes one as long as what is accepted in a turn."""
    with unix(tmp_path / "b.sock") as sock:
        sock.listen(5)
        (taken,) = take(addresses(f"unix:{tmp_path}/b.sock"), hand_over(sock))
    with taken, contextlib.ExitStack() as waiting:
        taken.listen(1)
        taken.listen(BACKLOG)
        for _ in range(6):
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect(f"{tmp_path}/b.sock")
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(BlockingIOError):
            client.setblocking(False)
            client.connect(f"{tmp_path}/b.sock")


def test_what_it_accepts_is_a_plain_socket(tmp_path: Path) -> None:
    (taken,) = take(addresses(f"unix:{tmp_path}/b.sock"), hand_over(unix(tmp_path / "b.sock")))
    with taken, socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/b.sock")
        peer, _ = taken.accept()
        with peer:
            assert not isinstance(peer, PassedSocket)
