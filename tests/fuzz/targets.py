"""What is fuzzed: functions that take any octets, and raise where something is not as it must be.

Each has fragments, of which inputs are made: what it takes for something, and pieces of that. An input
is also cut into pieces, at places that it chooses itself; that must change nothing.
"""

from __future__ import annotations

import functools
import random
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from benno_common import config
from benno_common.envelope import Envelope
from benno_common.mailfile import Decoder, Encoder, MailFileError
from benno_common.oldfile import OldDecoder
from benno_milter.event import ProtocolError
from benno_milter.wire import MAX_COMMAND
from benno_smtp.properties import convert
from benno_smtp.settings import Settings
from fuzz import material
from fuzz.memory import Archived, MemoryArchive
from judges import lenient_view
from mailfile_streams import cut, octets
from milter_hand import logged
from milter_memory import MemoryMilter
from milter_packets import SESSION


@dataclass(frozen=True)
class Target:
    """name: of the target. check: takes an input; says how many mails, or files, came of it.

    examples: inputs of which something comes. fragments: of inputs.
    """

    name: str
    check: Callable[[bytes], int]
    examples: tuple[bytes, ...]
    fragments: tuple[bytes, ...]

    def __str__(self) -> str:
        return self.name


def pieces_of(data: bytes) -> list[bytes]:
    """The input in single octets, or cut at a few places; always the same for the same input."""
    chance = random.Random(zlib.crc32(data))
    if len(data) < 500 and chance.random() < 0.5:
        return octets(data)
    return cut(data, [chance.randrange(len(data) + 1) for _ in range(chance.randrange(9))])


# Milter packets


def milter_packets(data: bytes) -> int:
    """Rubbish is a ProtocolError; what is kept has addresses that came; nothing is held for ever."""
    whole, understood = _milter([data])
    cutting, also = _milter(pieces_of(data))
    assert (whole.archive.kept, understood) == (cutting.archive.kept, also)
    for sender, recipients, _ in whole.archive.kept:
        for address in (sender, *recipients):
            assert address in data, f"nobody said {address!r}"
            assert not set(address) & set(b"\r\n\0")
    if understood:
        assert cutting.wire.waiting <= MAX_COMMAND + 5
    return len(whole.archive.kept)


def _milter(pieces: list[bytes]) -> tuple[MemoryMilter, bool]:
    milter = MemoryMilter()
    try:
        milter.receive(*pieces)
    except ProtocolError:
        return milter, False
    return milter, True


# SMTP dialogue

_REPLIES = re.compile(rb"(?:[2-5][0-9]{2}[ -][\x20-\x7e]*\r\n)*")


def smtp_dialogue(data: bytes) -> int:
    """Every reply is one; what is stored was answered, and its addresses and lines were sent."""
    with logged() as lines:
        at_once = archive().converse([data])
        in_pieces = archive().converse(pieces_of(data))
    assert not [line for line in lines if "unexpected" in line or "ERROR" in line], lines
    assert at_once.stored == in_pieces.stored
    if at_once.whole and in_pieces.whole:
        assert at_once.replies == in_pieces.replies
        assert at_once.replies.count(b"\n250 2.0.0 Stored as") == len(at_once.stored)
    assert _REPLIES.fullmatch(at_once.replies), at_once.replies
    for mail in at_once.stored:
        _expect_sent(data, mail)
    return len(at_once.stored)


def _expect_sent(data: bytes, mail: Archived) -> None:
    sender, recipients, message = mail
    assert recipients
    for address in (sender, *recipients):
        assert address in data, f"nobody said {address!r}"
        assert not set(address) & set(b"\r\n\0")
    if b"BDAT" not in data.upper():
        missing = [line for line in message.split(b"\r\n") if line not in data]
        assert not missing, f"nobody sent {missing}"


@functools.cache
def archive() -> MemoryArchive:
    return MemoryArchive()


# Mail files


def mail_files(data: bytes) -> int:
    """What is read is written again as it was read; a reader sees no other envelope; pieces are one."""
    for kind in (Decoder, OldDecoder):
        assert _decode(kind, [data]) == _decode(kind, pieces_of(data))
    read = _decode(Decoder, [data])
    envelope, message = read or (Envelope(b"a@b", (b"c@d",)), data)
    encoder = Encoder(envelope)
    file = encoder.start() + b"".join(map(encoder.feed, pieces_of(message))) + encoder.finish()
    assert _decode(Decoder, [file]) == (envelope, message)
    seen = lenient_view(file)
    assert seen == lenient_view(Encoder(envelope).start() + b"\r\n"), seen
    return read is not None


def _decode(kind: type[Decoder], pieces: list[bytes]) -> tuple[Envelope, bytes] | None:
    decoder = kind()
    try:
        message = b"".join(map(decoder.feed, pieces)) + decoder.finish()
    except MailFileError:
        return None
    assert decoder.envelope is not None
    return decoder.envelope, message


# Configuration


def configuration(data: bytes) -> int:
    """Settings, or a complaint that names file and line and shows no value; what is converted stays."""
    text = data.decode("latin-1")
    converted = convert(text, Settings).text
    try:
        settings = config.parse(converted, "benno-smtp.conf", Settings)
    except config.ConfigError as error:
        assert str(error).startswith("benno-smtp.conf:")
        assert "s3cret" not in str(error) or not _is_secret(text)
        return 0
    assert convert(converted, Settings).text == converted
    assert config.parse(convert(converted, Settings).text, "x", Settings) == settings
    others = {key: value for key, value in vars(settings).items() if not key.endswith("_pass")}
    assert "s3cret" not in str(settings.shown()) or "s3cret" in str(others)
    return 1


def _is_secret(text: str) -> bool:
    """Whether the password stands nowhere else, in the name of a key say."""
    return text.count("s3cret") == len(re.findall(r"_pass[ \t]*[=:][ \t]*[\"']?s3cret", text))


TARGETS = (
    Target("milter packets", milter_packets, (SESSION,), material.MILTER),
    Target("SMTP dialogue", smtp_dialogue, material.SMTP_EXAMPLES, material.SMTP),
    Target("mail files", mail_files, material.FILES_EXAMPLES, material.FILES),
    Target("configuration", configuration, material.CONFIGURATION_EXAMPLES, material.CONFIGURATION),
)
