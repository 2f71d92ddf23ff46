"""The milter protocol: packets to events. No socket, no clock, no log.

A packet is a length of four octets, a command of one, and data. The MTA's commands:

    O  negotiation           D  macros of the next command     C H T U  connection, HELO, DATA, unknown
    M  MAIL    R  RCPT       L  one header    N  end of headers    B  body chunk    E  end of message
    A  abort the mail        K  new session on this connection     Q  quit

Header, end of headers and body become `Content`: the octets of the message as the MTA holds it. It is
handed out as it arrives, so that no packet need fit into memory; content of many packets comes as one
event where no reply is owed between them.

purepythonmilter's decoders are not used: they take packets over 65,536 octets and some ESMTP parameters
for violations (Postfix sends both).
"""

from __future__ import annotations

import re
import struct

from benno_milter import event as events
from benno_milter.header import MAX_NAME, HeaderText, with_crlf
from benno_milter.protocol import (
    ABORT,
    BODY,
    COMMANDS,
    END,
    END_OF_HEADERS,
    HEADER,
    LEADING_SPACE,
    MACRO,
    MAIL,
    NEGOTIATE,
    NEW_SESSION,
    NO_REPLY,
    QUIT,
    RCPT,
    agree,
)

# A command other than header or body must fit into memory: addresses, ESMTP arguments, macros.
MAX_COMMAND = 256 * 1024
MAX_CONTENT = 256 * 1024 * 1024  # a longer header or body chunk is nonsense, not mail

_CONTENT = (HEADER, END_OF_HEADERS, BODY)
_QUIET = (*_CONTENT, MACRO)
_ENDINGS = {END: None, ABORT: events.Abort(), NEW_SESSION: events.NewSession()}  # the queue id is over

_LENGTH = struct.Struct("!I")
_BEGIN = struct.Struct("!IB")  # length and command

# A header's packet, if its length is that of the match.
_HEADER = re.compile(rb"....L([^\0]{0,%d}+)\0([^\0]*+)\0" % MAX_NAME, re.DOTALL)


class Wire:
    """One connection's packets: `receive()` octets, then `next_event()` until it returns None.

    queue_id: the queue id of the mail under way, as far as the MTA has told it.
    """

    def __init__(self) -> None:
        self.queue_id: str | None = None
        self._buffer = bytearray()
        self._position = 0  # octets of the buffer that were taken
        self._agreed = 0  # the protocol flags
        self._macros = b""  # those learnt last; before each header come the same
        self._unanswered: frozenset[int] = frozenset()  # content and macros, where no reply is owed
        self._command = b""  # of the packet that has begun, or nothing
        self._left = 0  # its octets of data that were not taken yet

    @property
    def exact(self) -> bool:
        """Whether the MTA agreed to leave the blanks at the beginning of header values alone."""
        return bool(self._agreed & LEADING_SPACE)

    @property
    def waiting(self) -> int:
        """Octets that were received and not taken."""
        return len(self._buffer) - self._position

    def receive(self, data: bytes | memoryview) -> None:
        self._let_go()
        self._buffer += data

    def _let_go(self) -> None:
        """Of what was taken: a connection that waits holds nothing of a mail that has ended."""
        del self._buffer[: self._position]
        self._position = 0

    def next_event(self) -> events.Event | None:
        """The next event, or None while more octets are needed. Raises ProtocolError."""
        content: list[bytes] = []
        while self._command or self._begin_packet(content):
            if self._command in _CONTENT or (self._command == END and self._left):
                owed = self._owes(self._command)
                if not self._take_content(content):
                    break
                if owed:
                    return events.Content(b"".join(content), owed=True)
            elif content or self.waiting < self._left:
                break
            elif event := self._take_command():
                return event
        self._let_go()
        return events.Content(b"".join(content), owed=False) if content else None

    def _take_whole_packets(self, content: list[bytes]) -> None:
        """Take macros, and append content, up to a packet that is not whole or is something else.

        This is no more than the loop of next_event does, for what a mail mostly consists of, in less
        time.
        """
        buffer, position, end = self._buffer, self._position, len(self._buffer)
        separator, unanswered = self._separator, self._unanswered
        headers = HEADER[0] in unanswered
        while True:
            if buffer.startswith(self._macros, position):  # Postfix repeats them before each header
                position += len(self._macros)
            if headers and (header := _HEADER.match(buffer, position)):
                after = header.end()
                if _LENGTH.unpack_from(buffer, position)[0] == after - position - 4:
                    name, value = header.groups()
                    content += (name, separator, with_crlf(value), b"\r\n")
                    position = after
                    continue
            if end - position < 5:
                break
            length, command = _BEGIN.unpack_from(buffer, position)
            after = position + 4 + length
            if after > end or not length or command not in unanswered or command == HEADER[0]:
                break
            if command == END_OF_HEADERS[0]:
                content.append(b"\r\n")
            elif command == MACRO[0]:
                self._learn(bytes(buffer[position:after]))
            elif length > 1:
                content.append(bytes(buffer[position + 5 : after]))
            position = after
        self._position = position

    def _begin_packet(self, content: list[bytes]) -> bool:
        """Take the length and command of the next packet; False while they are not there."""
        self._take_whole_packets(content)
        if self.waiting < 4:
            return False
        (length,) = _LENGTH.unpack_from(self._buffer, self._position)
        if not length:
            raise events.ProtocolError("a packet of length 0")
        if self.waiting < 5:
            return False
        command = bytes(self._buffer[self._position + 4 : self._position + 5])
        if command not in COMMANDS:
            raise events.ProtocolError(f"a packet of {length} octets with unknown command {command!r}")
        if length > (MAX_CONTENT if command in (HEADER, BODY, END) else MAX_COMMAND):
            raise events.ProtocolError(f"a packet of {length} octets with command {command!r}")
        self._position += 5
        self._command, self._left = command, length - 1
        if command == HEADER:
            self._header = HeaderText(self._separator)
        return True

    @property
    def _separator(self) -> bytes:
        return b":" if self._agreed & LEADING_SPACE else b": "

    def _owes(self, command: bytes) -> bool:
        """Whether the MTA waits for a reply to a command that is not always answered."""
        return command in NO_REPLY and not self._agreed & NO_REPLY[command]

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[self._position : self._position + size])
        self._position += size
        self._left -= size
        return data

    def _take_content(self, content: list[bytes]) -> bool:
        """Append what there is of a packet with content; whether that was all of it."""
        available = min(self._left, self.waiting)
        last = available == self._left
        data = self._take(available)
        if self._command == HEADER:
            data = self._header.feed(data, last=last)
        elif self._command == END_OF_HEADERS:
            data = b"\r\n" if last else b""
        if data:
            content.append(data)
        if not last:
            return False
        if self._command != END:
            self._command = b""
        return True

    def _take_command(self) -> events.Event | None:
        """A whole packet other than content as an event; None for macros."""
        command, data = self._command, self._take(self._left)
        self._command = b""
        event: events.Event | None = None
        if command == MACRO:
            self._learn(_BEGIN.pack(len(data) + 1, MACRO[0]) + data)
        elif command == NEGOTIATE:
            self._agreed, reply = agree(data)
            self._unanswered = frozenset(one[0] for one in _QUIET if not self._owes(one))
            event = events.Negotiation(reply)
        elif command == MAIL:
            event = events.Mail(_address(data))
        elif command == RCPT:
            event = events.Rcpt(_address(data), owed=self._owes(command))
        elif command == QUIT:
            event = events.Quit()
        elif command in _ENDINGS:
            queue_id, self.queue_id, self._macros = self.queue_id, None, b""
            event = events.EndOfMessage(queue_id) if command == END else _ENDINGS[command]
        else:
            event = events.Ignored(owed=self._owes(command))
        return event

    def _learn(self, packet: bytes) -> None:
        """Macros: length, D, the command they belong to, then names and values, each with NUL."""
        before, self._macros = self._macros, packet
        if packet[6:] == before[6:] or (b"i\0" not in packet and b"i}\0" not in packet):
            return
        strings = packet[6:].split(b"\0")
        for name, value in zip(strings[::2], strings[1::2], strict=False):
            if name in {b"i", b"{i}"} and value:
                self.queue_id = value.decode("ascii", "backslashreplace")


def _address(data: bytes) -> bytes:
    address, nul, _ = data.partition(b"\0")
    if not nul:
        raise events.ProtocolError("an address that does not end in NUL")
    return address
