"""Which clients may connect over TCP, and what they are counted by."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Loopback, private (RFC 1918, RFC 4193) and link-local networks.
DEFAULT = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)


class Networks:
    """A set of IPv4 and IPv6 networks, each written `10.1.0.0/16`, or as one address.

    Raises ValueError for what is neither.
    """

    def __init__(self, networks: Iterable[str] = DEFAULT) -> None:
        self._networks: list[Network] = [_parse(network) for network in networks]

    def __contains__(self, address: str) -> bool:
        """Whether an address, as a socket's peer name gives it, is in one of the networks."""
        try:
            peer = ipaddress.ip_address(plain(address).partition("%")[0])
        except ValueError:  # of a client that had gone before anybody asked
            return False
        return any(peer in network for network in self._networks)

    @property
    def smallest(self) -> int:
        """The longest prefix among them, in bits of an IPv6 address."""
        return max(network.prefixlen + 128 - network.max_prefixlen for network in self._networks)

    def __str__(self) -> str:
        return ",".join(map(str, self._networks))


def plain(address: str) -> str:
    """The address of a peer; on a socket of IPv6 that takes IPv4 too it comes as ::ffff:192.0.2.1."""
    return address.removeprefix("::ffff:") if "." in address else address


def origin(client: str) -> str:
    """What clients are counted by: the address, of IPv6 its network of 64 bits."""
    client = plain(client)
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def _parse(network: str) -> Network:
    try:
        return ipaddress.ip_network(network)
    except ValueError as error:
        raise ValueError(f"{network!r} is no network like 10.1.0.0/16 ({error})") from error
