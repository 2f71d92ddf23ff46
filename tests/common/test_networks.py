"""Who may connect over TCP: addresses as a socket's peer name gives them, against networks."""

from __future__ import annotations

import pytest

from benno_common.networks import DEFAULT, Networks, origin, plain


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.255.255.255", True),
        ("126.255.255.255", False),
        ("128.0.0.0", False),
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("172.15.255.255", False),
        ("172.16.0.0", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.168.1.1", True),
        ("192.169.0.0", False),
        ("169.254.1.1", True),
        ("169.253.255.255", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("192.0.2.1", False),
        ("::1", True),
        ("::", False),
        ("::2", False),
        ("fc00::1", True),
        ("fdff:ffff::1", True),
        ("fe00::1", False),
        ("fe80::1", True),
        ("fe80::1%eth0", True),
        ("febf::1%2", True),
        ("fec0::1", False),
        ("2001:db8::1", False),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.1.2.3", True),
        ("::ffff:192.0.2.1", False),
        ("::127.0.0.1", False),
    ],
)
def test_default(address: str, allowed: bool) -> None:
    assert (address in Networks()) is allowed


@pytest.mark.parametrize(
    ("networks", "inside", "outside"),
    [
        (["10.1.0.0/16"], ["10.1.0.0", "10.1.255.255"], ["10.2.0.0", "10.0.255.255", "127.0.0.1"]),
        (["10.1.0.0/255.255.0.0"], ["10.1.255.255"], ["10.2.0.0"]),
        (["192.0.2.1"], ["192.0.2.1", "::ffff:192.0.2.1"], ["192.0.2.0", "192.0.2.2"]),
        (["192.0.2.1/32"], ["192.0.2.1"], ["192.0.2.0"]),
        (["192.0.2.0/31"], ["192.0.2.0", "192.0.2.1"], ["192.0.2.2"]),
        (["2001:db8::1"], ["2001:db8::1", "2001:DB8:0::1"], ["2001:db8::2", "::1"]),
        (["2001:db8::/33"], ["2001:db8:7fff::"], ["2001:db8:8000::"]),
        (["fe80::1%eth0"], ["fe80::1", "fe80::1%eth0", "fe80::1%eth1"], ["fe80::2"]),
        (["0.0.0.0/0"], ["192.0.2.1", "::ffff:192.0.2.1"], ["2001:db8::1", "::1"]),
        (["::/0"], ["2001:db8::1"], ["192.0.2.1", "::ffff:192.0.2.1"]),
        (["0.0.0.0/0", "::/0"], ["192.0.2.1", "2001:db8::1"], []),
        (["10.0.0.0/8", "192.0.2.1"], ["10.1.1.1", "192.0.2.1"], ["192.0.2.2"]),
        ([], [], ["127.0.0.1", "::1"]),
    ],
)
def test_table(networks: list[str], inside: list[str], outside: list[str]) -> None:
    allowed = Networks(networks)
    assert [address for address in inside + outside if address in allowed] == inside


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("10.1.0.1/16", "10.1.0.1/16 has host bits set"),
        ("2001:db8::1/64", "2001:db8::1/64 has host bits set"),
        ("0.0.0.1/0", "0.0.0.1/0 has host bits set"),
        ("10.1.0.0/33", ""),
        ("::/129", ""),
        ("10.1/16", ""),
        ("10.1.0.0/", ""),
        ("10.1.0.0/-1", ""),
        ("256.1.1.1", ""),
        ("010.1.0.1", ""),
        ("10.1.0.0/16,10.2.0.0/16", ""),
        (" 10.1.0.0/16", ""),
        ("10.1.0.0-10.1.0.9", ""),
        ("localhost", ""),
        ("", ""),
    ],
)
def test_no_network(network: str, reason: str) -> None:
    reason = reason or f"{network!r} does not appear to be an IPv4 or IPv6 network"
    with pytest.raises(ValueError, match="is no network") as caught:
        Networks(["127.0.0.1", network])
    assert str(caught.value) == f"{network!r} is no network like 10.1.0.0/16 ({reason})"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:0:1", "::ffff:0:1"),
        ("2001:db8::ffff:1", "2001:db8::ffff:1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("fe80::1%eth0.100", "fe80::1%eth0.100"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_plain(address: str, shown: str) -> None:
    """As a client over IPv4 is configured and counted, whatever socket it came by."""
    assert plain(address) == shown
    assert origin(plain(address)) == origin(address)


def test_shown_as_it_can_be_given() -> None:
    assert str(Networks(["10.0.0.0/8", "192.0.2.1", "::1"])) == "10.0.0.0/8,192.0.2.1/32,::1/128"
    assert str(Networks()) == ",".join(DEFAULT)
    assert str(Networks([])) == ""
