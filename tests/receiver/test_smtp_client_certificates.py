"""Certificates of clients: who has one may send mail, who has none is told; the log says who it was."""

from __future__ import annotations

import datetime
import os
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

import receiver_daemon
from benno_smtp.keystore import TlsError
from benno_smtp.starttls import _subject
from benno_smtp.tls import Source, Tls
from certificates import Authority, Issued
from receiver_daemon import Receiver
from smtp import Client
from smtp_tls import NAME, TlsClient
from waiting import wait_for

pytestmark = pytest.mark.slow

MISSING = "530 5.7.0 A certificate of yours is required"


class Host:
    """What the receiver has, and the authority of its clients."""

    def __init__(self, directory: Path) -> None:
        def authority(name: str) -> Authority:
            (directory / name).mkdir()
            return Authority(directory / name)

        self.servers, self.clients, self.others = map(authority, ("servers", "clients", "others"))
        self.own: Issued = self.servers.issue(NAME)
        self.client: Issued = self.clients.issue("mx1.test")
        self.other: Issued = self.others.issue("mx2.test")
        past = datetime.datetime(2021, 1, 1, tzinfo=datetime.timezone.utc)
        self.expired: Issued = self.clients.issue("mx3.test", end=past)

    def settings(self, *more: str) -> str:
        lines = [
            "tls_enabled = true",
            f'cert_file = "{self.own.cert}"',
            f'key_file = "{self.own.key}"',
            f'client_ca_file = "{self.clients.cert}"',
            *more,
        ]
        return "\n".join(lines)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def receiver(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    inbox = tmp_path_factory.mktemp("certified") / "inbox"
    with receiver_daemon.running(inbox, host.settings("tls_required = true")) as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "unexpected" not in receiver.log
        assert "ERROR" not in receiver.log


def own(issued: Issued) -> tuple[Path, Path]:
    return issued.cert, issued.key


def test_with_a_certificate(receiver: Receiver, host: Host) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with TlsClient(receiver.port, host.servers.cert, own=own(host.client)) as client:
            client.context.maximum_version = version
            client.ehlo()
            client.starttls()
            client.ehlo()
            name = client.send(b"a@b", [b"c@d"], b"x\r\n").rpartition(" ")[2]
        shown = f"tls={version.name.replace('_', '.', 1).replace('_', '.')} certificate=CN=tests"
        assert re.search(rf"file={name} client=127.0.0.1 {shown} from=<a@b> ", receiver.log), shown


@pytest.mark.parametrize(
    "line", [b"MAIL FROM:<a@b>", b"RCPT TO:<a@b>", b"DATA", b"VRFY a@b", b"AUTH PLAIN", b"STARTTLS"]
)
def test_without_a_certificate(receiver: Receiver, host: Host, line: bytes) -> None:
    """The session goes on, so that it can be told; but there is no mail."""
    with TlsClient(receiver.port, host.servers.cert) as client:
        client.ehlo()
        assert client.command(b"MAIL FROM:<a@b>") == "530 5.7.0 STARTTLS comes first"
        client.starttls()
        client.ehlo()
        active = "503 5.5.1 TLS is active"
        assert client.command(line) == (active if line == b"STARTTLS" else MISSING)
        assert client.bdat(b"RSET\r\n", last=True) == MISSING
        assert client.command(b"RSET").startswith("250")


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("other", "unable to get local issuer certificate"),
        ("expired", "certificate has expired"),
        ("own", "self.signed certificate in certificate chain"),  # which it has sent
    ],
)
def test_one_that_does_not_hold_good(receiver: Receiver, host: Host, which: str, reason: str) -> None:
    """It ends the handshake; the log says why, and which setting asked for it."""
    logged, before = len(receiver.log), receiver.files()
    with TlsClient(receiver.port, host.servers.cert, own=own(getattr(host, which))) as client:
        client.ehlo()
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            client.starttls()
            client.ehlo()
    said = f"TLS with 127.0.0.1 failed: the certificate of the client: {reason}; see client_ca_file"
    wait_for(lambda: re.search(said, receiver.log[logged:]), f"{said!r} in the log")
    assert receiver.files() == before


def test_implicit(host: Host, tmp_path: Path) -> None:
    wanted = host.settings("tls_implicit = true", 'auth_user = "archive"', 'auth_pass = "s3cret"')
    with receiver_daemon.running(tmp_path / "inbox", wanted) as receiver:
        with TlsClient(receiver.port, host.servers.cert, implicit=True) as client:
            client.ehlo()
            assert client.command(b"AUTH PLAIN AGFyY2hpdmUAczNjcmV0") == MISSING
        with TlsClient(receiver.port, host.servers.cert, implicit=True, own=own(host.client)) as client:
            client.ehlo()
            assert client.command(b"MAIL FROM:<a@b>") == "530 5.7.0 AUTH comes first"
            assert client.command(b"AUTH PLAIN AGFyY2hpdmUAczNjcmV0").startswith("235")
            assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")
        assert " tls=TLSv1.3 certificate=CN=tests user=archive from=<a@b>" in receiver.log
        assert "s3cret" not in receiver.log


def test_another_authority(host: Host, tmp_path: Path) -> None:
    """It is read at SIGHUP, with the certificate; what cannot be used changes nothing."""
    believed = tmp_path / "believed.pem"
    believed.write_bytes(host.clients.cert.read_bytes())
    wanted = host.settings("tls_required = true").replace(str(host.clients.cert), str(believed))

    def may(issued: Issued) -> bool:
        with TlsClient(running.port, host.servers.cert, own=own(issued)) as client:
            client.ehlo()
            try:
                client.starttls()
                client.ehlo()
            except (ssl.SSLError, ConnectionError, EOFError):
                return False
            return client.command(b"MAIL FROM:<a@b>").startswith("250")

    with receiver_daemon.running(tmp_path / "inbox", wanted) as running:
        assert may(host.client)
        believed.write_text("nothing")
        os.kill(running.pid, signal.SIGHUP)
        said = running.wait_for_log("ERROR: .*")
        assert f"kept: client_ca_file: {believed} holds no certificate in PEM" in said
        assert may(host.client)
        believed.write_bytes(host.others.cert.read_bytes())
        os.kill(running.pid, signal.SIGHUP)
        running.wait_for_log("certificate read again")
        assert not may(host.client)
        assert may(host.other)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, r"client_ca_file: .*/ca.pem: No such file or directory"),
        ("", r"client_ca_file: .*/ca.pem holds no certificate in PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n",
            r"client_ca_file: .*/ca.pem cannot be used: .+",
        ),
    ],
    ids=["no file", "nothing in it", "broken"],
)
def test_complaint(host: Host, tmp_path: Path, content: str | None, complaint: str) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    source = Source(str(host.own.key), str(host.own.cert), client_ca_file=str(ca))
    with pytest.raises(TlsError, match=f"^{complaint}$"):
        Tls(source)


def test_a_client_in_plain_text(receiver: Receiver) -> None:
    with Client(receiver.port) as client:
        assert client.command(b"MAIL FROM:<a@b>") == "530 5.7.0 STARTTLS comes first"
        client.socket.shutdown(socket.SHUT_WR)
        assert client.hung_up()


# What `SSLSocket.getpeercert` tells, and what the log shows of it.
SUBJECTS = [
    (None, None),
    ({}, None),
    (
        {
            "subject": ((("countryName", "DE"),), (("organizationName", "A B"), ("commonName", "mx"))),
            "x": 1,
        },
        '"CN=mx,O=A B,countryName=DE"',
    ),
    ({"subject": (), "subjectAltName": (("DNS", "mx.test"),), "serialNumber": "0A"}, "DNS=mx.test"),
    ({"serialNumber": "0A"}, "serial=0A"),
    ({"subject": ((("commonName", "a\r\nb: stored"),),)}, r'"CN=a\r\nb: stored"'),
]


@pytest.mark.parametrize(("certificate", "shown"), SUBJECTS)
def test_who_it_is(certificate: dict[str, object] | None, shown: str | None) -> None:
    assert _subject(certificate) == shown
