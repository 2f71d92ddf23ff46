"""The socket that a daemon listens on: `unix:PATH`, `local:PATH`, `inet:PORT@HOST`, `inet6:PORT@HOST`.

A Unix socket that a killed process left is replaced, but only if it is a socket and nobody answers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benno_common.service import Exit

BACKLOG = 1024

Place = tuple[Any, ...]  # family, and what a socket is bound to

_PORT_AND_HOST = re.compile(r"(?P<port>[0-9]{1,9})(?:@(?P<host>[^@]+))?")
_HOST_AND_PORT = re.compile(r"(?P<host>[^@]+):(?P<port>[0-9]{1,9})")  # as Postfix writes it


@dataclass(frozen=True)
class UnixAddress:
    """A Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True)
class InetAddress:
    """A TCP socket. host: None for all addresses. family: AF_UNSPEC for IPv4 and IPv6."""

    host: str | None
    port: int
    family: socket.AddressFamily

    def __str__(self) -> str:
        kind = "inet6" if self.family == socket.AF_INET6 else "inet"
        return f"{kind}:{self.port}@{self.host}" if self.host else f"{kind}:{self.port}"


def parse_address(text: str) -> UnixAddress | InetAddress:
    """`unix:PATH`, `local:PATH`, `inet:PORT[@HOST]`, `inet6:PORT[@HOST]`. Raises Exit."""
    kind, _, rest = text.partition(":")
    if kind in {"unix", "local"} and rest:
        if len(os.fsencode(rest)) > 107:  # sockaddr_un, unix(7)
            raise Exit(os.EX_CONFIG, f"socket {text}: a path has 107 octets at the most")
        return UnixAddress(rest)
    parts = _PORT_AND_HOST.fullmatch(rest) or _HOST_AND_PORT.fullmatch(rest)
    if kind not in {"inet", "inet6"} or not parts:
        forms = "unix:PATH, local:PATH, inet:PORT@HOST or inet6:PORT@HOST"
        raise Exit(os.EX_CONFIG, f"socket {text!r} is none of {forms}")
    return _inet_address(text, kind, parts["port"], parts["host"])


def _inet_address(text: str, kind: str, port: str, host: str | None) -> InetAddress:
    if int(port) > 65535:
        raise Exit(os.EX_CONFIG, f"socket {text}: a port is 65535 at the most")
    if host is None:
        return InetAddress(None, int(port), socket.AF_INET6 if kind == "inet6" else socket.AF_UNSPEC)
    kind = "inet6" if ":" in host else kind
    host = host.strip("[]")
    if text not in {f"{kind}:{port}@{host}", f"{kind}:{port}@[{host}]"}:
        raise Exit(os.EX_CONFIG, f"socket {text}: write {kind}:{port}@{host}")
    return InetAddress(host, int(port), socket.AF_INET6 if kind == "inet6" else socket.AF_INET)


def places(address: UnixAddress | InetAddress) -> list[Place]:
    """All that an address means. Raises Exit."""
    if isinstance(address, UnixAddress):
        return [path_place(address.path)]
    return [(family, *where) for family, _, _, _, where in _resolve(address)]


def path_place(path: str) -> Place:
    """That of a Unix socket, however its path is written; one without a file begins with NUL."""
    return socket.AF_UNIX, path if path.startswith("\0") else os.path.realpath(path)


def listen(address: UnixAddress | InetAddress, mode: int) -> list[socket.socket]:
    """Listening sockets; a Unix socket gets `mode`. A stale one is replaced. Raises Exit."""
    if isinstance(address, UnixAddress):
        return [_listen_unix(address.path, mode)]
    return _listen_inet(address)


def check_address(address: UnixAddress | InetAddress) -> None:
    """All that listen() does, but nothing stays behind. Raises Exit."""
    if isinstance(address, InetAddress):
        for listener in _listen_inet(address):
            listener.close()
        return
    _examine_unix(address.path)
    directory = os.path.dirname(os.path.abspath(address.path))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise Exit(
            os.EX_NOPERM, f"socket {address.path}: {directory} does not exist or is not writable"
        )


def _listen_unix(path: str, mode: int) -> socket.socket:
    with _alone(path):
        return _bind_unix(path, mode)


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """Lock the directory, where it can be: of two that start at once one finds a stale socket."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, directory)
            fcntl.flock(directory, fcntl.LOCK_EX)
        yield


def _bind_unix(path: str, mode: int) -> socket.socket:
    stale = _examine_unix(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o777)  # nobody connects before the mode is right
    try:
        if stale:
            os.unlink(path)
        listener.bind(path)
        os.chmod(path, mode)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE  # another one was quicker
        code = os.EX_UNAVAILABLE if taken else os.EX_NOPERM
        raise Exit(code, f"socket {path}: {error.strerror}") from error
    finally:
        os.umask(umask)
    return listener


def _examine_unix(path: str) -> bool:
    """Whether a stale socket lies at `path`. Raises Exit for anything that must not be replaced."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise Exit(os.EX_CONFIG, f"socket {path}: there is something that is no socket; remove it")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Exit(os.EX_NOPERM, f"socket {path}: {error.strerror}") from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a Unix socket answers at once, or its queue is full
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            pass  # somebody listens, and is very busy
        except OSError as error:
            raise Exit(os.EX_NOPERM, f"socket {path}: {error.strerror}") from error
    raise Exit(os.EX_UNAVAILABLE, f"socket {path}: another instance answers there")


def _listen_inet(address: InetAddress) -> list[socket.socket]:
    found = _resolve(address)
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in found:
            listeners.append(socket.socket(family, kind, protocol))
            _listen_at(listeners[-1], where)
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise Exit(_exit_code(error), f"socket {address}: {error.strerror}") from error
    return listeners


def _resolve(address: InetAddress) -> list[Any]:
    """As getaddrinfo(), of the families that this system has. Raises Exit."""
    flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(
            address.host, str(address.port), address.family, socket.SOCK_STREAM, 0, flags
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: for a name like a..b
        reason = error.strerror if isinstance(error, OSError) else "no host has such a name"
        raise Exit(os.EX_CONFIG, f"socket {address}: {reason}") from error
    try:
        usable = [one for one in dict.fromkeys(found) if _has(one[0])]  # /etc/hosts may repeat one
    except OSError as error:
        raise Exit(_exit_code(error), f"socket {address}: {error.strerror}") from error
    if not usable:
        raise Exit(os.EX_CONFIG, f"socket {address}: no such address on this machine")
    return usable


def _has(family: int) -> bool:
    """Whether the kernel has it: `all addresses` names IPv6 also where it was switched off."""
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return False
        raise
    return True


def _listen_at(listener: socket.socket, where: Any) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(where)
    listener.listen(BACKLOG)


def _exit_code(error: OSError) -> int:
    if error.errno == errno.EADDRINUSE:
        return os.EX_UNAVAILABLE
    return os.EX_NOPERM if error.errno in {errno.EACCES, errno.EPERM} else os.EX_CONFIG


@contextlib.contextmanager
def listening(address: UnixAddress | InetAddress, mode: int) -> Iterator[list[socket.socket]]:
    """listen(), and remove our Unix socket at the end, if it is still ours."""
    listeners = listen(address, mode)
    identity = _identity(address)
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()
        if isinstance(address, UnixAddress) and identity == _identity(address):
            with contextlib.suppress(OSError):
                os.unlink(address.path)


def _identity(address: UnixAddress | InetAddress) -> tuple[int, int] | None:
    if isinstance(address, UnixAddress):
        with contextlib.suppress(OSError):
            status = os.lstat(address.path)
            return status.st_dev, status.st_ino
    return None
