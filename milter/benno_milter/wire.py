"""The milter protocol: packets to events, and replies to packets. No socket, no clock, no log.

A packet is a length of four octets, a command of one, and data. The MTA's commands:

    O  negotiation           D  macros of the next command     C H T U  connection, HELO, DATA, unknown
    M  MAIL    R  RCPT       L  one header    N  end of headers    B  body chunk    E  end of message
    A  abort the mail        K  new session on this connection     Q  quit

Header, end of headers and body become `Content`: the octets of the message as the MTA holds it. It is
handed out as it arrives, so that no packet need fit into memory; content of many packets comes as one
event where no reply is owed between them.

The numbers and the encoding of replies are purepythonmilter's. Its decoders are not used: they take
packets over 65,536 octets and some ESMTP parameters for violations (Postfix sends both).
"""

from __future__ import annotations

import struct

from purepythonmilter.api.models import RequestProtocolFlags
from purepythonmilter.protocol import commands, definitions, responses

from benno_milter import event as events
from benno_milter.header import HeaderText

# A command other than header or body must fit into memory: addresses, ESMTP arguments, macros.
MAX_COMMAND = 256 * 1024
MAX_CONTENT = 256 * 1024 * 1024  # a longer header or body chunk is nonsense, not mail

_LEADING_SPACE = definitions.ProtocolFlagsOther.HEADER_VALUE_LEADING_SPACE.value
# Sendmail's packets of 256 KiB or 1 MiB (SMFIP_MDS_*, which purepythonmilter does not know); without
# them it cannot pass on a header of more than 65,535 octets.
_LARGE_PACKETS = 0x30000000
_SET_MACROS = definitions.ActionFlags.SET_MACROS_LIST.value

_NEGOTIATE = commands.OptionsNegotiate.command_char
_MACRO = commands.DefineMacro.command_char
_MAIL = commands.MailFrom.command_char
_RCPT = commands.RcptTo.command_char
_HEADER = commands.Header.command_char
_END_OF_HEADERS = commands.EndOfHeaders.command_char
_BODY = commands.BodyChunk.command_char
_END = commands.EndOfMessage.command_char
_ABORT = commands.Abort.command_char
_QUIT = commands.Quit.command_char
_NEW_SESSION = commands.QuitNoClose.command_char
_CONTENT = (_HEADER, _END_OF_HEADERS, _BODY)
_ENDINGS = {
    _END: None,
    _ABORT: events.Abort(),
    _NEW_SESSION: events.NewSession(),
}  # the queue id is over
_COMMANDS = frozenset(commands.chars_to_command_registry)

_LENGTH = struct.Struct("!I")
_OFFER = struct.Struct("!III")  # version, actions, protocol flags

# Commands that are answered unless this bit of the protocol flags was agreed on.
_flags = definitions.ProtocolFlagsDisableCallback
_NO_REPLY = {
    commands.Connect.command_char: _flags.REPLY_CONNECTION.value,
    commands.Helo.command_char: _flags.REPLY_HELO.value,
    _MAIL: _flags.REPLY_MAIL_FROM.value,
    _RCPT: _flags.REPLY_RCPT_TO.value,
    commands.Data.command_char: _flags.REPLY_DATA.value,
    commands.Unknown.command_char: _flags.REPLY_UNKNOWN.value,
    _HEADER: _flags.REPLY_HEADERS.value,
    _END_OF_HEADERS: _flags.REPLY_END_OF_HEADERS.value,
    _BODY: _flags.REPLY_BODY_CHUNK.value,
}

# What we ask for: envelope, headers, body; replies to MAIL and end-of-message only; one macro.
_WISHES = responses.OptionsNegotiateResponse(
    protocol_flags=RequestProtocolFlags(
        call_mail_from=True,
        call_rcpt_to=True,
        call_headers=True,
        call_end_of_headers=True,
        call_body_chunk=True,
        reply_mail_from=True,
        headers_with_leading_space=True,
        can_skip_body_chunks=False,
    ),
    symbols_for_stage={definitions.MacroStage.END_OF_MESSAGE: {"i"}},
).encode()


class Wire:
    """One connection's packets: `receive()` octets, then `next_event()` until it returns None.

    queue_id: the queue id of the mail under way, as far as the MTA has told it.
    """

    def __init__(self) -> None:
        self.queue_id: str | None = None
        self._buffer = bytearray()
        self._position = 0  # octets of the buffer that were taken
        self._agreed = 0  # the protocol flags
        self._command = b""  # of the packet that has begun, or nothing
        self._left = 0  # its octets of data that were not taken yet

    @property
    def exact(self) -> bool:
        """Whether the MTA agreed to leave the blanks at the beginning of header values alone."""
        return bool(self._agreed & _LEADING_SPACE)

    @property
    def waiting(self) -> int:
        """Octets that were received and not taken."""
        return len(self._buffer) - self._position

    def receive(self, data: bytes | memoryview) -> None:
        del self._buffer[: self._position]
        self._position = 0
        self._buffer += data

    def next_event(self) -> events.Event | None:
        """The next event, or None while more octets are needed. Raises ProtocolError."""
        content: list[bytes] = []
        while self._command or self._begin_packet():
            if self._command in _CONTENT or (self._command == _END and self._left):
                owed = self._owes(self._command)
                if not self._take_content(content):
                    break
                if owed:
                    return events.Content(b"".join(content), owed=True)
            elif content or self.waiting < self._left:
                break
            elif event := self._take_command():
                return event
        return events.Content(b"".join(content), owed=False) if content else None

    def _begin_packet(self) -> bool:
        """Take the length and command of the next packet; False while they are not there."""
        if self.waiting < 4:
            return False
        (length,) = _LENGTH.unpack_from(self._buffer, self._position)
        if not length:
            raise events.ProtocolError("a packet of length 0")
        if self.waiting < 5:
            return False
        command = bytes(self._buffer[self._position + 4 : self._position + 5])
        if command not in _COMMANDS:
            raise events.ProtocolError(f"a packet of {length} octets with unknown command {command!r}")
        if length > (MAX_CONTENT if command in (_HEADER, _BODY, _END) else MAX_COMMAND):
            raise events.ProtocolError(f"a packet of {length} octets with command {command!r}")
        self._position += 5
        self._command, self._left = command, length - 1
        if command == _HEADER:
            self._header = HeaderText(b":" if self._agreed & _LEADING_SPACE else b": ")
        return True

    def _owes(self, command: bytes) -> bool:
        """Whether the MTA waits for a reply to a command that is not always answered."""
        return command in _NO_REPLY and not self._agreed & _NO_REPLY[command]

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
        if self._command == _HEADER:
            data = self._header.feed(data, last=last)
        elif self._command == _END_OF_HEADERS:
            data = b"\r\n" if last else b""
        if data:
            content.append(data)
        if not last:
            return False
        if self._command != _END:
            self._command = b""
        return True

    def _take_command(self) -> events.Event | None:
        """A whole packet other than content as an event; None for macros."""
        command, data = self._command, self._take(self._left)
        self._command = b""
        event: events.Event | None = None
        if command == _MACRO:
            self._learn(data)
        elif command == _NEGOTIATE:
            event = events.Negotiation(self._negotiate(data))
        elif command == _MAIL:
            event = events.Mail(_address(data))
        elif command == _RCPT:
            event = events.Rcpt(_address(data), owed=self._owes(command))
        elif command == _QUIT:
            event = events.Quit()
        elif command in _ENDINGS:
            queue_id, self.queue_id = self.queue_id, None
            event = events.EndOfMessage(queue_id) if command == _END else _ENDINGS[command]
        else:
            event = events.Ignored(owed=self._owes(command))
        return event

    def _learn(self, data: bytes) -> None:
        """Macros: the command they belong to, then names and values, each with NUL."""
        strings = data[1:].split(b"\0")
        for name, value in zip(strings[::2], strings[1::2], strict=False):
            if name in {b"i", b"{i}"} and value:
                self.queue_id = value.decode("ascii", "backslashreplace")

    def _negotiate(self, data: bytes) -> bytes:
        """Agree on what both know; anything not offered makes the MTA give up."""
        if len(data) < _OFFER.size:
            raise events.ProtocolError(f"a negotiation of {len(data)} octets")
        version, actions, flags = _OFFER.unpack_from(data)
        our_version, our_actions, our_flags = _OFFER.unpack_from(_WISHES, 1)
        actions &= our_actions
        self._agreed = flags & (our_flags | _LARGE_PACKETS)
        offer = _OFFER.pack(min(version, our_version), actions, self._agreed)
        macros = _WISHES[1 + _OFFER.size :] if actions & _SET_MACROS else b""
        return _packet(_WISHES[:1] + offer + macros)


def _address(data: bytes) -> bytes:
    address, nul, _ = data.partition(b"\0")
    if not nul:
        raise events.ProtocolError("an address that does not end in NUL")
    return address


def _packet(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + payload


def refusal(reply: str) -> bytes:
    """The packet for an SMTP reply of the form `451 4.3.0 Text`: 4xx or 5xx, no percent sign in it."""
    code, enhanced, text = reply.split(" ", 2)
    packed = {
        "primary_code": tuple(map(int, code)),
        "enhanced_code": tuple(map(int, enhanced.split("."))),
        "text": text,
    }
    kind = responses.TempFailWithCode if code.startswith("4") else responses.RejectWithCode
    return _packet(kind(**packed).encode())


CONTINUE = _packet(responses.Continue().encode())
PROGRESS = _packet(responses.Progress().encode())
