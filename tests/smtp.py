"""An SMTP client that changes nothing: raw addresses, raw octets, one connection for many mails."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Sequence
from types import TracebackType


def stuffed(message: bytes) -> bytes:
    """What follows DATA: the dots doubled, and the end of the mail."""
    end = b".\r\n" if message.endswith(b"\r\n") or not message else b"\r\n.\r\n"
    return re.sub(rb"(?:^|(?<=\r\n))\.", b"..", message) + end


class Client:
    """One SMTP session. `replies` is the dialogue as seen so far.

    greeting: what is sent first, nothing if it is empty. source: the address that it comes from.
    """

    def __init__(
        self,
        port: int,
        timeout: float = 60.0,
        *,
        greeting: bytes = b"EHLO client.test",
        host: str = "127.0.0.1",
        source: str = "",
    ) -> None:
        self.socket = socket.create_connection((host, port), timeout, (source, 0))
        self.stream = self.socket.makefile("rb")
        self.replies: list[str] = []
        self.read()
        if greeting:
            self.command(greeting)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def command(self, line: bytes) -> str:
        """Send one line; the last line of the reply."""
        self.socket.sendall(line + b"\r\n")
        return self.read()

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
        return self.raw(stuffed(message))

    def raw(self, data: bytes) -> str:
        """Send octets as they are; the last line of the reply."""
        self.socket.sendall(data)
        return self.read()

    def bdat(self, chunk: bytes, *, last: bool = False) -> str:
        """One chunk; the reply."""
        return self.raw(b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if last else b"") + chunk)

    def hung_up(self) -> bool:
        """Whether the server closes, and says nothing more."""
        try:
            return self.stream.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.stream.close()  # while it is open, so is the connection
        self.socket.close()

    def reset(self) -> None:
        """Close with RST, as a host does that has lost its memory."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def read(self) -> str:
        """The last line of the next reply."""
        while True:
            line = self.stream.readline().decode("ascii", "backslashreplace").rstrip()
            if not line:
                raise EOFError(f"the server hung up after {self.replies}")
            self.replies.append(line)
            if line[3:4] != "-":
                return line

    _read = read  # for those who derive from it


def queue_id(reply: str) -> str:
    """The queue id in Postfix's reply to the end of data."""
    found = re.search(r"queued as (\S+)", reply)
    assert found, reply
    return found[1]
