"""Listening sockets that systemd passes to us, sd_listen_fds(3): LISTEN_FDS descriptors from 3 on.

Several processes can then serve one socket, and while none does, connections wait in it. What is
configured stays the truth: each passed socket must be one that the configuration asks for, else there
would be a daemon that listens where nobody knows of it. What was not passed is bound as ever.

A passed socket is left as it is: its path, its mode and the length of its queue are its owner's.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import MutableMapping, Sequence

from benno_common.listener import InetAddress, Place, UnixAddress, path_place, places
from benno_common.service import Exit

FIRST = 3  # SD_LISTEN_FDS_START

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_ALL_OF_IPV4 = socket.inet_ntoa(bytes(4))
_LISTEN = "write ListenStream= and Accept=no into the .socket unit"
_REMEDY = "change that, or ListenStream= (for IPv6 alone also BindIPv6Only=) of the .socket unit"


class PassedSocket(socket.socket):
    """A listening socket that others may serve too. Raises OSError if the descriptor is no socket."""

    def listen(self, backlog: int = 0) -> None:
        """It does already. asyncio would shorten the queue to the accepts of a turn, and for a moment
        connections were refused.
        """

    @property
    def places(self) -> set[Place]:
        """Where it is bound: two places for a socket of IPv6 that takes IPv4 too."""
        bound = self.getsockname()
        if self.family == socket.AF_UNIX:
            return {path_place(os.fsdecode(bound))}
        if self._takes_both:
            return {(socket.AF_INET, _ALL_OF_IPV4, bound[1]), (self.family, *bound)}
        return {(self.family, *bound)}

    @property
    def _takes_both(self) -> bool:
        return (
            self.family == socket.AF_INET6
            and self.getsockname()[0] == "::"
            and not self.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        )

    def __str__(self) -> str:
        """As it is configured."""
        bound = self.getsockname()
        if self.family == socket.AF_UNIX:
            return str(UnixAddress(os.fsdecode(bound).replace("\0", "@")))
        family = socket.AF_UNSPEC if self._takes_both else self.family
        wildcard = bound[0] == "::"
        return str(InetAddress(None if wildcard else bound[0], bound[1], family))


def take(
    addresses: Sequence[UnixAddress | InetAddress], environment: MutableMapping[str, str] = os.environ
) -> list[PassedSocket]:
    """The sockets passed to this process; each is one of `addresses`. A second call finds none.

    Raises Exit.
    """
    given = {name: environment.pop(name, None) for name in _VARIABLES}
    count = given["LISTEN_FDS"]
    if given["LISTEN_PID"] != str(os.getpid()) or count is None:
        return []  # none, or they were our parent's
    if not re.fullmatch(r"[0-9]{1,6}", count):
        raise Exit(os.EX_CONFIG, f"LISTEN_FDS={count}: it must be the number of passed sockets")
    descriptors = range(FIRST, FIRST + int(count))
    with contextlib.ExitStack() as stack:
        passed = [stack.enter_context(_opened(descriptor)) for descriptor in descriptors]
        if passed:
            _check_asked_for(passed, addresses)
        stack.pop_all()
    return passed


def missing(
    addresses: Sequence[UnixAddress | InetAddress], passed: Sequence[PassedSocket]
) -> list[UnixAddress | InetAddress]:
    """What of the addresses is for us to bind. Raises Exit."""
    if not passed:
        return list(addresses)
    there = {place for sock in passed for place in sock.places}
    return [part for address in addresses for part in _without(address, there)]


def _without(address: UnixAddress | InetAddress, there: set[Place]) -> list[UnixAddress | InetAddress]:
    found = places(address)
    if there.isdisjoint(found):
        return [address]
    left = [place for place in found if place not in there]
    return [InetAddress(host, port, family) for family, host, port, *_ in left]


def _opened(descriptor: int) -> PassedSocket:
    """Raises Exit if that is no listening stream socket of a family that we know."""
    try:
        sock = PassedSocket(fileno=descriptor)
    except OSError as error:
        told = f"passed descriptor {descriptor} is no socket: {error.strerror}; {_LISTEN}"
        raise Exit(os.EX_CONFIG, told) from error
    if not _listens(sock):
        told = f"passed descriptor {descriptor}, at {sock.getsockname()!r}, does not listen; {_LISTEN}"
        sock.detach()  # it may be one of our own, the log's say, where fewer were passed
        raise Exit(os.EX_CONFIG, told)
    os.set_inheritable(descriptor, False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # as ours; connections inherit it
    return sock


def _listens(sock: socket.socket) -> bool:
    return (
        sock.family in {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}
        and sock.type == socket.SOCK_STREAM
        and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )


def _check_asked_for(
    passed: Sequence[PassedSocket], addresses: Sequence[UnixAddress | InetAddress]
) -> None:
    """Raises Exit for one that no address asks for, or for less than all that it takes."""
    wanted = {place for address in addresses for place in places(address)}
    for sock in passed:
        if not sock.places <= wanted:
            configured = " ".join(map(str, addresses))
            told = f"passed socket {sock} is not what is configured, {configured}"
            raise Exit(os.EX_CONFIG, f"{told}; {_REMEDY}")
