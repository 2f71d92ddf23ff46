"""The daemon's signals and its end, and what its log says."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

import receiver_daemon
from benno_common.maildrop import MailDrop
from benno_smtp.session import Session
from benno_smtp.shared import Shared
from receiver_daemon import Receiver
from smtp import Client, stuffed

pytestmark = pytest.mark.slow

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
MAIL = (b"a@b", (b"c@d",), MESSAGE)
SHUTTING_DOWN = "421 4.3.2 The mail archive is shutting down"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        yield receiver


def deliver(client: Client) -> str:
    return client.send(b"a@b", [b"c@d"], MESSAGE)


# The end


def test_drain(receiver: Receiver) -> None:
    """A mail under way is finished and answered; who is idle is told; nobody new comes in."""
    port = receiver.port
    with ExitStack() as stack:
        in_data, in_chunks, idle = (stack.enter_context(Client(port)) for _ in range(3))
        silent = stack.enter_context(Client(port, greeting=b""))
        in_data.envelope(b"a@b", [b"c@d"])
        in_data.command(b"DATA")
        in_data.socket.sendall(stuffed(MESSAGE)[:10])
        in_chunks.envelope(b"a@b", [b"c@d"])
        in_chunks.bdat(MESSAGE[:5])
        assert deliver(idle).startswith("250")
        os.kill(receiver.pid, signal.SIGTERM)
        for client in (idle, silent):
            assert client.read() == SHUTTING_DOWN
            assert client.hung_up()
        receiver.wait_for_log("stopping connections=4")
        with pytest.raises(ConnectionError):
            Client(port)
        assert in_data.raw(stuffed(MESSAGE)[10:]).startswith("250 2.0.0 Stored")
        assert in_chunks.bdat(MESSAGE[5:], last=True).startswith("250 2.0.0 Stored")
        for client in (in_data, in_chunks):
            assert client.read() == SHUTTING_DOWN
            assert client.hung_up()
    assert receiver.process.wait(30) == 0
    assert receiver.mails() == [MAIL] * 3
    assert "closed after" not in receiver.log, "somebody was waited for in vain"
    assert re.search(r"statistics: mails=3 bytes=\d+ refused=0 .*\n.* stopped\n", receiver.log)
    assert "ERROR" not in receiver.log


def test_no_second_mail_begins_after_the_signal(receiver: Receiver) -> None:
    """Nor where it was sent before: one mail is answered, the other one is not stored either."""
    second = b"MAIL FROM:<x@y>\r\nRCPT TO:<z@y>\r\nBDAT 1 LAST\r\nx"
    with Client(receiver.port) as client:
        client.envelope(b"a@b", [b"c@d"])
        os.kill(receiver.pid, signal.SIGTERM)
        receiver.wait_for_log("stopping connections=1")
        chunk = b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE
        assert client.raw(chunk + second).startswith("250 2.0.0 Stored")
        assert client.read() == SHUTTING_DOWN
        assert client.hung_up()
    assert receiver.process.wait(30) == 0
    assert receiver.mails() == [MAIL]


def test_a_client_that_comes_just_too_late() -> None:
    """It was accepted before the port was closed, and is served after the signal."""

    async def talk() -> bytes:
        shared = Shared(cast(MailDrop, None), draining=True)
        server = await asyncio.get_running_loop().create_server(lambda: Session(shared), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"EHLO c\r\nMAIL FROM:<a@b>\r\n")
            try:
                return await reader.read()
            finally:
                writer.close()

    assert asyncio.run(asyncio.wait_for(talk(), 30)) == SHUTTING_DOWN.encode() + b"\r\n"


def test_a_mail_taken_back_after_the_signal(receiver: Receiver) -> None:
    with Client(receiver.port) as client:
        client.envelope(b"a@b", [b"c@d"])
        os.kill(receiver.pid, signal.SIGTERM)
        receiver.wait_for_log("stopping connections=1")
        assert client.command(b"RSET").startswith("250")
        assert client.read() == SHUTTING_DOWN
    assert receiver.process.wait(30) == 0


def test_a_client_that_never_ends(tmp_path: Path) -> None:
    """It is cut off, and its mail comes again from where it came."""
    prelude = "import benno_common.daemon; benno_common.daemon.DRAIN_SECONDS = 0.2"
    with receiver_daemon.running(tmp_path / "inbox", prelude=prelude) as receiver:
        with Client(receiver.port) as client:
            client.envelope(b"a@b", [b"c@d"])
            client.command(b"DATA")
            client.socket.sendall(b"x" * 300_000)
            os.kill(receiver.pid, signal.SIGTERM)
            assert client.hung_up()
        assert receiver.process.wait(30) == 0
        assert "1 connections with mail under way closed" in receiver.log
        assert receiver.files() == []
        assert "ERROR" not in receiver.log


def test_second_signal(receiver: Receiver) -> None:
    with Client(receiver.port) as client:
        client.envelope(b"a@b", [b"c@d"])
        os.kill(receiver.pid, signal.SIGTERM)
        receiver.wait_for_log("stopping connections=1")
        os.kill(receiver.pid, signal.SIGTERM)
        assert receiver.process.wait(30) == os.EX_TEMPFAIL
    assert "second signal: ended at once" in receiver.log


def test_statistics(receiver: Receiver) -> None:
    with Client(receiver.port) as client:
        assert deliver(client).startswith("250")
        assert deliver(client).startswith("250")
        assert client.send(b"a\r@b", [], b"").startswith("553 5.1.3 ")
        os.kill(receiver.pid, signal.SIGUSR1)
        size = 2 * len(MESSAGE)
        line = receiver.wait_for_log(rf"INFO: statistics: mails=2 bytes={size} refused=1 mean_ms=.*")
        mean, worst = map(float, re.findall(r"_ms=([0-9.]+)", line))
        assert 0 < mean <= worst
        assert deliver(client).startswith("250")


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with receiver_daemon.running(tmp_path / "inbox", environment=environment) as receiver:
            assert systemd.recv(100) == b"READY=1"
            assert receiver.stop() == 0
            assert systemd.recv(100) == b"STOPPING=1"


# What the log says


def test_log_line(receiver: Receiver) -> None:
    """The name that the sender has for the mail leads it; the digest is that of the message."""
    digest = hashlib.sha256(MESSAGE).hexdigest()
    rest = rf"stored file=\S+\.eml client=127\.0\.0\.1 from=<a@b> nrcpt=1 size=20 sha256={digest} ms="
    idents = {
        b"ENVID=4711": "4711",
        b"XBENNO-ID=1700000000.1.S=9.eml".replace(b"S=", b"S+3D"): r"1700000000\.1\.S=9\.eml",
        b"ENVID=A+0AB ": r"A\\x0aB",
        b"ENVID=a+2 XBENNO-ID=b": "b",
        b"": "NOQUEUE",
    }
    with Client(receiver.port) as client:
        for parameters, ident in idents.items():
            assert client.command(b"MAIL FROM:<a@b> " + parameters).startswith("250")
            assert client.command(b"RCPT TO:<c@d>").startswith("250")
            assert client.bdat(MESSAGE, last=True).startswith("250")
            receiver.wait_for_log(f"INFO: {ident}: {rest}.* answered=yes\n")


def test_what_was_refused_stands_in_the_log(receiver: Receiver) -> None:
    with Client(receiver.port) as client:
        client.command(b"MAIL FROM:<a@b> X=\xff\r\0")
        line = receiver.wait_for_log("NOQUEUE: refused .*")
        assert line == (
            'NOQUEUE: refused client=127.0.0.1 from=<> nrcpt=0 reply="555 5.5.4 Unknown parameter X" '
            r'reason="MAIL FROM:<a@b> X=\xff\r\x00"'
        )
        client.envelope(b"a@b", [b"c@d", b"e\0@f", b"g@i"])
        client.bdat(MESSAGE, last=True)
    assert r'from=<a@b> nrcpt=1 reply="553 5.1.3 ' in receiver.log
    assert r'reason="RCPT TO:<e\x00@f>"' in receiver.log
    assert receiver.mails() == [(b"a@b", (b"c@d", b"g@i"), MESSAGE)]
