"""Hostile addresses over the wire: stored octet for octet or refused, and never a new header.

What is stored is shown to the readers of tests/judges.py: they see the addresses that were sent, one
line each, and nothing that anybody could have meant to smuggle in.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import receiver_daemon
from benno_common.envelope import Envelope
from judges import JUDGES, Seen, missing_java
from mailfile_streams import encode
from receiver_daemon import Receiver
from smtp import Client

pytestmark = pytest.mark.slow

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"

# Within the brackets; all of them are stored as they are.
STORED = {
    "plain": b"a@example.org",
    "no domain": b"postmaster",
    "quoted blanks": b'"a b"@example.org',
    "quoted bracket": b'"a>b"@example.org',
    "quoted bracket and blank": b'"a> NOTIFY=NEVER"@example.org',
    "quoted quote": b'"a\\"b>c"@example.org',
    "source route": b"@a.example,@b.example:c@example.org",
    "UTF-8": "jürgen@exämple.org".encode(),
    "Latin-1": b"j\xfcrgen@ex\xe4mple.org",
    "8-bit blanks": b"a\x85b\xa0c@example.org",
    "encoded word": b"=?utf-8?q?a=0D=0AX-REAL-RCPTTO:_v=40t.x?=@example.org",
    "header": b"X-REAL-RCPTTO:evil@example.org",
    "comment": b"a(comment)@example.org",
    "comment in the domain": b"a@(comment)example.org",
    "two at": b"a@b@example.org",
    "300 octets": b"a" * 300 + b"@example.org",
    "60,000 octets": b"a" * 60_000 + b"@example.org",
    "literal": b"a@[192.0.2.1]",
    "literal of IPv6": b"a@[IPv6:2001:db8::1]",
    "percent and bang": b"host!user%other@example.org",
    "controls": b"\x01\x0b\x0c\x1f\x7fa@example.org",
    "blanks": b" a b @example.org",
    "tab": b"a\tb@example.org",
    "dots": b"..a..@.example.org.",
    "only blanks": b"   ",
    "surrogate": b"\xed\xa0\x80@example.org",
    "half a character": b"\xc3@example.org",
}

# As they stand behind the colon.
REFUSED = {
    "CR": b"<a\r@b>",
    "CR at the end": b"<a@b>\r",
    "CR of a bare address": b"a@b\r",
    "NUL": b"<a\0@b>",
    "NUL in quotes": b'<"a\0"@b>',
    "quoted CR": b'<"a\\\rb"@c>',
    "no end": b"<a@b",
    "no beginning": b"a@b>",
    "two addresses": b"<a@b> <c@d>",
    "two addresses, a comma": b"<a@b>,<c@d>",
    "text behind": b"<a@b>c",
    "display name": b"Name <a@b>",
    "line feed": b"<a@b>\x0b",
}


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver_daemon.running(tmp_path_factory.mktemp("addresses") / "inbox") as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "ERROR" not in receiver.log


def store(receiver: Receiver, client: Client, sender: bytes, recipients: list[bytes]) -> bytes:
    """One mail with these addresses; its file, which is removed."""
    assert client.envelope(sender, recipients) == [], (sender, recipients)
    assert client.bdat(MESSAGE, last=True).startswith("250")
    (path,) = receiver.files()
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.parametrize("address", STORED.values(), ids=STORED)
def test_stored_octet_for_octet(receiver: Receiver, address: bytes) -> None:
    with Client(receiver.port) as client:
        content = store(receiver, client, address, [b"a@b", address, address])
        assert content == encode(Envelope(address, (b"a@b", address, address)), [MESSAGE])


@pytest.mark.parametrize("path", REFUSED.values(), ids=REFUSED)
def test_refused(receiver: Receiver, path: bytes) -> None:
    """By RCPT and by MAIL; the mail goes on with the addresses that were good."""
    with Client(receiver.port) as client:
        for sender in (b"MAIL FROM:" + path, b"MAIL FROM: " + path):
            assert client.command(sender)[:4] in {"501 ", "553 ", "555 "}
        assert client.command(b"RCPT TO:<c@d>").startswith("503")
        assert client.envelope(b"a@b", [b"c@d"]) == []
        for recipient in (b"RCPT TO:" + path, b"RCPT TO: " + path):
            assert client.command(recipient)[:4] in {"501 ", "553 ", "555 "}
        assert client.bdat(MESSAGE, last=True).startswith("250")
        (file,) = receiver.files()
        assert file.read_bytes() == encode(Envelope(b"a@b", (b"c@d",)), [MESSAGE])
        file.unlink()


LETTERS = b'ab@<>"\\ \t:,=.\0\r\x0b\x80\xc3\xa9()[]X-REAL'
ODD = st.lists(st.sampled_from(LETTERS), max_size=12).map(bytes)


@settings(deadline=None, max_examples=150)
@given(sender=ODD, recipient=ODD)
def test_any_address(receiver: Receiver, sender: bytes, recipient: bytes) -> None:
    """What is accepted is stored as it stood between the brackets, and only parameters are left out."""
    with Client(receiver.port) as client:
        if client.envelope(sender, [recipient]):
            return
        assert client.bdat(MESSAGE, last=True).startswith("250")
        (path,) = receiver.files()
        ((found, recipients, message),) = receiver.mails()
        content = path.read_bytes()
        path.unlink()
    assert message == MESSAGE
    assert content == encode(Envelope(found, recipients), [MESSAGE])
    for sent, stored in ((sender, found), (recipient, recipients[0])):
        parameters = (b"<" + sent + b"> BODY=8BITMIME").removeprefix(b"<" + stored + b">")
        assert parameters.startswith(b" "), (sent, stored)


# What readers of the files see

needs_java = pytest.mark.skipif(missing_java() is not None, reason=str(missing_java()))


@pytest.mark.parametrize(
    "judge",
    [pytest.param(name, marks=needs_java if name.startswith("javamail") else ()) for name in JUDGES],
)
def test_judges(receiver: Receiver, judge: str) -> None:
    rng = random.Random(11)
    addresses = [address for address in STORED.values() if len(address) < 1000]
    if judge == "javamail-utf8":  # it shows other octets as U+FFFD
        addresses = list(filter(is_utf8, addresses))
    envelopes = [(rng.choice(addresses), rng.choices(addresses, k=3)) for _ in range(60)]
    envelopes += [(address, [address]) for address in addresses]
    with Client(receiver.port) as client:
        files = [store(receiver, client, sender, recipients) for sender, recipients in envelopes]
    seen = JUDGES[judge](files)
    for (sender, recipients), headers in zip(envelopes, seen, strict=True):
        expected: Seen = {
            b"X-REAL-MAILFROM": [b"<" + sender + b">"],
            b"X-REAL-RCPTTO": [b"<" + recipient + b">" for recipient in recipients],
        }
        assert headers == expected


def is_utf8(address: bytes) -> bool:
    try:
        address.decode()
    except UnicodeDecodeError:
        return False
    return True
