"""Mail through the tunnel of docs/tunnel.md, with its files and its commands as they stand there.

Both ends are on this host, so that their files lie in directories of their own and their ports are
free ones; all else is what an administrator types.
"""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import daemon
import postfix
import receiver_daemon
from benno_common.envelope import Envelope
from forwarding import forward, put
from milter_packets import negotiation
from smtp import Client
from waiting import free_port, wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not postfix.available(), reason="needs root and postfix (apt install postfix)"),
    pytest.mark.skipif(not shutil.which("stunnel4"), reason="needs stunnel (apt install stunnel4)"),
]

GUIDE = (Path(__file__).parents[2] / "docs" / "tunnel.md").read_text()
BLOCKS: list[str] = re.findall(r"^```ini\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
SERVER, CLIENT, SMTP_SERVER, SMTP_CLIENT = (
    text for text in BLOCKS if re.search(r"^accept = ", text, re.MULTILINE)
)
(MAKE_DIRECTORY,) = re.findall(r"^(install -d .*)$", GUIDE, re.MULTILINE)
(MAKE_CERTIFICATE,) = re.findall(r"^\(umask 077; openssl .*?\)$", GUIDE, re.MULTILINE | re.DOTALL)
(REMOVE_SOCKET,) = re.findall(r"^ExecStartPre=(.*)$", GUIDE, re.MULTILINE)
(POSTFIX_SOCKET,) = re.findall(r"\{ (unix:\S+), default_action=tempfail \}", GUIDE)

SENDER, RECIPIENTS = b"a@b.example", (b"c@d.example", b"bcc@d.example")
MESSAGE = b"From: a@b.example\r\nDate: x\r\nMessage-Id: <1@b>\r\nSubject: x\r\n\r\n.\r\n"


class Host:
    """One end. root: a directory with its /etc/stunnel, and with its sockets."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o755)
        (root / "queue").mkdir(mode=0o755)
        self.type(MAKE_CERTIFICATE)
        self.type(MAKE_DIRECTORY)

    def here(self, text: str) -> str:
        """What the guide says, with the places of this host."""
        text = text.replace("/var/spool/postfix", f"{self.root}/queue")
        return text.replace("/etc/stunnel", str(self.root)).replace("/run/benno-milter", str(self.root))

    def type(self, command: str) -> None:
        subprocess.run(["sh", "-c", self.here(command)], check=True, capture_output=True)

    def believe(self, name: str, other: Host) -> None:
        shutil.copy(other.root / "benno.pem", self.root / name)

    @contextmanager
    def stunnel(self, text: str) -> Iterator[subprocess.Popen[bytes]]:
        """Running, with this configuration."""
        self.type(REMOVE_SOCKET)
        (self.root / "benno.conf").write_text(self.here(text))
        log = self.root / "stunnel.log"
        with log.open("wb") as stream:
            running = subprocess.Popen(
                ["stunnel4", self.root / "benno.conf"], stdout=stream, stderr=stream
            )
        try:
            wait_for(lambda: self._is_decided(running), "stunnel")
            assert running.poll() is None, log.read_text()
            yield running
        finally:
            running.kill()
            running.wait()

    def _is_decided(self, running: subprocess.Popen[bytes]) -> bool:
        """Whether it has told that it serves, or has ended. It binds its addresses before."""
        told = b"Configuration successful" in (self.root / "stunnel.log").read_bytes()
        return told or running.poll() is not None


class Site:
    """Both ends; on the archive's a milter and a receiver, on the other a Postfix that asks."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        for directory in (root, *list(root.parents)[:2]):  # stunnel and Postfix are not root
            directory.chmod(directory.stat().st_mode | 0o011)
        self.mail, self.archive = Host(root / "m"), Host(root / "a")
        self.mail.believe("archive.pem", self.archive)
        self.archive.believe("mail-servers.pem", self.mail)
        self.milter_port, self.smtp_port, self.entry = free_port(), free_port(), free_port()
        spool = root / "spool"
        spool.mkdir()
        spool.chmod(0o2770)
        # The groups of the unit; its user this host need not have.
        as_unit = ("setpriv", "--regid=stunnel4", "--clear-groups")
        path = self.archive.here("/run/benno-milter/benno-milter.sock")
        self.milter = stack.enter_context(daemon.running(spool, socket=f"unix:{path}", wrapper=as_unit))
        allowed = 'allowed_networks = ["127.0.0.1"]'
        self.receiver = stack.enter_context(receiver_daemon.running(root / "inbox", allowed))
        self.mta = stack.enter_context(postfix.running(self.mail.root, POSTFIX_SOCKET, chroot=True))

    @property
    def server(self) -> str:
        """The archive host's configuration, on free ports."""
        text = SERVER + SMTP_SERVER
        for given, port in ((22501, self.milter_port), (2501, self.smtp_port)):
            text = text.replace(f"accept = {given}\n", f"accept = 127.0.0.1:{port}\n")
        return text.replace("127.0.0.1:2500", f"127.0.0.1:{self.receiver.port}")

    @property
    def client(self) -> str:
        """The mail server's."""
        text = (CLIENT + SMTP_CLIENT).replace("127.0.0.1:2501", f"127.0.0.1:{self.entry}")
        text = text.replace("archive.example.org:22501", f"127.0.0.1:{self.milter_port}")
        return text.replace("archive.example.org:2501", f"127.0.0.1:{self.smtp_port}")

    def send(self) -> str:
        """A mail to Postfix, on a connection of its own; the reply that ended it."""
        with Client(self.mta.port) as client:
            return client.send(SENDER, RECIPIENTS, MESSAGE)

    def files(self) -> list[Path]:
        """What milter and receiver have stored."""
        return [*self.milter.files(), *self.receiver.files()]


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("tunnel"), stack)


@pytest.fixture
def site(shared_site: Site) -> Site:
    """Without mail."""
    for path in shared_site.files():
        path.unlink()
    return shared_site


def test_mail(site: Site, tmp_path: Path) -> None:
    """Through both tunnels, to the octet; with stunnel killed it is deferred, and comes later."""
    with site.archive.stunnel(site.server), site.mail.stunnel(site.client) as tunnel:
        assert site.send().startswith("250")
        assert site.milter.mails() == [(SENDER, RECIPIENTS, MESSAGE)]
        spool = tmp_path / "spool2"
        spool.mkdir()
        put(spool, MESSAGE, Envelope(SENDER, RECIPIENTS))
        assert forward(spool, site.entry).code == 0
        assert site.receiver.mails() == [(SENDER, RECIPIENTS, MESSAGE)]
        tunnel.kill()
        tunnel.wait()
        assert site.send().startswith("451")
        with site.mail.stunnel(site.client):
            assert site.send().startswith("250")
        assert site.milter.mails() == [(SENDER, RECIPIENTS, MESSAGE)] * 2


def test_strangers(site: Site, tmp_path: Path) -> None:
    """No certificate, another one of the same name, plain text: nobody gets to milter or receiver."""
    stranger = Host(tmp_path / "s")
    with site.archive.stunnel(site.server):
        for port in (site.milter_port, site.smtp_port):
            assert _says(port, None) == b""
            assert _says(port, _context()) == b""
            assert _says(port, _context(stranger)) == b""
            assert _says(port, _context(site.mail)) != b""


def test_another_archive_host(site: Site, tmp_path: Path) -> None:
    """Whoever can turn the connection to another host gets no mail: it is deferred."""
    impostor = Host(tmp_path / "i")
    impostor.believe("mail-servers.pem", site.mail)
    text = site.server.replace("/run/benno-milter", str(site.archive.root))
    with impostor.stunnel(text), site.mail.stunnel(site.client):
        assert site.send().startswith("451")
        assert site.files() == []
        assert "certificate verify failed" in (site.mail.root / "stunnel.log").read_text()


def test_who_may_use_the_sockets(site: Site) -> None:
    """Postfix on the one side, stunnel on the other, and no other user."""
    with site.archive.stunnel(site.server), site.mail.stunnel(site.client):
        near = site.mail.here("/var/spool/postfix/benno-tunnel/milter.sock")
        far = site.archive.here("/run/benno-milter/benno-milter.sock")
        users = {
            (user, path): subprocess.run(
                ["runuser", "-u", user, "--", "test", "-w", path], check=False
            ).returncode
            == 0
            for user in ("postfix", "stunnel4", "nobody")
            for path in (near, far)
        }
        assert [who for who, may in users.items() if may] == [("postfix", near), ("stunnel4", far)]


def _context(host: Host | None = None) -> ssl.SSLContext:
    """Of a client that shows this host's certificate, and believes any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if host is not None:
        context.load_cert_chain(host.root / "benno.pem", host.root / "benno.key")
    return context


def _says(port: int, context: ssl.SSLContext | None) -> bytes:
    """What comes back to whoever asks for the milter's options, or waits for the greeting."""
    plain = socket.create_connection(("127.0.0.1", port), 30)
    with plain:
        try:
            connection = context.wrap_socket(plain) if context is not None else plain
            with connection:
                connection.sendall(negotiation())
                return connection.recv(100)
        except OSError:
            return b""
