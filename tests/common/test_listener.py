"""The socket that a daemon listens on: how it is written, and what may lie there already.

Nothing but a socket that nobody answers is ever removed from its path, and no client gets in before the
mode is right.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - getaddrinfo needs it, and a test as another user may not read it
import errno
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benno_common import listener
from benno_common.listener import (
    InetAddress,
    UnixAddress,
    check_address,
    listen,
    listening,
    parse_address,
)
from benno_common.service import Exit
from unprivileged import public_directory
from waiting import free_port

UNAVAILABLE, NOPERM, CONFIG = 69, 77, 78  # sysexits.h
FORMS = "unix:PATH, local:PATH, inet:PORT@HOST or inet6:PORT@HOST"
NOBODY = 65534

Address = UnixAddress | InetAddress


def refusal(code: int, function: Any, *arguments: object) -> str:
    """What the administrator is told when a function ends the program with this exit code."""
    with pytest.raises(Exit) as caught:
        function(*arguments)
    assert caught.value.code == code, caught.value.reason
    return caught.value.reason


def connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def answers(*address: Any) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as client:
        return client.connect_ex(address) == 0


def make_stale(path: Path) -> None:
    """A socket as a killed process leaves it."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()


def identity(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_mtime_ns


def close(listeners: list[socket.socket]) -> None:
    for each in listeners:
        each.close()


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As a user who is not root."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that others can look into but not write to."""
    with public_directory() as path:
        yield path


@pytest.fixture(scope="module")
def ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")


# How it is written


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("unix:/run/b.sock", UnixAddress("/run/b.sock"), "unix:/run/b.sock"),
        ("local:/run/b.sock", UnixAddress("/run/b.sock"), "unix:/run/b.sock"),
        ("unix:b.sock", UnixAddress("b.sock"), "unix:b.sock"),
        ("unix:/a b:c@d", UnixAddress("/a b:c@d"), "unix:/a b:c@d"),
        ("unix:" + "x" * 107, UnixAddress("x" * 107), "unix:" + "x" * 107),
        ("inet:25@192.0.2.1", InetAddress("192.0.2.1", 25, socket.AF_INET), "inet:25@192.0.2.1"),
        ("inet:25@mail.example.org", InetAddress("mail.example.org", 25, socket.AF_INET), None),
        ("inet:22500", InetAddress(None, 22500, socket.AF_UNSPEC), "inet:22500"),
        ("inet:0", InetAddress(None, 0, socket.AF_UNSPEC), "inet:0"),
        ("inet:65535@h", InetAddress("h", 65535, socket.AF_INET), "inet:65535@h"),
        ("inet:025@h", None, None),
        ("inet6:25@::1", InetAddress("::1", 25, socket.AF_INET6), "inet6:25@::1"),
        ("inet6:25@[::1]", InetAddress("::1", 25, socket.AF_INET6), "inet6:25@::1"),
        ("inet6:25@fe80::1%eth0", InetAddress("fe80::1%eth0", 25, socket.AF_INET6), None),
        ("inet6:25@localhost", InetAddress("localhost", 25, socket.AF_INET6), "inet6:25@localhost"),
        ("inet6:25", InetAddress(None, 25, socket.AF_INET6), "inet6:25"),
    ],
)
def test_address(text: str, address: Address | None, shown: str | None) -> None:
    """What the log shows can be given with -p again."""
    parsed = parse_address(text)
    if address is not None:
        assert parsed == address
    assert str(parsed) == (shown or text).replace(":025", ":25")
    assert parse_address(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("inet:127.0.0.1:22500", "write inet:22500@127.0.0.1"),
        ("inet:mail.example.org:22500", "write inet:22500@mail.example.org"),
        ("inet6:[::1]:22500", "write inet6:22500@::1"),
        ("inet6:::1:22500", "write inet6:22500@::1"),
        ("inet6:localhost:22500", "write inet6:22500@localhost"),
        ("inet:[::1]:22500", "write inet6:22500@::1"),
        ("inet:22500@::1", "write inet6:22500@::1"),
        ("inet:22500@[::1]", "write inet6:22500@::1"),
        ("inet6:25@[::1", "write inet6:25@::1"),
        ("inet:70000@127.0.0.1", "a port is 65535 at the most"),
        ("inet:127.0.0.1:70000", "a port is 65535 at the most"),
        ("inet:65536", "a port is 65535 at the most"),
        ("inet6:999999999@::1", "a port is 65535 at the most"),
        ("unix:/" + "x" * 107, "a path has 107 octets at the most"),
        ("unix:/" + "ü" * 54, "a path has 107 octets at the most"),
    ],
)
def test_what_to_write_instead(text: str, told: str) -> None:
    assert refusal(CONFIG, parse_address, text) == f"socket {text}: {told}"


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "/run/b.sock", "b.sock", "22500", "localhost:22500"),
        *("unix", "unix:", "local:", "UNIX:/run/b.sock", "fifo:/run/b", "tcp:25@h"),
        *("inet", "inet:", "inet:@", "inet:@127.0.0.1", "inet:25@", "inet:h", "inet::25", "inet:25:"),
        *("inet:x@h", "inet:-1@h", "inet:+25@h", "inet: 25@h", "inet:2_5@h", "inet:0x19@h"),
        *("inet:25.0@h", "inet:²@h", "inet:٢٥@h", "inet:h:٢٥", "inet:25@h@i", "inet:h:x"),
        *("inet:smtp@h", "inet:h:smtp", "inet:" + "9" * 5000, "inet6:"),
    ],
)
def test_no_address(text: str) -> None:
    assert refusal(CONFIG, parse_address, text) == f"socket {text!r} is none of {FORMS}"


# A Unix socket


@pytest.mark.parametrize("kind", ["unix", "local"])
def test_unix(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "b.sock"
    with listening(parse_address(f"{kind}:{path}"), 0o660) as (sock,):
        connect(path)
        peer, _ = sock.accept()
        peer.close()
    assert not path.exists()


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with listening(UnixAddress("b.sock"), 0o660):
        connect(tmp_path / "b.sock")
    check_address(UnixAddress("b.sock"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_mode_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "b.sock"
    before = os.umask(umask)
    try:
        for mode in (0o660, 0o600, 0o666, 0o777, 0o000):
            with listening(UnixAddress(str(path)), mode):
                assert stat.S_IMODE(path.lstat().st_mode) == mode
    finally:
        assert os.umask(before) == umask


def test_mode_is_never_wider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each step of the start, from bind() on."""
    path, seen, before = tmp_path / "b.sock", [], os.umask(0)

    class Watched(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            seen.append(("bind", stat.S_IMODE(path.lstat().st_mode)))

        def listen(self, backlog: int = 0) -> None:
            seen.append(("listen", stat.S_IMODE(path.lstat().st_mode)))
            super().listen(backlog)

    monkeypatch.setattr(socket, "socket", Watched)
    try:
        close(listen(UnixAddress(str(path)), 0o640))
    finally:
        os.umask(before)
    assert seen == [("bind", 0), ("listen", 0o640)]


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    make_stale(path)
    left = identity(path)
    with listening(UnixAddress(str(path)), 0o660):
        assert identity(path) != left
        connect(path)
    assert not path.exists()


def test_socket_that_answers_is_left(tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    with listening(UnixAddress(str(path)), 0o660):
        first, told = identity(path), f"socket {path}: another instance answers there"
        assert refusal(UNAVAILABLE, listen, UnixAddress(str(path)), 0o660) == told
        assert refusal(UNAVAILABLE, check_address, UnixAddress(str(path))) == told
        assert identity(path) == first
        connect(path)


def test_socket_that_is_too_busy_to_answer_is_left(tmp_path: Path) -> None:
    """Its queue is full, and nobody accepts."""
    path = tmp_path / "b.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        told = refusal(UNAVAILABLE, listen, UnixAddress(str(path)), 0o660)
        assert told == f"socket {path}: another instance answers there"
        assert path.is_socket()


def make_link_to_file(path: Path) -> None:
    path.with_name("file").touch()
    path.symlink_to("file")


def make_link_to_stale(path: Path) -> None:
    make_stale(path.with_name("stale"))
    path.symlink_to("stale")


SOMETHING: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_text("mine"),
    "empty file": Path.touch,
    "directory": Path.mkdir,
    "FIFO": os.mkfifo,
    "link to a file": make_link_to_file,
    "link to a stale socket": make_link_to_stale,
    "dangling link": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("make", SOMETHING.values(), ids=SOMETHING)
def test_something_else_is_never_removed(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "b.sock"
    make(path)
    before, names = identity(path), sorted(tmp_path.iterdir())
    told = f"socket {path}: there is something that is no socket; remove it"
    assert refusal(CONFIG, listen, UnixAddress(str(path)), 0o660) == told
    assert refusal(CONFIG, check_address, UnixAddress(str(path))) == told
    assert identity(path) == before
    assert sorted(tmp_path.iterdir()) == names


def test_socket_of_another_kind_is_never_removed(tmp_path: Path) -> None:
    """A syslog daemon's, say: stale or not, it is not ours."""
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        before = identity(path)
        told = refusal(NOPERM, listen, UnixAddress(str(path)), 0o660)
        assert told == f"socket {path}: Protocol wrong type for socket"
        assert identity(path) == before


@pytest.mark.parametrize(
    ("directory", "reason"), [("missing", "No such file or directory"), ("file", "Not a directory")]
)
def test_no_directory(tmp_path: Path, directory: str, reason: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / directory / "b.sock"
    told = refusal(NOPERM, listen, UnixAddress(str(path)), 0o660)
    assert told == f"socket {path}: {reason}"
    told = refusal(NOPERM, check_address, UnixAddress(str(path)))
    assert told.startswith(f"socket {path}: ")


def test_directory_is_not_writable(public: Path) -> None:
    path = public / "b.sock"
    public.chmod(0o555)
    with unprivileged():
        told = refusal(NOPERM, listen, UnixAddress(str(path)), 0o660)
        assert told == f"socket {path}: Permission denied"
        told = refusal(NOPERM, check_address, UnixAddress(str(path)))
        assert told == f"socket {path}: {public} does not exist or is not writable"
    assert not list(public.iterdir())


def test_stale_socket_in_a_directory_that_is_not_writable(public: Path) -> None:
    path = public / "b.sock"
    make_stale(path)
    path.chmod(0o666)
    public.chmod(0o555)
    with unprivileged():
        told = refusal(NOPERM, listen, UnixAddress(str(path)), 0o660)
        assert told == f"socket {path}: Permission denied"
    assert path.is_socket()


def test_socket_that_may_not_be_asked(public: Path) -> None:
    """Whether somebody answers cannot be found out, so it is left."""
    if os.getuid() != 0:
        pytest.skip("needs root: a socket of another user")
    path = public / "b.sock"
    make_stale(path)
    path.chmod(0o600)
    public.chmod(0o777)
    with unprivileged():
        told = refusal(NOPERM, listen, UnixAddress(str(path)), 0o660)
        assert told == f"socket {path}: Permission denied"
    assert path.is_socket()


def test_another_one_was_quicker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our look at the path and our bind()."""
    path = tmp_path / "b.sock"
    with socket.socket(socket.AF_UNIX) as other:
        monkeypatch.setattr(listener, "_examine_unix", lambda _: other.bind(str(path)))
        told = refusal(UNAVAILABLE, listen, UnixAddress(str(path)), 0o660)
    assert told == f"socket {path}: Address already in use"
    assert path.is_socket()


def test_two_start_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both would find the stale socket, and the second remove that of the first."""
    path = tmp_path / "b.sock"
    make_stale(path)
    both = threading.Barrier(2)
    examine = listener._examine_unix

    def examine_together(path: str) -> bool:
        stale = examine(path)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)
        return stale

    monkeypatch.setattr(listener, "_examine_unix", examine_together)

    def start() -> str:
        try:
            sockets.extend(listen(UnixAddress(str(path)), 0o660))
        except Exit as error:
            return error.reason
        return "listens"

    sockets: list[socket.socket] = []
    with ThreadPoolExecutor(2) as threads:
        outcomes = sorted(future.result() for future in [threads.submit(start) for _ in range(2)])
    connect(path)
    for sock in sockets:
        sock.close()
    assert outcomes == ["listens", f"socket {path}: another instance answers there"]


# At the end


def test_what_took_our_place_is_left(tmp_path: Path) -> None:
    """Another instance replaced the socket while this one ended."""
    path = tmp_path / "b.sock"
    second = contextlib.ExitStack()
    with listening(UnixAddress(str(path)), 0o660):
        path.unlink()
        second.enter_context(listening(UnixAddress(str(path)), 0o660))
    with second:
        connect(path)
    assert not path.exists()


def test_a_file_in_our_place_is_left(tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    with listening(UnixAddress(str(path)), 0o660):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"


def test_our_socket_is_gone_already(tmp_path: Path) -> None:
    with listening(UnixAddress(str(tmp_path / "b.sock")), 0o660):
        (tmp_path / "b.sock").unlink()


def test_removed_whatever_ends_the_program(tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    with pytest.raises(Exit), listening(UnixAddress(str(path)), 0o660):
        raise Exit(73, "no PID file")
    assert not path.exists()


# TCP


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def test_inet() -> None:
    with listening(parse_address("inet:0@127.0.0.1"), 0) as (sock,):
        port = port_of(sock)
        assert answers("127.0.0.1", port)
        assert not answers("127.0.0.2", port)
    assert not answers("127.0.0.1", port)


def test_inet_by_name() -> None:
    with listening(parse_address("inet:0@localhost"), 0) as (sock,):
        assert answers("127.0.0.1", port_of(sock))


def test_inet_to_all_addresses(ipv6: None) -> None:
    """Of both families, with a socket for each, so that no address is an IPv4-mapped one."""
    port = free_port()
    with listening(parse_address(f"inet:{port}"), 0) as listeners:
        assert {sock.family for sock in listeners} == {socket.AF_INET, socket.AF_INET6}
        assert answers("127.0.0.1", port)
        assert answers("127.0.0.2", port)
        assert answers("::1", port)


def test_inet_to_all_addresses_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel was started without it: what there is serves."""

    class OnlyIPv4(socket.socket):
        def __init__(self, family: int = -1, *arguments: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *arguments)

    monkeypatch.setattr(socket, "socket", OnlyIPv4)
    with listening(parse_address("inet:0"), 0) as (sock,):
        assert sock.family == socket.AF_INET
    told = refusal(CONFIG, listen, parse_address("inet6:0@::1"), 0)
    assert told == "socket inet6:0@::1: no such address on this machine"


def test_inet_where_no_socket_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", fail)
    told = refusal(os.EX_NOPERM, listen, parse_address("inet:0@127.0.0.1"), 0)
    assert told == "socket inet:0@127.0.0.1: Permission denied"


@pytest.mark.parametrize("text", ["inet6:0@::1", "inet6:0@[::1]"])
def test_inet6(ipv6: None, text: str) -> None:
    with listening(parse_address(text), 0) as (sock,):
        assert answers("::1", port_of(sock))
        assert not answers("127.0.0.1", port_of(sock))


def test_inet6_to_all_addresses_is_no_ipv4(ipv6: None) -> None:
    with listening(parse_address("inet6:0"), 0) as (sock,):
        assert answers("::1", port_of(sock))
        assert not answers("127.0.0.1", port_of(sock))


def test_port_is_taken() -> None:
    with listening(parse_address("inet:0@127.0.0.1"), 0) as (sock,):
        address = parse_address(f"inet:{port_of(sock)}@127.0.0.1")
        told = f"socket {address}: Address already in use"
        assert refusal(UNAVAILABLE, listen, address, 0) == told
        assert refusal(UNAVAILABLE, check_address, address) == told
        assert answers("127.0.0.1", port_of(sock))


def test_port_is_taken_in_one_family(ipv6: None) -> None:
    """Then there is no daemon that serves half of the clients."""
    with listening(parse_address("inet6:0@::1"), 0) as (sock,):
        address = parse_address(f"inet:{port_of(sock)}")
        assert refusal(UNAVAILABLE, listen, address, 0).endswith("Address already in use")
        assert not answers("127.0.0.1", port_of(sock))


def test_port_is_free_at_once_after_a_restart() -> None:
    """Connections of the ended instance are still in TIME_WAIT."""
    with listening(parse_address("inet:0@127.0.0.1"), 0) as (sock,):
        address = parse_address(f"inet:{port_of(sock)}@127.0.0.1")
        with socket.create_connection(sock.getsockname()) as client:
            peer, _ = sock.accept()
            peer.close()
            assert client.recv(1) == b""
    close(listen(address, 0))


def test_name_that_stands_twice_in_etc_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", free_port()))] * 2
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    with listening(parse_address("inet:1@localhost"), 0) as (sock,):
        assert answers(*found[0][4]), sock


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("inet:0@192.0.2.1", "Cannot assign requested address"),
        ("inet:0@a..b", "no host has such a name"),
        ("inet:0@" + "a" * 64, "no host has such a name"),
    ],
)
def test_no_such_host(text: str, reason: str) -> None:
    address = parse_address(text)
    assert refusal(CONFIG, listen, address, 0) == f"socket {text}: {reason}"
    assert refusal(CONFIG, check_address, address) == f"socket {text}: {reason}"


@pytest.mark.parametrize("text", ["inet:0@*", "inet:0@name.invalid", "inet6:0@127.0.0.1"])
def test_host_that_is_not_found(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def fail(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    told = refusal(CONFIG, listen, parse_address(text), 0)
    assert told == f"socket {text}: Name or service not known"


def test_port_for_root_only() -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 26:
        pytest.skip("any user may listen on port 25 here")
    with unprivileged():
        told = refusal(NOPERM, listen, parse_address("inet:25@127.0.0.1"), 0)
    assert told == "socket inet:25@127.0.0.1: Permission denied"


# --check


def test_check_leaves_nothing(tmp_path: Path) -> None:
    check_address(UnixAddress(str(tmp_path / "b.sock")))
    assert not list(tmp_path.iterdir())
    port = free_port()
    check_address(parse_address(f"inet:{port}@127.0.0.1"))
    assert not answers("127.0.0.1", port)


def test_check_leaves_a_stale_socket(tmp_path: Path) -> None:
    """The start would replace it."""
    path = tmp_path / "b.sock"
    make_stale(path)
    before = identity(path)
    check_address(UnixAddress(str(path)))
    assert identity(path) == before


def test_check_closes_what_it_opens(tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    make_stale(path)
    before = os.listdir("/proc/self/fd")
    for address in (UnixAddress(str(path)), parse_address("inet:0@127.0.0.1")):
        check_address(address)
    assert os.listdir("/proc/self/fd") == before
