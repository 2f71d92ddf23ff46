"""Settings that cannot be used, and the whole complaint; what is shown of those that can."""

from __future__ import annotations

import pytest

from benno_common import config
from benno_common.config import ConfigError
from benno_smtp.properties import convert
from benno_smtp.settings import Settings

INBOX = 'import_directory = "/srv/benno/inbox"\n'


def parse(text: str) -> Settings:
    return config.parse(convert(text, Settings).text, "benno-smtp.conf", Settings)


RELATIVE = 'import_directory: a path begins with /; write: import_directory = "/srv/benno/inbox"'
NO_TLS = "there is no TLS without it; write: tls_enabled = true"

# What cannot be used, and the whole complaint.
WRONG = {
    "port = 2500\n": ': import_directory is missing; write: import_directory = "/srv/benno/inbox"',
    'import_directory = ""\n': f":1: {RELATIVE}",
    'import_directory = "rel/dir"\n': f":1: {RELATIVE}",
    'import_directory = "./a"\n': f":1: {RELATIVE}",
    "port = 1\nimport_directory = inbox\n": f":2: {RELATIVE}",
    INBOX + "port = 70000\n": ":2: port: a port is 65535 at the most; write: port = 2500",
    INBOX + "port = 25a\n": ":2: port: ",
    INBOX + "port = /a b\n": ":2: port: ",
    INBOX + 'port = "25"\n': ":2: port: a string is not a whole number; write: port = 2500",
    INBOX + "envelope_header = yes\n": ":2: envelope_header: ",
    INBOX + "envelope_header = 1\n": ":2: envelope_header: a whole number is not true or false",
    INBOX
    + "listen = 127.0.0.1\n": ":2: listen: Expected newline or end of document after a statement; "
    'write an array of strings: listen = ["127.0.0.1", "::1"]',
    INBOX + 'listen = "127.0.0.1"\n': ":2: listen: a string is not an array of strings; "
    'write: listen = ["127.0.0.1", "::1"]',
    INBOX
    + "allowed_networks = 10.0.0.0/8\n": ":2: allowed_networks: Expected newline or end of document "
    'after a statement; write an array of strings: allowed_networks = ["10.0.0.0/8", "192.0.2.1"]',
    INBOX + "gateways = branch\n": ":2: gateways: Invalid value; "
    'write a table of strings: gateways = { "10.1.0.0/16" = "branch" }',
    INBOX + "\n\nimport_dir = /a\n": ":4: import_dir: ",
    INBOX + 'import_dir = "/a"\n': ":2: import_dir: unknown key; did you mean import_directory?",
    INBOX + 'max_message_size = "many"\n': ":2: max_message_size: a string is not a size; write: ",
    INBOX + "max_message_size = -1\n": ":2: max_message_size: a whole number is not a size; write: ",
    INBOX + "min_free = 1.5\n": ":2: min_free: a fraction is not a size; write: ",
    INBOX + 'hostname = "a b"\n': ":2: hostname: write a host name: ",
    INBOX + 'gateway = "a b"\n': ":2: gateway: a name is printable ASCII without blanks",
    INBOX + '[gateways]\n"::1" = "a\\r\\nX: y"\n': ":2: gateways: a name is printable ASCII",
    INBOX + '[gateways]\n"10.0.0.1/8" = "a"\n': ":2: gateways: '10.0.0.1/8' is no network like",
    INBOX + 'trusted_gateways = ["host"]\n': ":2: trusted_gateways: 'host' is no network like",
    INBOX + "port = 1\nport = 2\n": ":3: port: the key stands here a second time",
    INBOX + "auth_user = archive\n": ":2: auth_user: auth_pass is missing; write both, or neither",
    INBOX + "auth_pass = s3cret\n": ":2: auth_pass: auth_user is missing; write both, or neither",
    INBOX + "auth_pass = s3cret\nauth_user = a\n": ":3: auth_user: passwords come under TLS only; "
    "write: tls_enabled = true, with key_file and cert_file, or, where nobody can listen: "
    "auth_without_tls = true",
    INBOX + "auth_file = /a\n": ":2: auth_file: passwords come under TLS only; write: tls_enabled",
    INBOX
    + "auth_pass = s3cret\nauth_user = a\nauth_file = /b\n": ":3: auth_user: it goes into auth_file",
    INBOX + 'auth_user = "a"\nauth_pass = "s3cret\\u0000"\n': ":3: auth_pass: no client can send a NUL",
    INBOX + 'auth_user = "a\\u0000"\nauth_pass = "s3cret"\n': ":2: auth_user: no client can send a NUL",
    INBOX + "max_connections = -1\n": ":2: max_connections: a number of connections; 0 is no limit",
    INBOX + "max_connections_per_address = -1\n": ":2: max_connections_per_address: a number of ",
    INBOX + "command_timeout = 0\n": ":2: command_timeout: a number of seconds, 1 at least; write: ",
    INBOX + "idle_timeout = -1\n": ":2: idle_timeout: a number of seconds, 1 at least; write: idle",
    INBOX + "content_timeout = 0\n": ":2: content_timeout: a number of seconds, 1 at least; write: ",
    INBOX + "min_rate = -1\n": ":2: min_rate: a whole number is not a size; write: ",
    INBOX
    + "tls_enabled = true\nkey_file = /k\nclient_ca_file = /c\n": ":4: client_ca_file: without TLS a "
    "client shows no certificate; write: tls_required = true",
    INBOX + "tls_enabled = true\n": ":2: tls_enabled: TLS needs a key; write: "
    'key_file = "/etc/ssl/private/archive.example.org.key", and cert_file',
    INBOX + "tls_required = TRUE\n": f":2: tls_required: {NO_TLS}",
    INBOX + "tls_implicit = true\n": f":2: tls_implicit: {NO_TLS}",
    INBOX + "tls_min_version = 1.1\n": ":2: tls_min_version: 1.2 and 1.3 are known; write: ",
    INBOX + "key_file = 'a\n": ":2: key_file: ",
    INBOX + "cert_file = 'a'b\n": ":2: cert_file: ",
}


@pytest.mark.parametrize(("text", "complaint"), WRONG.items(), ids=range(len(WRONG)))
def test_complaint(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith(f"benno-smtp.conf{complaint}"), message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "lines",
    [
        "auth_user =\nauth_pass =\nauth_file =\nclient_ca_file =\n",
        "tls_enabled = false\n",
        "key_file = /etc/k\nkeystore_pass = x\nkey_pass = y\n",
    ],
)
def test_what_asks_for_nothing_is_no_reason_to_complain(lines: str) -> None:
    assert parse(INBOX + lines).import_directory == "/srv/benno/inbox"


def test_secrets_are_not_shown() -> None:
    auth = "auth_user = archive\nauth_pass = s3cret\nauth_without_tls = true\n"
    keys = "keystore_pass = s3cret\nkey_pass = s3cret\nkey_file = /etc/key\n"
    settings = parse(INBOX + auth + keys)
    assert settings.key_pass == settings.auth_pass == "s3cret"
    shown = settings.shown()
    assert "s3cret" not in str(shown)
    assert [key for key, value in shown.items() if value == "***"] == settings.secrets()
    assert shown["auth_user"] == "archive"
    assert "***" not in parse(INBOX).shown().values()


def test_hostname() -> None:
    assert Settings("/a", hostname="archive.example").effective_hostname() == "archive.example"
    assert Settings("/a").effective_hostname()
