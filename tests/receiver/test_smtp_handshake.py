"""The end of a TLS handshake and the first command in one segment, as a quick client sends them."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest

import receiver_daemon
from certificates import Authority
from receiver_daemon import Receiver

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["starttls", "implicit"])
def receiver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Receiver, bool]]:
    implicit = request.param == "implicit"
    issued = Authority(tmp_path_factory.mktemp("certificates")).issue("archive.test")
    settings = (
        f'tls_enabled = true\ncert_file = "{issued.cert}"\nkey_file = "{issued.key}"\n'
        f"tls_implicit = {str(implicit).lower()}"
    )
    with receiver_daemon.running(tmp_path_factory.mktemp("tls") / "inbox", settings) as daemon:
        yield daemon, implicit


def dialogue(connection: socket.socket, implicit: bool, line: bytes) -> bytes:
    """What is answered to a line that comes with the last octets of the handshake."""
    if not implicit:
        connection.sendall(b"STARTTLS\r\n")
        while b"220 2.0.0" not in connection.recv(4096):
            pass
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(coming, going)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            connection.sendall(going.read())
            coming.write(connection.recv(65536))
    tls.write(line)
    connection.sendall(going.read())
    heard = b""
    while b"\n250 " not in heard:
        coming.write(connection.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            while True:
                heard += tls.read(65536)
    return heard


def test_first_command_with_the_handshake(receiver: tuple[Receiver, bool]) -> None:
    daemon, implicit = receiver
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", daemon.port), 30) as connection:
            assert b"ENHANCEDSTATUSCODES" in dialogue(connection, implicit, b"EHLO quick\r\n")
