"""An SMTP client that changes nothing: raw addresses, raw octets, one connection for many mails."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from types import TracebackType


class Client:
    """One SMTP session on loopback. `replies` is the dialogue as seen so far."""

    def __init__(self, port: int, timeout: float = 60.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.stream = self.socket.makefile("rb")
        self.replies: list[str] = []
        self._read()
        self.command(b"EHLO client.test")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()
        self.socket.close()

    def command(self, line: bytes) -> str:
        """Send one line; the last line of the reply."""
        self.socket.sendall(line + b"\r\n")
        return self._read()

    def envelope(self, sender: bytes, recipients: Sequence[bytes]) -> list[str]:
        """MAIL and RCPT; the refusals."""
        replies = [self.command(b"MAIL FROM:<" + sender + b"> BODY=8BITMIME")]
        replies += [self.command(b"RCPT TO:<" + recipient + b">") for recipient in recipients]
        return [reply for reply in replies if not reply.startswith("250")]

    def send(self, sender: bytes, recipients: Sequence[bytes], message: bytes) -> str:
        """One mail; the last reply. After a refusal the session is ready for the next."""
        if refused := self.envelope(sender, recipients):
            self.command(b"RSET")
            return refused[0]
        reply = self.command(b"DATA")
        if not reply.startswith("354"):
            return reply
        stuffed = re.sub(rb"(?:^|(?<=\r\n))\.", b"..", message)
        end = b".\r\n" if message.endswith(b"\r\n") or not message else b"\r\n.\r\n"
        self.socket.sendall(stuffed + end)
        return self._read()

    def _read(self) -> str:
        while True:
            line = self.stream.readline().decode("ascii", "backslashreplace").rstrip()
            if not line:
                raise EOFError(f"the server hung up after {self.replies}")
            self.replies.append(line)
            if line[3:4] != "-":
                return line


def queue_id(reply: str) -> str:
    """The queue id in Postfix's reply to the end of data."""
    found = re.search(r"queued as (\S+)", reply)
    assert found, reply
    return found[1]
