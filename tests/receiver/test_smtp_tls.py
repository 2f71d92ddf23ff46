"""TLS with the real process: STARTTLS and implicit, what comes before it, and what is forgotten."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import receiver_daemon
from receiver_daemon import Receiver
from smtp import Client
from smtp_tls import NAME, TlsClient
from waiting import wait_for

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl: install openssl")
pytestmark = [pytest.mark.slow, needs_openssl]


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def make(directory: Path, name: str = "archive", *, key: str = "ec") -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    cert, private = directory / f"{name}.crt", directory / f"{name}.key"
    kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else ["rsa:2048"]
    names = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    openssl("req", "-x509", "-newkey", *kind, "-nodes", "-keyout", private, "-out", cert, *names)
    return cert, private


def settings(cert: Path, key: Path, *more: str) -> str:
    lines = ["tls_enabled = true", f'cert_file = "{cert}"', f'key_file = "{key}"', *more]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def receiver(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    inbox = tmp_path_factory.mktemp("tls") / "inbox"
    with receiver_daemon.running(inbox, settings(*made)) as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "unexpected" not in receiver.log
        assert "ERROR" not in receiver.log


@pytest.fixture(scope="module")
def strict(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One that requires TLS."""
    inbox = tmp_path_factory.mktemp("strict") / "inbox"
    with receiver_daemon.running(inbox, settings(*made, "tls_required = true")) as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "unexpected" not in receiver.log


def test_starttls(receiver: Receiver, made: tuple[Path, Path]) -> None:
    """Any mail, by DATA and BDAT; the log says by which version it came."""
    before = len(receiver.files())
    big = b"Subject: x\r\n\r\n" + os.urandom(5_000_000) + b"\r\n"
    with TlsClient(receiver.port, made[0]) as client:
        assert "STARTTLS" in client.ehlo()
        secured = client.starttls()
        assert "STARTTLS" not in client.ehlo()
        assert client.command(b"STARTTLS") == "503 5.5.1 TLS is active"
        assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")
        assert client.envelope(b"a@b", [b"c@d"]) == []
        assert client.bdat(big[:3_000_000]).startswith("250")
        assert client.bdat(big[3_000_000:], last=True).startswith("250")
        version = secured.version()
        assert client.command(b"QUIT").startswith("221")
        assert client.hung_up()
    mails = [receiver_daemon.read(path) for path in receiver.files()[before:]]
    assert mails == [(b"a@b", (b"c@d",), b"x\r\n"), (b"a@b", (b"c@d",), big)]
    assert version == "TLSv1.3"
    assert len(re.findall(r" stored .* client=127.0.0.1 tls=TLSv1.3 from=", receiver.log)) == 2


def test_plain_text_stays_possible(receiver: Receiver) -> None:
    with Client(receiver.port) as client:
        reply = client.send(b"a@b", [b"c@d"], b"plain\r\n")
        name = reply.rpartition(" ")[2]
    assert re.search(rf" stored file={name} client=127.0.0.1 from=", receiver.log)


def test_nothing_survives(receiver: Receiver, made: tuple[Path, Path]) -> None:
    """Neither the greeting nor the mail under way."""
    before = receiver.files()
    with TlsClient(receiver.port, made[0]) as client:
        client.ehlo()
        assert client.envelope(b"evil@x", [b"victim@y"]) == []
        client.starttls()
        assert client.command(b"DATA").startswith("503")
        assert client.command(b"RCPT TO:<c@d>").startswith("503")
        assert client.command(b"MAIL FROM:<a@b>") == "503 5.5.1 EHLO or HELO comes first"
        client.ehlo()
        assert client.command(b"MAIL FROM:<a@b>").startswith("250")
    assert receiver.files() == before


@pytest.mark.parametrize("line", [b"STARTTLS", b"starttls"])
@pytest.mark.parametrize(
    "injected",
    [b"N", b"EHLO evil\r\n", b"EHLO evil\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<v@y>\r\nDATA\r\n"],
)
def test_plain_text_behind_starttls(receiver: Receiver, line: bytes, injected: bytes) -> None:
    """What somebody put behind the command is not executed, and the client does not go on."""
    before, logged = receiver.files(), len(receiver.log)
    with Client(receiver.port) as client:
        assert client.raw(line + b"\r\n" + injected).startswith("501 5.5.4 Nothing may follow STARTTLS")
        assert client.hung_up()
    assert "TLS with 127.0.0.1 failed: plain text behind STARTTLS" in receiver.log[logged:]
    assert receiver.files() == before


@pytest.mark.parametrize("injected", [b"EHLO evil\r\n", b"NOOP\r\n" * 10_000])
def test_plain_text_in_the_handshake(receiver: Receiver, injected: bytes) -> None:
    """It comes behind the reply to STARTTLS, and is taken for TLS, never for commands."""
    logged = len(receiver.log)
    with Client(receiver.port) as client:
        assert client.command(b"STARTTLS").startswith("220")
        client.socket.sendall(injected)
        rest = b""
        try:
            while data := client.socket.recv(1000):
                rest += data
        except ConnectionError:
            pass
    assert b"250" not in rest
    assert b"500" not in rest
    wait_for(lambda: "TLS with 127.0.0.1 failed: " in receiver.log[logged:], "the failure in the log")


def test_client_that_goes_in_the_handshake(receiver: Receiver) -> None:
    """The daemon forgets it: it ends at once when it is told to (see the fixture)."""
    logged = len(receiver.log)
    with Client(receiver.port) as client:
        assert client.command(b"STARTTLS").startswith("220")
    wait_for(lambda: "TLS with 127.0.0.1 failed: " in receiver.log[logged:], "the failure in the log")


def test_client_that_believes_another(receiver: Receiver, tmp_path: Path) -> None:
    other, _ = make(tmp_path)
    with TlsClient(receiver.port, other) as client, pytest.raises(ssl.SSLCertVerificationError):
        client.starttls()


def test_half_a_mail(receiver: Receiver, made: tuple[Path, Path]) -> None:
    """The client closes in the middle; nothing of it is kept."""
    before = receiver.files()
    with TlsClient(receiver.port, made[0]) as client:
        client.starttls()
        client.ehlo()
        client.envelope(b"a@b", [b"c@d"])
        client.command(b"DATA")
        client.socket.sendall(b"half\r\n")
    with TlsClient(receiver.port, made[0]) as client:
        client.starttls()
        client.ehlo()
    assert receiver.files() == before
    assert "eof_received" not in receiver.log  # asyncio's warning: TLS has no half-closed connection


def test_a_chunk_of_unknown_size(receiver: Receiver, made: tuple[Path, Path]) -> None:
    with TlsClient(receiver.port, made[0]) as client:
        client.starttls()
        client.ehlo()
        assert client.raw(b"BDAT\t5\r\nRSET\r\n").startswith("501 5.5.4 Syntax: BDAT")


@pytest.mark.parametrize(
    "line",
    [b"MAIL FROM:<a@b>", b"RCPT TO:<a@b>", b"DATA", b"RSET", b"VRFY a@b", b"HELO x", b"AUTH PLAIN"],
)
def test_required(strict: Receiver, line: bytes) -> None:
    with Client(strict.port) as client:
        assert client.command(line) == "530 5.7.0 STARTTLS comes first"
        assert client.command(b"NOOP").startswith("250")


def test_required_is_logged_with_its_setting(strict: Receiver) -> None:
    """Once a minute, whatever a client does."""
    line = '127.0.0.1: refused reply="530 5.7.0 STARTTLS comes first" (tls_required)'
    before = strict.log.count(line)
    with Client(strict.port) as client:
        for _ in range(500):
            client.command(b"MAIL FROM:<a@b>")
    wait_for(lambda: line in strict.log, "the line of the log")
    assert strict.log.count(line) - before < 50


def test_required_and_a_chunk(strict: Receiver, made: tuple[Path, Path]) -> None:
    """It is no command, not even STARTTLS."""
    before = strict.files()
    with TlsClient(strict.port, made[0]) as client:
        client.ehlo()
        assert client.bdat(b"STARTTLS\r\nQUIT\r\n", last=True) == "530 5.7.0 STARTTLS comes first"
        client.starttls()
        client.ehlo()
        assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")
        assert client.bdat(b"x", last=True).startswith("503")
    assert len(strict.files()) == len(before) + 1


def test_implicit(made: tuple[Path, Path], tmp_path: Path) -> None:
    wanted = settings(*made, "tls_implicit = true", "tls_required = true")
    with receiver_daemon.running(tmp_path / "inbox", wanted) as receiver:
        with TlsClient(receiver.port, made[0], implicit=True) as client:
            assert client.replies[0].startswith("220 archive.test ESMTP")
            assert "STARTTLS" not in client.ehlo()
            assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")
        with socket.create_connection(("127.0.0.1", receiver.port), 60) as plain:
            plain.sendall(b"EHLO x\r\n")
            try:
                said = plain.recv(1000)
            except ConnectionError:
                said = b""
            assert b"220" not in said
        receiver.wait_for_log("TLS with 127.0.0.1 failed: ")
        assert len(receiver.files()) == 1
        assert "tls=TLSv1.3" in receiver.log
        assert receiver.stop() == 0
        assert "unexpected" not in receiver.log


def test_end_in_the_middle_of_a_handshake(made: tuple[Path, Path], tmp_path: Path) -> None:
    """A client that says nothing does not keep the daemon from ending."""
    with receiver_daemon.running(tmp_path / "inbox", settings(*made)) as receiver:
        with Client(receiver.port) as client:
            assert client.command(b"STARTTLS").startswith("220")
            assert receiver.stop() == 0
            assert client.hung_up()  # and nothing in plain text
        assert "closed after" not in receiver.log
        assert "unexpected" not in receiver.log


def test_oldest_version(made: tuple[Path, Path], tmp_path: Path) -> None:
    for least, version in (("1.2", "TLSv1.2"), ("1.3", None)):
        wanted = settings(*made, f'tls_min_version = "{least}"')
        with (
            receiver_daemon.running(tmp_path / "inbox", wanted) as receiver,
            TlsClient(receiver.port, made[0]) as client,
        ):
            client.context.maximum_version = ssl.TLSVersion.TLSv1_2
            if version:
                assert client.starttls().version() == version
            else:
                with pytest.raises(ssl.SSLError):
                    client.starttls()


def served(port: int, cert: Path) -> bytes | None:
    with TlsClient(port, cert) as client:
        return client.starttls().getpeercert(binary_form=True)


def test_new_certificate(tmp_path: Path) -> None:
    """At SIGHUP; a session goes on, and what cannot be used changes nothing."""
    cert, key = make(tmp_path)
    with receiver_daemon.running(tmp_path / "inbox", settings(cert, key)) as receiver:
        with TlsClient(receiver.port, cert) as client:
            client.starttls()
            first = served(receiver.port, cert)
            make(tmp_path)
            os.kill(receiver.pid, signal.SIGHUP)
            receiver.wait_for_log("certificate read again")
            assert served(receiver.port, cert) not in {first, None}
            client.ehlo()
            assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")
        second = cert.read_bytes()
        key.write_text("nothing")
        os.kill(receiver.pid, signal.SIGHUP)
        said = receiver.wait_for_log("ERROR: .*")
        assert f"the certificate in use is kept: key_file: {key} holds no private key" in said
        assert ssl.DER_cert_to_PEM_cert(served(receiver.port, cert) or b"").encode() == second


def test_hangup_without_tls(tmp_path: Path) -> None:
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        os.kill(receiver.pid, signal.SIGHUP)
        receiver.wait_for_log("nothing to read again")
        with Client(receiver.port) as client:
            assert "250-STARTTLS" not in client.replies
            assert client.command(b"STARTTLS") == "502 5.5.1 STARTTLS is not offered"
