"""The milter protocol's numbers, replies and negotiation, which are purepythonmilter's."""

from __future__ import annotations

import struct

from purepythonmilter.api.models import RequestProtocolFlags
from purepythonmilter.protocol import commands, definitions, responses

from benno_milter.event import ProtocolError

CONNECT = commands.Connect.command_char
HELO = commands.Helo.command_char
DATA = commands.Data.command_char
UNKNOWN = commands.Unknown.command_char
NEGOTIATE = commands.OptionsNegotiate.command_char
MACRO = commands.DefineMacro.command_char
MAIL = commands.MailFrom.command_char
RCPT = commands.RcptTo.command_char
HEADER = commands.Header.command_char
END_OF_HEADERS = commands.EndOfHeaders.command_char
BODY = commands.BodyChunk.command_char
END = commands.EndOfMessage.command_char
ABORT = commands.Abort.command_char
QUIT = commands.Quit.command_char
NEW_SESSION = commands.QuitNoClose.command_char
COMMANDS = frozenset(commands.chars_to_command_registry)

# The MTA leaves the blanks at the beginning of header values alone.
LEADING_SPACE = definitions.ProtocolFlagsOther.HEADER_VALUE_LEADING_SPACE.value
# Commands that are answered unless this bit of the protocol flags was agreed on.
_flags = definitions.ProtocolFlagsDisableCallback
NO_REPLY = {
    CONNECT: _flags.REPLY_CONNECTION.value,
    HELO: _flags.REPLY_HELO.value,
    MAIL: _flags.REPLY_MAIL_FROM.value,
    RCPT: _flags.REPLY_RCPT_TO.value,
    DATA: _flags.REPLY_DATA.value,
    UNKNOWN: _flags.REPLY_UNKNOWN.value,
    HEADER: _flags.REPLY_HEADERS.value,
    END_OF_HEADERS: _flags.REPLY_END_OF_HEADERS.value,
    BODY: _flags.REPLY_BODY_CHUNK.value,
}
# Sendmail's packets of 256 KiB or 1 MiB (SMFIP_MDS_*, which purepythonmilter does not know); without
# them it cannot pass on a header of more than 65,535 octets.
_LARGE_PACKETS = 0x30000000
_SET_MACROS = definitions.ActionFlags.SET_MACROS_LIST.value

_LENGTH = struct.Struct("!I")
_OFFER = struct.Struct("!III")  # version, actions, protocol flags

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


def agree(data: bytes) -> tuple[int, bytes]:
    """The protocol flags that both sides know, and the packet that says so. data: the MTA's offer.

    Anything that was not offered would make the MTA give up. Raises ProtocolError.
    """
    if len(data) < _OFFER.size:
        raise ProtocolError(f"a negotiation of {len(data)} octets")
    version, actions, flags = _OFFER.unpack_from(data)
    our_version, our_actions, our_flags = _OFFER.unpack_from(_WISHES, 1)
    actions &= our_actions
    agreed = flags & (our_flags | _LARGE_PACKETS)
    offer = _OFFER.pack(min(version, our_version), actions, agreed)
    macros = _WISHES[1 + _OFFER.size :] if actions & _SET_MACROS else b""
    return agreed, packet(_WISHES[:1] + offer + macros)


def packet(payload: bytes) -> bytes:
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
    return packet(kind(**packed).encode())


CONTINUE = packet(responses.Continue().encode())
PROGRESS = packet(responses.Progress().encode())
