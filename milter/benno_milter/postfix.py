"""Postfix's settings as they are in force: services, and the milters that each of them asks.

A service of master.cf has the settings of main.cf, and over them its own `-o name=value`. Which service
asks the milters depends on the way in: smtpd asks `smtpd_milters`; for sendmail(1) and QMQP the cleanup
server does, `non_smtpd_milters` of *its* settings (postconf(5), MILTER_README).

A list is separated by commas and blanks; since Postfix 3.0 a milter may stand in braces with settings
of its own: `{ inet:HOST:PORT, default_action=tempfail }`. A relative path of a Unix socket begins in
the queue directory, and so does every path for a service in the chroot.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

# What is asked of postconf. What it does not know (an older Postfix) is missing in its answer.
PARAMETERS = (
    "always_bcc",
    "cleanup_service_name",
    "compatibility_level",
    "content_filter",
    "enable_long_queue_ids",
    "internal_mail_filter_classes",
    "mail_version",
    "milter_content_timeout",
    "milter_default_action",
    "milter_protocol",
    "multi_instance_directories",
    "non_smtpd_milters",
    "queue_directory",
    "receive_override_options",
    "recipient_bcc_maps",
    "sender_bcc_maps",
    "smtpd_milter_maps",
    "smtpd_milters",
    "smtpd_proxy_filter",
)

USUAL_PORT = "22500"  # of benno-milter, where it listens on TCP

_SEPARATORS = ", \t\r\n"


@dataclass(frozen=True)
class Socket:
    """Where benno-milter listens: a path, or a host (empty for all) and a port.

    given: somebody said so; source: the file, if it is one of systemd's. answers: False where nobody
    listens, True also where nobody looked.
    """

    path: str = ""
    host: str = ""
    port: str = ""
    given: bool = False
    source: str = ""
    answers: bool = True

    def __str__(self) -> str:
        """As Postfix writes it, without the braces."""
        return f"unix:{self.path}" if self.path else f"inet:{self.host or '127.0.0.1'}:{self.port}"


@dataclass(frozen=True)
class Milter:
    """One of a list: `unix:PATH`, `inet:HOST:PORT`; settings that stand with it in braces."""

    address: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Service:
    """An entry of master.cf. settings: in force, expanded; own: the names of its -o."""

    name: str
    kind: str
    command: str
    chroot: bool
    settings: Mapping[str, str]
    own: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.name} {self.kind}"

    def get(self, parameter: str) -> str:
        return self.settings.get(parameter, "").strip()

    @property
    def port(self) -> str:
        return self.name.rpartition(":")[2]

    @property
    def on_loopback(self) -> bool:
        return is_loopback(self.name.rpartition(":")[0].strip("[]"))


@dataclass(frozen=True)
class Configuration:
    """main: the settings of main.cf. unread: what could not be read, a sentence each."""

    main: Mapping[str, str]
    services: tuple[Service, ...]
    unread: tuple[str, ...] = ()

    @property
    def queue_directory(self) -> str:
        return self.main.get("queue_directory", "/var/spool/postfix")


@dataclass(frozen=True)
class Door:
    """A way for mail into the queue. asking: the service that asks the milters of `parameter`."""

    service: Service
    asking: Service
    parameter: str

    def __str__(self) -> str:
        return str(self.service)

    @property
    def switched_off(self) -> bool:
        return "no_milters" in items(self.service.get("receive_override_options"))

    @property
    def milters(self) -> tuple[Milter, ...]:
        return () if self.switched_off else tuple(milters(self.asking.get(self.parameter)))

    @property
    def filter(self) -> str:
        """The content filter after the queue."""
        return "" if self.proxy else self.service.get("content_filter")

    @property
    def proxy(self) -> str:
        """The content filter before the queue; milters get no content then."""
        return self.service.get("smtpd_proxy_filter") if self.service.command == "smtpd" else ""


def doors(configuration: Configuration) -> Iterator[Door]:
    """All ways in, in the order of master.cf."""
    cleanups = {one.name: one for one in configuration.services if one.command == "cleanup"}
    for service in configuration.services:
        if service.command == "smtpd":
            yield Door(service, service, "smtpd_milters")
        elif service.command in {"pickup", "qmqpd"}:
            name = service.get("cleanup_service_name") or "cleanup"
            absent = Service(name, "unix", "cleanup", chroot=False, settings=configuration.main)
            yield Door(service, cleanups.get(name, absent), "non_smtpd_milters")


def items(text: str, separators: str = _SEPARATORS) -> list[str]:
    """The members of a list; one in braces is one member, braces included."""
    found, member, depth = [], "", 0
    for character in text:
        if character in separators and depth == 0:
            found.append(member)
            member = ""
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        member += character
    return [one for one in [*found, member] if one]


def is_loopback(host: str) -> bool:
    """Whether a host or network, IPv6 without brackets, is this host only."""
    return host in {"localhost", "::1"} or host.startswith(("127.", "::ffff:127."))


def milters(text: str) -> Iterator[Milter]:
    """The milters of `smtpd_milters` or `non_smtpd_milters`, expanded."""
    for member in items(text):
        if not member.startswith("{"):
            yield Milter(member)
            continue
        address, *settings = [*items(bare(member)), ""]
        pairs = (bare(one).partition("=") for one in settings if one)
        yield Milter(address, {name.strip(): value.strip() for name, _, value in pairs})


def bare(member: str) -> str:
    """Without the braces around it, and the blanks within these."""
    return member[1:].removesuffix("}").strip() if member.startswith("{") else member


class Reach(Enum):
    """Whether a milter of a list is benno-milter."""

    FOREIGN = auto()  # it is another one
    NONE = auto()  # it is no address (milter8_connect() of milter8.c)
    REACHED = auto()
    OTHER_ROOT = (
        auto()
    )  # the path is right inside the chroot, and the service is outside, or the reverse
    ELSEWHERE = auto()  # meant is benno-milter, but it listens at another address
    MISSPELT = auto()  # as Sendmail writes it: Postfix answers 451 to all mail


def reach(milter: Milter, asking: Service, queue: str, socket: Socket) -> Reach:
    """Where `milter` leads when `asking` connects; `queue` is the queue directory."""
    kind, _, rest = milter.address.partition(":")
    if kind in {"unix", "local"} and rest:
        return _reach_path(rest, asking.chroot, queue, socket)
    ports = {socket.port} if socket.port else set()
    if not socket.given:
        ports.add(USUAL_PORT)
    if kind in {"inet", "inet6"} and rest.partition("@")[0] in ports:
        return Reach.MISSPELT
    if rest.rpartition(":")[2] in ports:
        return Reach.REACHED if kind == "inet" else Reach.MISSPELT
    if kind != "inet" or not rest:
        return Reach.MISSPELT if "benno" in milter.address else Reach.NONE
    return Reach.ELSEWHERE if "benno" in rest or rest.endswith(f":{USUAL_PORT}") else Reach.FOREIGN


def _reach_path(path: str, chroot: bool, queue: str, socket: Socket) -> Reach:
    below = _normal(f"{queue}/{path}")
    outside = _normal(path) if path.startswith("/") else below
    if socket.path:
        if (below if chroot else outside) == _normal(socket.path):
            return Reach.REACHED
        if _normal(socket.path) in {below, outside}:
            return Reach.OTHER_ROOT
    return Reach.ELSEWHERE if "benno" in path else Reach.FOREIGN


def _normal(path: str) -> str:
    path = posixpath.normpath(path).replace("//", "/")
    return path.removeprefix("/var") if path.startswith("/var/run/") else path


def is_below(path: str, directory: str) -> bool:
    return _normal(path).startswith(_normal(directory) + "/")


def written(socket: Socket, queue: str) -> str:
    """benno-milter as it should stand in a list; a path below `queue` works with and without chroot."""
    address = str(socket)
    if is_below(socket.path, queue):
        address = f"unix:{posixpath.relpath(_normal(socket.path), _normal(queue))}"
    return f"{{ {address}, default_action=tempfail }}"
