"""An MTA's side of the milter protocol, for tests: blocking, one connection, nothing hidden.

    with MTA(address) as mta:
        mta.negotiate()
        reply = mta.deliver(b"<a@b>", [b"<c@d>"], [(b"Subject", b" hi")], b"body\\r\\n")

`address` is a path for a Unix socket or a (host, port) pair. Replies are pairs of command and data;
`verdict()` turns the one at the end of a message into `accepted` or the SMTP reply.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from types import TracebackType

Header = tuple[bytes, bytes]  # name, and value with its leading blank, folded with bare LF

ALL_ACTIONS = 0x1FF
ALL_PROTOCOL = 0x1FFFFF
NO_REPLIES = 0x0FF080  # SMFIP_NR_*
LEADING_SPACE = 0x100000


class MTA:
    """One connection to a milter. agreed: protocol flags, after negotiate()."""

    def __init__(self, address: str | tuple[str, int], timeout: float = 60.0) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        self.agreed = 0
        self.recorded = bytearray()  # all octets sent

    def __enter__(self) -> MTA:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    # Packets

    def send_raw(self, data: bytes) -> None:
        self.recorded += data
        self.socket.sendall(data)

    def send(self, command: bytes, data: bytes = b"") -> None:
        self.send_raw(packet(command, data))

    def reply(self) -> tuple[bytes, bytes]:
        """The next packet from the milter. Raises EOFError if it hung up."""
        (length,) = struct.unpack("!I", self._receive(4))
        payload = self._receive(length)
        return payload[:1], payload[1:]

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError("the milter closed the connection")
            data += piece
        return data

    # The protocol

    def negotiate(
        self, version: int = 6, actions: int = ALL_ACTIONS, protocol: int = ALL_PROTOCOL
    ) -> bytes:
        """Offer, and return the answer's data: three words and the list of macros."""
        self.send(b"O", struct.pack("!III", version, actions, protocol))
        command, data = self.reply()
        assert command == b"O", (command, data)
        self.agreed = struct.unpack_from("!I", data, 8)[0]
        return data

    def macros(self, command: bytes, **values: str) -> None:
        strings = b"".join(f"{name}\0{value}\0".encode() for name, value in values.items())
        self.send(b"D", command + strings)

    def command(self, command: bytes, data: bytes, no_reply: int) -> tuple[bytes, bytes] | None:
        """Send a command and wait for the reply unless it was agreed that there is none."""
        self.send(command, data)
        return None if self.agreed & no_reply else self.reply()

    def mail(self, sender: bytes, *arguments: bytes) -> tuple[bytes, bytes] | None:
        return self.command(b"M", strings(sender, *arguments), 0x4000)

    def rcpt(self, recipient: bytes, *arguments: bytes) -> tuple[bytes, bytes] | None:
        return self.command(b"R", strings(recipient, *arguments), 0x8000)

    def header(self, name: bytes, value: bytes) -> tuple[bytes, bytes] | None:
        if not self.agreed & LEADING_SPACE and value.startswith(b" "):
            value = value[1:]
        return self.command(b"L", strings(name, value), 0x80)

    def end_of_headers(self) -> tuple[bytes, bytes] | None:
        return self.command(b"N", b"", 0x40000)

    def body(self, data: bytes, chunk: int = 65535) -> None:
        for start in range(0, len(data), chunk):
            self.command(b"B", data[start : start + chunk], 0x80000)

    def end_of_message(self, data: bytes = b"") -> str:
        self.send(b"E", data)
        return self.verdict()

    def verdict(self) -> str:
        """`accepted`, or the SMTP reply; progress packets are passed over."""
        while True:
            command, data = self.reply()
            if command == b"p":
                continue
            if command in {b"c", b"a"}:
                return "accepted"
            assert command == b"y", (command, data)
            return data.rstrip(b"\0").decode()

    def deliver(
        self,
        sender: bytes,
        recipients: Iterable[bytes],
        headers: Iterable[Header],
        body: bytes,
        queue_id: str = "QUEUEID",
        *,
        chunk: int = 65535,
    ) -> str:
        """One whole mail as Postfix sends it; the verdict, or the refusal of MAIL."""
        self.macros(b"M")
        answer = self.mail(sender)
        if answer and answer[0] != b"c":
            return answer[1].rstrip(b"\0").decode()
        for recipient in recipients:
            self.macros(b"R")
            self.rcpt(recipient)
        for name, value in headers:
            self.macros(b"L")
            self.header(name, value)
        self.end_of_headers()
        self.body(body, chunk)
        self.macros(b"E", i=queue_id)
        return self.end_of_message()


def packet(command: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + command + data


def strings(*values: bytes) -> bytes:
    return b"".join(value + b"\0" for value in values)


def message_of(headers: Iterable[Header], body: bytes) -> bytes:
    """The octets of the message that `deliver()` sends."""
    lines = [name + b":" + value.replace(b"\n", b"\r\n") + b"\r\n" for name, value in headers]
    return b"".join(lines) + b"\r\n" + body
