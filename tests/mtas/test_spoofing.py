"""Envelope spoofing from end to end: hostile mails, and what readers see in the files they become.

Each mail comes by one of three ways, through real programs: by SMTP straight into benno-smtp; by the
milter protocol into a spool and from there by the forwarder; by SMTP into Postfix, and then the same.
Each reader sees in each file the envelope of that mail's own dialogue, and no other trusted header.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import daemon
import journey
import postfix
import receiver_daemon
from benno_common.envelope import Envelope
from benno_milter2smtp.plan import AddressError, check_envelope
from hostile import HOSTILE, RECIPIENTS, SENDER, random_mails
from judges import JUDGES, block_of, missing_java
from mta import MTA, Header
from smtp import Client

pytestmark = pytest.mark.slow

Mail = tuple[Envelope, bytes]

GATEWAY = b"mx1"
TRUSTED = 'trusted_gateways = ["127.0.0.1"]'


@cache
def mails() -> list[Mail]:
    """Hostile messages with an honest envelope, and random ones with a random one."""
    named = [(Envelope(SENDER, RECIPIENTS), hostile.message) for hostile in HOSTILE.values()]
    return named + [mail for mail in random_mails(5, 300) if _can_be_said(mail[0])]


def _can_be_said(envelope: Envelope) -> bool:
    """Whether in SMTP commands: else the forwarder holds the mail."""
    try:
        check_envelope(envelope)
    except AddressError:
        return False
    return b"" not in envelope.recipients


def straight(directory: Path) -> list[Mail]:
    """Into benno-smtp; in one chunk, which carries every octet."""
    taken = []
    with (
        receiver_daemon.running(directory / "inbox", TRUSTED) as receiver,
        Client(receiver.port) as client,
    ):
        for envelope, message in mails():
            named = b" XBENNO-GW=" + envelope.gateway if envelope.gateway else b""
            replies = [client.command(b"MAIL FROM:<%b>%b" % (envelope.sender, named))]
            replies += [client.command(b"RCPT TO:<%b>" % to) for to in envelope.recipients]
            if all(reply.startswith("250") for reply in replies):
                assert client.bdat(message, last=True).startswith("250")
                taken.append((envelope, message))
            else:
                client.command(b"RSET")
    return taken


def by_milter(directory: Path) -> list[Mail]:
    """As an MTA hands it over, however odd, and on with the forwarder."""
    taken = []
    with daemon.running(directory / "spool", "--gateway", GATEWAY.decode()) as milter:
        for envelope, message in mails():
            headers, body = packets(message)
            with MTA(milter.address) as mta:
                mta.negotiate()
                sender, *recipients = (b"<%b>" % one for one in (envelope.sender, *envelope.recipients))
                if mta.deliver(sender, recipients, headers, body) == "accepted":
                    ours = Envelope(envelope.sender, envelope.recipients, GATEWAY)
                    taken.append((ours, stored(headers, body)))
    forward(directory)
    return taken


def by_postfix(directory: Path) -> list[Mail]:
    """What it accepts of the named ones, as it alters it."""
    with journey.front(directory, "--gateway", GATEWAY.decode()) as (mta, milter):
        for _, message in mails()[: len(HOSTILE)]:
            with Client(mta.port) as client:
                client.send(SENDER, RECIPIENTS, message)
        taken = [
            (Envelope(sender, recipients, GATEWAY), message)
            for sender, recipients, message in milter.mails()
        ]
    assert {(envelope.sender, envelope.recipients) for envelope, _ in taken} == {(SENDER, RECIPIENTS)}
    forward(directory)
    return taken


def forward(directory: Path) -> None:
    with receiver_daemon.running(directory / "inbox", TRUSTED) as receiver:
        run = journey.forward(directory / "spool", receiver.port)
        assert run.code == 0, run.log


def packets(message: bytes) -> tuple[list[Header], bytes]:
    """Header lines and body, as a milter gets them; a NUL cannot be in a header."""
    head, _, body = message.partition(b"\r\n\r\n")
    headers: list[Header] = []
    for line in head.replace(b"\0", b"").split(b"\r\n"):
        if headers and line[:1] in (b" ", b"\t"):
            name, value = headers[-1]
            headers[-1] = name, value + b"\n" + line
        else:
            name, _, value = line.partition(b":")
            headers.append((name, value))
    return headers, body


def stored(headers: list[Header], body: bytes) -> bytes:
    """The message that these packets make."""
    lines = [name + b":" + re.sub(rb"(?<!\r)\n", b"\r\n", value) for name, value in headers]
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


needs_java = pytest.mark.skipif(missing_java() is not None, reason=str(missing_java()))
needs_postfix = pytest.mark.skipif(not postfix.available(), reason="needs root and postfix")
LEAST: dict[Callable[[Path], list[Mail]], int] = {straight: 150, by_milter: 150, by_postfix: 40}


@pytest.fixture(
    scope="module",
    params=[straight, by_milter, pytest.param(by_postfix, marks=[pytest.mark.system, needs_postfix])],
    ids=lambda way: way.__name__,
)
def archived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files that arrived, each mail once, to the octet and with its envelope."""
    way: Callable[[Path], list[Mail]] = request.param
    directory = tmp_path_factory.mktemp(way.__name__)
    taken = way(directory)
    files = sorted((directory / "inbox").glob("*.eml"))
    assert len(taken) > LEAST[way]
    assert sorted(map(str, map(journey.read, files))) == sorted(map(str, taken))
    return files


@pytest.mark.parametrize(
    "judge",
    [pytest.param(name, marks=needs_java if name.startswith("javamail") else ()) for name in JUDGES],
)
def test_each_reader_sees_the_envelope_and_nothing_else(archived: list[Path], judge: str) -> None:
    seen = JUDGES[judge]([path.read_bytes() for path in archived])
    for path, headers in zip(archived, seen, strict=True):
        envelope, message = journey.read(path)
        assert headers == block_of(envelope), message[:500]
