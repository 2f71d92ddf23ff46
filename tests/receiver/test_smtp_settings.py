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
    INBOX
    + "auth_user = archive\n": ":2: auth_user: this version has no SMTP AUTH yet; remove the line, ",
    INBOX + "auth_pass = s3cret\n": ":2: auth_pass: this version has no SMTP AUTH yet; ",
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
    ["auth_user =\n", "tls_enabled = false\n", "key_file = /etc/k\nkeystore_pass = x\nkey_pass = y\n"],
)
def test_what_asks_for_nothing_is_no_reason_to_complain(lines: str) -> None:
    assert parse(INBOX + lines).import_directory == "/srv/benno/inbox"


def test_secrets_are_not_shown() -> None:
    settings = parse(INBOX + "keystore_pass = s3cret\nkey_pass = s3cret\nkey_file = /etc/key\n")
    assert settings.key_pass == "s3cret"
    assert "s3cret" not in str(settings.shown())


def test_hostname() -> None:
    assert Settings("/a", hostname="archive.example").effective_hostname() == "archive.example"
    assert Settings("/a").effective_hostname()
