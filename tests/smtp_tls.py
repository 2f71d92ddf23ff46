"""An SMTP client that can speak TLS; else as `smtp`."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from smtp import Client

NAME = "archive.test"


def trusting(cert: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cert))


class TlsClient(Client):
    """cert: what it believes in. own: what it shows. implicit: TLS before anything else."""

    def __init__(
        self, port: int, cert: Path, *, implicit: bool = False, own: tuple[Path, Path] | None = None
    ) -> None:
        self.context = trusting(cert)
        if own is not None:
            self.context.load_cert_chain(*own)
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.replies: list[str] = []
        if implicit:
            self.wrap()
        self.stream = self.socket.makefile("rb")
        self.read()

    def __enter__(self) -> TlsClient:
        return self

    def wrap(self) -> ssl.SSLSocket:
        wrapped = self.context.wrap_socket(self.socket, server_hostname=NAME)
        self.socket = wrapped
        return wrapped

    def starttls(self) -> ssl.SSLSocket:
        assert self.command(b"STARTTLS") == "220 2.0.0 Ready to start TLS"
        self.stream.close()
        wrapped = self.wrap()
        self.stream = self.socket.makefile("rb")
        return wrapped

    def ehlo(self) -> list[str]:
        """The keywords."""
        before = len(self.replies)
        assert self.command(b"EHLO client.test").startswith("250 ")
        return [line[4:] for line in self.replies[before:]]
