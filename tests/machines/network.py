"""The network that joins the machines: a bridge, in the network namespace of the tests themselves.

So the tests are one more host on it, the outside world, and it ends with them. A machine's end of its
cable lies in a network namespace of its own, which is made anew at each boot: what a machine that lost
its power had still to send is never sent.
"""

from __future__ import annotations

import subprocess

NET = "10.77.0"
WORLD = f"{NET}.1"  # our own address
_BRIDGE = "lan"
_NAMESPACES = "/run/netns"


def make() -> None:
    """The bridge, once. Private addresses: the programs' defaults let them in."""
    # A machine's mount namespace begins as a copy of ours: what is unmounted here must go there too,
    # else the disk of a machine that lost its power would never be let go.
    _run("mount", "--make-rshared", "/")
    _run("mkdir", "-p", _NAMESPACES)
    _run("mount", "-t", "tmpfs", "netns", _NAMESPACES)
    _ip("link set lo up")
    _ip(f"link add name {_BRIDGE} type bridge")
    _ip(f"addr add {WORLD}/24 dev {_BRIDGE}")
    _ip(f"link set {_BRIDGE} up")


def also(address: str) -> None:
    """One more address of our own, as ADDRESS/BITS."""
    _ip(f"addr replace {address} dev {_BRIDGE}")


class Cable:
    """From the bridge to the machine with this address. path: of the machine's network namespace."""

    def __init__(self, name: str, address: str) -> None:
        self.path = f"{_NAMESPACES}/{name}"
        self._name = name
        self._hardware = f"52:54:00:00:00:{int(address.rpartition('.')[2]):02x}"
        self._address = address

    def plug_in(self) -> None:
        name = self._name
        _ip(f"netns add {name}")
        _ip(f"link add name {name} type veth peer name eth0 address {self._hardware} netns {name}")
        _ip(f"link set {name} master {_BRIDGE} up")
        for command in ("link set lo up", f"addr add {self._address}/24 dev eth0", "link set eth0 up"):
            _ip(f"-n {name} {command}")

    def ask_silent_peers(self) -> None:
        """From now on the machine's kernel sees after seconds, not hours, that a peer is gone, tcp(7).

        So that nobody waits here for all of SMTP's ten minutes for the answer of a host that was
        switched off.
        """
        settings = {"keepalive_time": 5, "keepalive_intvl": 2, "keepalive_probes": 3}
        writes = [f"echo {value} >/proc/sys/net/ipv4/tcp_{name}" for name, value in settings.items()]
        _run("nsenter", f"--net={self.path}", "sh", "-ec", "\n".join(writes))

    def cut(self) -> None:
        """Nothing gets through any more, in either direction, and nobody is told."""
        _ip(f"link set {self._name} down")

    def unplug(self) -> None:
        _ip(f"link delete {self._name}")
        _ip(f"netns delete {self._name}")


def _ip(command: str) -> None:
    _run("ip", *command.split())


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
