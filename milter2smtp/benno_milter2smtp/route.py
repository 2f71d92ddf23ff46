"""The way to an archive host: hosts in turn, and all addresses of a name.

A host is used until it fails: when it cannot be reached, does not greet us, or takes no mail. Then the
next one is, and a host that failed is not asked again in this run, so that a dead one is not tried for
each of a thousand mails.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

from benno_common import log
from benno_common.service import Exit
from benno_milter2smtp.connection import CONNECT_SECONDS, HostUnusable
from benno_milter2smtp.delivery import Delivery
from benno_milter2smtp.greeting import Access, LoginRefused, connect

DEFAULT_PORT = 2500
FORGET_SECONDS = 0.5

_HOST = re.compile(r"(?:\[(?P<literal>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]{1,5}))?")


class NoHost(Exception):
    """All hosts have failed; each was logged."""


class Crowded(Exception):
    """The host takes no further connection, but others to it are open."""


@dataclass(frozen=True)
class Host:
    """A name or an address without brackets, and a port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


def parse_host(text: str, default_port: int = DEFAULT_PORT) -> Host:
    """HOST[:PORT], an IPv6 address in brackets. Raises Exit."""
    match = _HOST.fullmatch(text)
    port = int(match["port"] or default_port) if match else 0
    if match and 0 < port < 1 << 16:
        if match["literal"] is not None and _is_address(match["literal"]):
            return Host(match["literal"], port)
        if match["name"] and _is_name(match["name"]):
            return Host(match["name"], port)
    raise Exit(
        os.EX_CONFIG,
        f"{text!r} is no host: write NAME, NAME:PORT, ADDRESS or [IPV6-ADDRESS]:PORT; "
        "several with blanks between them",
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_name(text: str) -> bool:
    try:
        ascii_name = text.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return re.fullmatch(r"[A-Za-z0-9_.-]+", ascii_name) is not None


class Route:
    """The hosts that are left. is_ours: whether an identity is that of the spool; raises OSError."""

    def __init__(self, hosts: list[Host], access: Access, is_ours: Callable[[str], bool]) -> None:
        self._hosts = list(hosts)
        self._access = access
        self._is_ours = is_ours
        self._open: dict[Delivery, Host] = {}
        self._dead: set[object] = set()  # addresses that did not answer, of hosts that do
        self._closing: set[asyncio.Task[None]] = set()
        self._connecting = asyncio.Lock()
        self._told: set[Host] = set()  # how secure the connection to it is

    @property
    def host(self) -> Host | None:
        """The one that is used now."""
        return self._hosts[0] if self._hosts else None

    @property
    def has_next(self) -> bool:
        return len(self._hosts) > 1

    def host_of(self, delivery: Delivery) -> Host:
        return self._open[delivery]

    async def connect(self) -> Delivery:
        """A new connection. Raises NoHost, Crowded; Exit where the host would write into our spool."""
        async with self._connecting:
            while self._hosts:
                host = self._hosts[0]
                crowded = self._is_open(host) or bool(self._closing)
                try:
                    delivery = await _connect_any(host, self._access, self._dead)
                except HostUnusable as error:
                    if self._is_open(host):
                        raise Crowded from error
                    if crowded or self._closing:
                        await self._wait_until_closed()
                    else:
                        self.give_up(host, str(error))
                    continue
                self._open[delivery] = host
                self._expect_other_directory(delivery, host)
                self._tell(delivery, host)
                return delivery
            raise NoHost

    def give_up(self, host: Host, reason: str) -> None:
        """Use this host no more, from now on."""
        if host in self._hosts:
            log.host_failed(str(host), reason)
            self._hosts.remove(host)

    async def close(self, delivery: Delivery) -> None:
        """Say goodbye to the host."""
        self._open.pop(delivery, None)
        closing = asyncio.get_running_loop().create_task(delivery.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        await closing

    async def _wait_until_closed(self) -> None:
        """The connections that were too many for the host are closed, and it has had time to see it."""
        if self._closing:
            await asyncio.wait(self._closing)
        await asyncio.sleep(FORGET_SECONDS)

    def _is_open(self, host: Host) -> bool:
        return host in self._open.values()

    def _expect_other_directory(self, delivery: Delivery, host: Host) -> None:
        try:
            if not self._is_ours(delivery.offer.directory):
                return
            reason = (
                f"{host} writes into this spool: mail would go round in circles; name the archive host"
            )
        except OSError as error:
            reason = (
                f"{host} may write into this spool, and mail would go round in circles: "
                f"{error.filename} in it cannot be read: {error.strerror}; "
                "remove it, if no benno-smtp writes there"
            )
        del self._open[delivery]
        delivery.abort()
        raise Exit(os.EX_CONFIG, reason)

    def _tell(self, delivery: Delivery, host: Host) -> None:
        """Once for each host: whether mail goes there over TLS."""
        tls = self._access.tls
        if tls is not None and host not in self._told:
            self._told.add(host)
            verified = {"verified": "yes" if tls.verifies else "no"} if delivery.tls else {}
            log.lifecycle("connected", host=host, tls=delivery.tls or "no", **verified)


async def _connect_any(host: Host, access: Access, dead: set[object]) -> Delivery:
    """Try the addresses of a host in turn. Raises HostUnusable with the reasons of all.

    dead: those that did not answer come last the next time.
    """
    loop = asyncio.get_running_loop()
    lookup = loop.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
    try:
        addresses = list(dict.fromkeys(await asyncio.wait_for(lookup, CONNECT_SECONDS)))
    except asyncio.TimeoutError:
        raise HostUnusable("the look-up of its name timed out") from None
    except (OSError, UnicodeError) as error:
        raise HostUnusable(getattr(error, "strerror", None) or str(error)) from error
    reasons = []
    for address in sorted(addresses, key=dead.__contains__):
        try:
            return await connect(address, host.name, access)
        except HostUnusable as error:
            dead.add(address)
            shown = f"{address[4][0]}: " if address[4][0] != host.name else ""
            reasons.append(f"{shown}{error}")
            if isinstance(error, LoginRefused):
                break
    raise HostUnusable("; ".join(reasons))
