"""The configuration file of benno-smtp."""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from benno_common.config import Size
from benno_common.networks import DEFAULT, Networks
from benno_smtp.credentials import HASH, Users
from benno_smtp.limits import Limits
from benno_smtp.policy import Gateways
from benno_smtp.tls import VERSIONS, Source, Tls

EVERYWHERE = ("0.0.0.0/0", "::/0")

_SECRETS = ("auth_pass", "keystore_pass", "key_pass")
_LOOPBACK = ("127.0.0.0/8", "::1/128")

_KEY_FILE = {"example": '"/etc/ssl/private/archive.example.org.key"'}
_NETWORKS = {"example": '["10.0.0.0/8", "192.0.2.1"]'}


@dataclass(frozen=True)
class Settings:
    """The keys, their types and their defaults.

    listen: addresses, all if empty. allowed_networks: who may connect, None for loopback and private
    networks. hostname: in the greeting, the system's if empty. Sizes are octets or `"500M"`; 0 is no
    limit, and no reserve; so it is for connections and rate. min_rate: octets a second. Time-outs are
    seconds. gateways: network → name. cert_file, key_file: PEM; key_file alone: both in PEM, or a
    PKCS#12 keystore. client_ca_file: PEM. auth_file: user:bcrypt-hash a line.
    """

    import_directory: str = field(metadata={"example": '"/srv/benno/inbox"'})
    port: int = 2500
    listen: tuple[str, ...] = field(default=(), metadata={"example": '["127.0.0.1", "::1"]'})
    allowed_networks: tuple[str, ...] | None = field(default=None, metadata=_NETWORKS)
    hostname: str = field(default="", metadata={"example": '"archive.example.org"'})
    envelope_header: bool = True
    gateway: str | None = field(default=None, metadata={"example": '"mailgw1"'})
    gateways: dict[str, str] = field(
        default_factory=dict, metadata={"example": '{ "10.1.0.0/16" = "branch" }'}
    )
    trusted_gateways: tuple[str, ...] = field(default=("127.0.0.0/8", "::1/128"), metadata=_NETWORKS)
    max_message_size: Size = Size(0)  # noqa: RUF009 - a number
    min_free: Size = Size(100 << 20)  # noqa: RUF009 - a number
    max_connections: int = 1000
    max_connections_per_address: int = 50
    command_timeout: int = 300
    idle_timeout: int = 600
    content_timeout: int = 300
    min_rate: Size = Size(500)  # noqa: RUF009 - a number
    auth_user: str | None = field(default=None, metadata={"example": '"archive"'})
    auth_pass: str | None = None
    auth_file: str | None = field(default=None, metadata={"example": '"/etc/benno-smtp/users"'})
    auth_without_tls: bool = False
    tls_enabled: bool = False
    tls_required: bool = False
    tls_implicit: bool = False
    tls_min_version: str = field(default="1.2", metadata={"example": '"1.2"'})
    cert_file: str | None = field(
        default=None, metadata={"example": '"/etc/ssl/certs/archive.example.org.pem"'}
    )
    key_file: str | None = field(default=None, metadata=_KEY_FILE)
    keystore_pass: str | None = None
    key_pass: str | None = None
    client_ca_file: str | None = field(
        default=None, metadata={"example": '"/etc/ssl/certs/mail-servers.pem"'}
    )

    def __post_init__(self) -> None:
        self._check_tls()
        self._check_auth()
        self._check_limits()
        if not 0 <= self.port <= 65535:
            raise ValueError("port: a port is 65535 at the most; write: port = 2500")
        if not self.import_directory.startswith("/"):
            raise ValueError(
                'import_directory: a path begins with /; write: import_directory = "/srv/benno/inbox"'
            )
        if not re.fullmatch(r"[A-Za-z0-9._-]*", self.hostname):
            raise ValueError('hostname: write a host name: hostname = "archive.example.org"')
        if self.allowed_networks is not None and not self.allowed_networks:
            raise ValueError(
                'allowed_networks: nobody could connect; write: allowed_networks = ["10.0.0.0/8"]'
            )
        for key in ("allowed_networks", "trusted_gateways", "gateways"):
            _check_networks(key, getattr(self, key) or ())
        for key, names in (("gateway", [self.gateway or "x"]), ("gateways", [*self.gateways.values()])):
            if not all(re.fullmatch(r"[\x21-\x7e]+", name) for name in names):
                raise ValueError(f"{key}: a name is printable ASCII without blanks")

    def _check_tls(self) -> None:
        if self.tls_min_version not in VERSIONS:
            raise ValueError('tls_min_version: 1.2 and 1.3 are known; write: tls_min_version = "1.2"')
        for key in ("tls_required", "tls_implicit"):
            if getattr(self, key) and not self.tls_enabled:
                raise ValueError(f"{key}: there is no TLS without it; write: tls_enabled = true")
        if self.tls_enabled and not self.key_file:
            example = _KEY_FILE["example"]
            raise ValueError(
                f"tls_enabled: TLS needs a key; write: key_file = {example}, and cert_file"
            )

        if self.client_ca_file and not (self.tls_required or self.tls_implicit):
            raise ValueError(
                "client_ca_file: without TLS a client shows no certificate; write: tls_required = true"
            )

    def _check_auth(self) -> None:
        for key, other in (("auth_user", "auth_pass"), ("auth_pass", "auth_user")):
            if getattr(self, key) and not getattr(self, other):
                raise ValueError(f"{key}: {other} is missing; write both, or neither")
            if "\0" in (getattr(self, key) or ""):
                raise ValueError(f"{key}: no client can send a NUL")
        if self.auth_user and self.auth_file:
            raise ValueError(f"auth_user: it goes into auth_file, beside the others; {HASH}")
        key = "auth_user" if self.auth_user else "auth_file"
        if self.has_users and not self.tls_enabled and not self.auth_without_tls:
            raise ValueError(
                f"{key}: passwords come under TLS only; write: tls_enabled = true, with key_file and "
                "cert_file, or, where nobody can listen: auth_without_tls = true"
            )

    def _check_limits(self) -> None:
        for key in ("max_connections", "max_connections_per_address"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key}: a number of connections; 0 is no limit")
        for key in ("command_timeout", "idle_timeout", "content_timeout"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: a number of seconds, 1 at least; write: {key} = 300")

    @property
    def has_users(self) -> bool:
        """Whether somebody must log in."""
        return bool(self.auth_user or self.auth_file)

    def make_tls(self) -> Tls | None:
        """None if it is not enabled. Raises TlsError."""
        if not self.tls_enabled or not self.key_file:
            return None
        source = Source(
            self.key_file,
            self.cert_file,
            self.key_pass,
            self.keystore_pass,
            self.tls_min_version,
            self.client_ca_file or None,
        )
        return Tls(source, required=self.tls_required, implicit=self.tls_implicit)

    def make_users(self) -> Users | None:
        """None if nobody need log in. Raises CredentialsError."""
        if self.auth_user and self.auth_pass:
            return Users.one(self.auth_user, self.auth_pass)
        return Users.of_file(self.auth_file) if self.auth_file else None

    def make_limits(self) -> Limits:
        return Limits(
            connections=self.max_connections,
            per_address=self.max_connections_per_address,
            command=self.command_timeout,
            idle=self.idle_timeout,
            content=self.content_timeout,
            rate=self.min_rate,
        )

    def make_shared_by_many(self) -> Networks:
        """Addresses behind which there may be many clients: tunnels end on loopback."""
        return Networks([*_LOOPBACK, *self.trusted_gateways])

    def secrets(self) -> list[str]:
        """The keys that hold a password."""
        return [key for key in _SECRETS if getattr(self, key)]

    def shown(self) -> dict[str, object]:
        """The effective settings, for the log; secrets are masked."""
        shown = {**dataclasses.asdict(self), **dict.fromkeys(self.secrets(), "***")}
        shown["allowed_networks"] = self.make_allowed()
        return {name: value for name, value in shown.items() if value not in (None, "", {}, ())}

    def effective_hostname(self) -> str:
        """Never asks the DNS."""
        return self.hostname or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "localhost"

    def make_allowed(self) -> Networks:
        """Who may connect."""
        return Networks(DEFAULT if self.allowed_networks is None else self.allowed_networks)

    def make_gateways(self) -> Gateways:
        return Gateways(self.gateway, Networks(self.trusted_gateways), self.gateways)


def _check_networks(key: str, networks: Iterable[str]) -> None:
    try:
        Networks(networks)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
