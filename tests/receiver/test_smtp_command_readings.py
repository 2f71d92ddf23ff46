"""Where an address ends, tried on what the grammar describes, on any octets and on every short text.

The readers here go octet by octet; an address that two of them would end at two places is refused.
"""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benno_common.xtext import encode_xtext
from benno_smtp.command import CommandError, MailCommand, RcptCommand, parse_mail, parse_rcpt

pytestmark = pytest.mark.slow

examples = settings(derandomize=True, deadline=None, max_examples=300)

REPLY = re.compile(r"5[0-9][0-9] 5\.[0-9]\.[0-9] [\x20-\x7e]{1,100}")

# The grammar of RFC 5321 4.1.2, with any octet in a quoted string but those that no mail file can hold.
LETTERS = [letter for letter in map(chr, range(0x21, 0x7F)) if letter not in '"<>@\\,:[]']
WORDS = st.text(st.sampled_from([*LETTERS, "ü", "例"]), min_size=1).map(str.encode)
INSIDE = st.binary(min_size=1, max_size=1).filter(lambda octet: octet not in b'\r\n\0"\\')
PAIRS = st.sampled_from([b"\\" + bytes([octet]) for octet in range(256) if octet not in b"\r\n\0"])
TRAPS = st.sampled_from([b"> ", b"> SIZE=1 ", b"<", b'\\"> ', b"@"])
QUOTED = st.lists(INSIDE | PAIRS | TRAPS).map(lambda parts: b'"' + b"".join(parts) + b'"')
DOMAINS = WORDS | WORDS.map(lambda word: b"[IPv6:" + word + b"]")
ROUTES = st.lists(DOMAINS, min_size=1).map(lambda hops: b",".join(b"@" + hop for hop in hops) + b":")
MAILBOXES = st.builds(
    lambda local, domain: local + domain, WORDS | QUOTED, DOMAINS.map(lambda d: b"@" + d) | st.just(b"")
)
PATHS = st.builds(lambda route, mailbox: route + mailbox, ROUTES | st.just(b""), MAILBOXES)
BLANKS = st.text(" \t", min_size=1, max_size=3).map(str.encode)
XTEXTS = st.binary(min_size=1)
COMMANDS = st.builds(
    MailCommand,
    sender=PATHS | st.just(b""),
    size=st.none() | st.integers(0, 10**20 - 1),
    body=st.sampled_from([None, b"7BIT", b"8BITMIME", b"BINARYMIME"]),
    smtputf8=st.booleans(),
    gateway=st.none()
    | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1).map(str.encode),
    ident=st.none() | XTEXTS,
)
IGNORED = st.sampled_from([b"RET=HDRS", b'AUTH="x>', b"AUTH=<>", b"RET=a=b"])


def words_of(command: MailCommand) -> list[bytes]:
    """The parameters that say what the command says."""
    words = []
    if command.size is not None:
        words.append(b"SIZE=%d" % command.size)
    if command.body is not None:
        words.append(b"BODY=" + command.body)
    if command.smtputf8:
        words.append(b"SMTPUTF8")
    if command.gateway is not None:
        words.append(b"XBENNO-GW=" + encode_xtext(command.gateway))
    if command.ident is not None:
        words.append(b"XBENNO-ID=" + encode_xtext(command.ident))
    return words


@examples
@given(command=COMMANDS, ignored=IGNORED, blanks=BLANKS, data=st.data())
def test_what_the_grammar_describes_comes_back(
    command: MailCommand, ignored: bytes, blanks: bytes, data: st.DataObject
) -> None:
    words = data.draw(st.permutations([*words_of(command), ignored]))
    argument = b"FROM:<" + command.sender + b">" + b"".join(blanks + word for word in words)
    assert parse_mail(argument) == command


def one_path(address: bytes) -> bool:
    """Neither blanks nor what no mail file holds, nor a bracket closed and another one opened."""
    return not set(address) & set(b"\r\n\0 \t") and not re.search(rb">.*<", address)


@examples
@given(command=COMMANDS, address=st.binary(min_size=1).filter(one_path))
def test_any_octets_without_blanks_come_from_the_forwarder(
    command: MailCommand, address: bytes
) -> None:
    """It can only put them between brackets, with parameters of its own behind."""
    words = [word for word in words_of(command) if not word.startswith(b"XBENNO-")]
    argument = b" ".join([b"<" + address + b">", *words, b"XBENNO-ID=name.S+3D1.eml"])
    assert parse_mail(b"FROM:" + argument).sender == address
    assert parse_rcpt(b"TO:<" + address + b"> ORCPT=rfc822;a@b") == RcptCommand(address)


FRAGMENTS = st.lists(
    st.sampled_from(
        [b"<", b">", b'"', b"\\", b"@", b" ", b"\t", b":", b",", b"a", b"=", b"> ", b" SIZE=1"]
    )
    | st.sampled_from(
        [b"ENVID=x", b"SMTPUTF8", b"\r", b"\n", b"\0", b"[", b"]", b"\xff", b"<a@b>", b'"> ']
    )
    | st.binary(max_size=3)
).map(b"".join)


@examples
@given(FRAGMENTS)
def test_any_octets_are_taken_as_they_stand_or_refused(text: bytes) -> None:
    try:
        sender = parse_mail(b"FROM:" + text).sender
    except CommandError as error:
        assert REPLY.fullmatch(error.reply)
    else:
        assert text.strip(b" \t").startswith((b"<" + sender + b">", sender or b"<>"))
        assert not set(sender) & set(b"\r\n\0")


def closing_by_grammar(text: bytes) -> int | None:
    """Where the path ends that begins the text, read octet by octet; None where it is no path."""
    position = 1
    if text[position : position + 1] == b'"':
        position += 1
        while text[position : position + 1] != b'"':
            position += 2 if text[position : position + 1] == b"\\" else 1
            if position >= len(text):
                return None
        position += 1
    else:
        position = word_end(text, position)
        if position == 1 and text[1:2] != b">":
            return None
    if text[position : position + 1] == b"@" and position > 1:
        end = word_end(text, position + 1)
        if end == position + 1:
            return None
        position = end
    closed = text[position : position + 1] == b">" and text[position + 1 : position + 2] in (b"", b" ")
    return position if closed else None


def word_end(text: bytes, position: int) -> int:
    while position < len(text) and text[position] not in b'"<>\\@ ':
        position += 1
    return position


def closing_outside_quotes(text: bytes) -> int | None:
    """Where a path ends if every quote and every backslash in it is meant."""
    quoted, position = False, 1
    while position < len(text):
        octet = text[position : position + 1]
        if octet == b">" and not quoted and text[position + 1 : position + 2] in (b"", b" "):
            return position
        quoted ^= octet == b'"'
        position += 2 if octet == b"\\" else 1
    return None


def certain_address(text: bytes) -> bytes | None:
    """What stands between the brackets, where only one pair of them can be meant."""
    end = closing_by_grammar(text)
    if end is None:
        first = re.search(rb">(?= |$)", text)
        if not first or closing_outside_quotes(text) not in (None, first.start()):
            return None
        end = first.start()
        if b" ORCPT=" in text[:end]:
            return None
    return text[1:end]


@pytest.mark.parametrize("length", range(7))
def test_every_short_text_has_one_reading_or_is_refused(length: int) -> None:
    for words in product((b'"', b">", b" ", b"a", b" ORCPT=", b"\\", b"@"), repeat=length):
        text = (b"<" + b"".join(words)).rstrip(b" ")
        address = certain_address(text)
        try:
            recipient = parse_rcpt(b"TO:" + text).recipient
        except CommandError as error:
            assert error.reply.startswith("501 5.1.3") == (not address), (text, error.reply)
        else:
            assert recipient == address, text


# Each would take minutes if a part of it were read again from each of its octets.
@pytest.mark.parametrize(
    "words",
    [
        b'"',
        b'\\"',
        b"\\",
        b"@a,",
        b"a> ",
        b" x=>",
        b"x=> ",
        b" a",
        b"a@",
        b"<",
        b"><",
        b'"> ',
        b'a"> x=',
    ],
    ids=repr,
)
def test_long_hostile_texts_are_read_once(words: bytes) -> None:
    for text in (b"<" + words * 100_000, b'<"' + words * 100_000, b"<a b" + words * 100_000 + b"> x"):
        with pytest.raises(CommandError):
            parse_rcpt(b"TO:" + text)
