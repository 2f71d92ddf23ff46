"""Dialogues with a scripted server: what goes over the wire, octet by octet, to each kind of server."""

from __future__ import annotations

from pathlib import Path

import pytest

from benno_common.envelope import Envelope
from benno_milter2smtp import parcel
from corpus import Case, corpus
from forwarding import ENVELOPE, MESSAGE, forward, names, put
from scripted import EVERYTHING, Mail, serving

pytestmark = pytest.mark.slow

ONE = ("--connections", "1")
CASES = corpus(80)


def spoken(dialogue: list[str]) -> list[str]:
    """A dialogue without greeting and EHLO, and without what differs from run to run."""
    lines = [line.split(" XBENNO-ID=")[0] for line in dialogue]
    first = next(number for number, line in enumerate(lines) if line.startswith("C: MAIL"))
    return lines[first:]


def test_everything_on_offer(spool: Path) -> None:
    """MAIL, RCPT and BDAT come in one write; LAST waits for their replies."""
    name = put(spool)
    with serving() as server:
        run = forward(spool, server.port)
    assert (run.code, run.summary, names(spool)) == (0, "sent=1 kept=0 held=0", [])
    assert spoken(server.dialogue()) == [
        "C: MAIL FROM:<sender@example.org> SIZE=24",
        "S: 250 ok",
        "C: RCPT TO:<first@example.net>",
        "S: 250 ok",
        "C: RCPT TO:<bcc@example.net>",
        "S: 250 ok",
        "C: BDAT 24",
        "C: (24 octets)",
        "S: 250 ok",
        "C: BDAT 0 LAST",
        "S: 250 ok",
        "C: QUIT",
        "S: 221 bye",
    ]
    (mail,) = server.mails
    assert mail.parameters == [b"SIZE=24", b"XBENNO-ID=" + name.encode().replace(b"=", b"+3D")]
    assert mail.message == MESSAGE
    assert f"{name}: sent host=127.0.0.1:{server.port} from=<sender@example.org> nrcpt=2" in run.log
    assert 'reply="250 ok"' in run.log


@pytest.mark.parametrize("offers", [(), ("PIPELINING",), ("8BITMIME", "SIZE 1000000")])
def test_without_chunking(spool: Path, offers: tuple[str, ...]) -> None:
    put(spool)
    with serving(offers=offers) as server:
        assert forward(spool, server.port).code == 0
    dialogue = [line for line in spoken(server.dialogue()) if "MAIL" not in line]
    assert dialogue == [
        "S: 250 ok",
        "C: RCPT TO:<first@example.net>",
        "S: 250 ok",
        "C: RCPT TO:<bcc@example.net>",
        "S: 250 ok",
        "C: DATA",
        "S: 354 go on",
        "C: (24 octets)",
        "S: 250 ok",
        "C: QUIT",
        "S: 221 bye",
    ]
    assert server.mails[0].message == MESSAGE


def test_nothing_but_helo(spool: Path) -> None:
    put(spool)
    with serving(esmtp=False) as server:
        assert forward(spool, server.port).code == 0
    assert [line[:9] for line in server.dialogue()[1:4]] == ["C: EHLO [", "S: 500 5.", "C: HELO ["]
    assert server.mails == [
        Mail(
            b"MAIL FROM:<sender@example.org>",
            (b"RCPT TO:<first@example.net>", b"RCPT TO:<bcc@example.net>"),
            MESSAGE,
        )
    ]


def test_many_mails_over_one_connection_in_order(spool: Path) -> None:
    sent = [put(spool, b"Subject: %d\r\n\r\n" % number) for number in range(50)]
    assert sent == names(spool)
    with serving() as server:
        assert forward(spool, server.port, options=ONE).code == 0
    assert [mail.message for mail in server.mails] == [b"Subject: %d\r\n\r\n" % n for n in range(50)]
    assert len(server.dialogues) == 1


def test_several_connections(spool: Path) -> None:
    for number in range(50):
        put(spool, b"Subject: %d\r\n\r\n" % number)
    with serving() as server:
        assert forward(spool, server.port).code == 0
    assert sorted(mail.message for mail in server.mails) == sorted(
        b"Subject: %d\r\n\r\n" % number for number in range(50)
    )
    assert 1 <= len(server.dialogues) <= 4


def test_nothing_to_send_connects_to_nobody(spool: Path) -> None:
    with serving() as server:
        run = forward(spool, server.port)
    assert (run.code, run.summary) == (0, "sent=0 kept=0 held=0")
    assert server.dialogues == []


# The corpus

WAYS = {
    "everything": EVERYTHING,
    "Postfix": ("PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "SIZE 10240000"),
    "DATA": ("PIPELINING", "8BITMIME"),
}


def carried(case: Case, offers: tuple[str, ...]) -> bool:
    binary = b"\0" in case.message or any(
        mark in case.message.replace(b"\r\n", b"") for mark in (b"\r", b"\n")
    )
    return not binary or "BINARYMIME" in offers


@pytest.mark.parametrize("small", [True, False], ids=["in memory", "streamed"])
@pytest.mark.parametrize("way", WAYS)
def test_the_corpus_octet_by_octet(
    spool: Path, monkeypatch: pytest.MonkeyPatch, way: str, small: bool
) -> None:
    if not small:
        monkeypatch.setattr(parcel, "SMALL", 0)
    stored = {}
    for case in CASES:
        stored[put(spool, case.message, Envelope(case.sender, case.recipients))] = case
    with serving(offers=WAYS[way]) as server:
        run = forward(spool, server.port, options=ONE)
    sent = [case for case in stored.values() if carried(case, WAYS[way])]
    assert [mail.message for mail in server.mails] == [case.message for case in sent]
    assert [mail.rcpts for mail in server.mails] == [
        tuple(b"RCPT TO:<" + recipient + b">" for recipient in case.recipients) for case in sent
    ]
    held = [name for name, case in stored.items() if not carried(case, WAYS[way])]
    assert names(spool) == [f"{name}.err" for name in held]
    assert run.code == (65 if held else 0)


SMALL_MESSAGES = [
    b"",
    b"\r\n",
    b".",
    b".\r\n",
    b"..\r\n.\r\n",
    b"\r\n.\r\n",
    b"a",
    b"\r\n.",
    b"\n.\n",
    b"\r",
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("message", SMALL_MESSAGES)
def test_small_messages(spool: Path, way: str, message: bytes) -> None:
    name = put(spool, message)
    with serving(offers=WAYS[way]) as server:
        run = forward(spool, server.port)
    if server.mails:
        assert server.mails[0].message == message
        assert names(spool) == []
    else:
        assert names(spool) == [f"{name}.err"]
        assert "does not offer" in run.log


@pytest.mark.parametrize("way", ["Postfix", "DATA"])
def test_normalize_alters_what_could_not_be_carried_only(spool: Path, way: str) -> None:
    """An open end and a bare LF are obstacles to both; CRLF and dots are none."""
    put(spool, b"a\r\nb\r\n.c")
    put(spool, b"a\nb\r")
    put(spool, MESSAGE)
    nul = put(spool, b"a\0\n")
    with serving(offers=WAYS[way]) as server:
        run = forward(spool, server.port, options=(*ONE, "--normalize"))
    assert [mail.message for mail in server.mails] == [b"a\r\nb\r\n.c\r\n", b"a\r\nb\r\n", MESSAGE]
    assert names(spool) == [f"{nul}.err"]
    assert run.log.count(" altered=yes") == 2


# Gateways


def test_gateway_as_a_parameter(spool: Path) -> None:
    put(spool, MESSAGE, Envelope(b"a", (b"b",), b"gw+1"))
    with serving() as server:
        assert forward(spool, server.port).code == 0
    (mail,) = server.mails
    assert b"XBENNO-GW=gw+2B1" in mail.parameters
    assert mail.message == MESSAGE


@pytest.mark.parametrize("offers", [("CHUNKING", "PIPELINING", "SIZE"), ("SIZE",)])
def test_gateway_as_first_header(spool: Path, offers: tuple[str, ...]) -> None:
    put(spool, MESSAGE, Envelope(b"a", (b"b",), b"gw+1"))
    with serving(offers=offers) as server:
        assert forward(spool, server.port).code == 0
    (mail,) = server.mails
    assert mail.message == b"X-BENNO-GW: gw+1\r\n" + MESSAGE
    assert mail.mail == b"MAIL FROM:<a> SIZE=%d" % len(mail.message)


def test_no_forged_gateway(spool: Path) -> None:
    """A line of the message stays where it was, octet for octet."""
    put(spool, b"X-Benno-GW: forged\r\n\r\n", Envelope(b"a", (b"b",)))
    with serving(offers=()) as server:
        assert forward(spool, server.port).code == 0
    assert server.mails[0].message == b"X-Benno-GW: forged\r\n\r\n"


# Size


@pytest.mark.parametrize("offers", [("PIPELINING", "CHUNKING"), ("PIPELINING",), ()])
def test_many_recipients_in_one_transaction(spool: Path, offers: tuple[str, ...]) -> None:
    recipients = tuple(b"recipient-number-%d@example.net" % number for number in range(1000))
    put(spool, MESSAGE, Envelope(b"a", recipients))
    with serving(offers=offers) as server:
        assert forward(spool, server.port).code == 0
    (mail,) = server.mails
    assert mail.rcpts == tuple(b"RCPT TO:<" + recipient + b">" for recipient in recipients)


@pytest.mark.parametrize("offers", [("PIPELINING", "CHUNKING"), ("PIPELINING",)])
def test_replies_are_read_while_commands_are_written(spool: Path, offers: tuple[str, ...]) -> None:
    """They fill every buffer on the way if nobody reads them, and then the server reads no more."""
    count = 15_000
    put(spool, MESSAGE, Envelope(b"a", tuple(b"%d" % number + b"x" * 400 for number in range(count))))
    reply = "250 2.1.5 " + "x" * 200
    with serving(offers=offers, script={"RCPT": [reply]}, buffers=4096) as server:
        run = forward(spool, server.port, options=("--timeout", "20"))
    assert run.code == 0, run.log[:2000]
    assert len(server.mails[0].rcpts) == count


@pytest.mark.parametrize("offers", [EVERYTHING, ()])
def test_a_large_mail_is_streamed(spool: Path, offers: tuple[str, ...]) -> None:
    message = b"Subject: large\r\n\r\n" + b".line of a large mail\r\n" * 300_000
    put(spool, message, ENVELOPE)
    with serving(offers=offers) as server:
        assert forward(spool, server.port).code == 0
    assert server.mails[0].message == message


def test_larger_than_the_server_takes(spool: Path) -> None:
    name = put(spool)
    with serving(offers=("SIZE 23",)) as server:
        run = forward(spool, server.port)
    assert (run.code, names(spool), server.mails) == (65, [f"{name}.err"], [])
    assert 'reason="the message has 24 octets, and the server takes 23"' in run.log


def test_international_address(spool: Path) -> None:
    envelope = Envelope(b"\xc3\xa4@b", (b"\xc3\xbc@d",))
    put(spool, MESSAGE, envelope)
    with serving() as server:
        assert forward(spool, server.port).code == 0
    assert server.mails[0].mail.startswith("MAIL FROM:<ä@b>".encode())
    assert b"SMTPUTF8" in server.mails[0].parameters
    name = put(spool, MESSAGE, envelope)
    with serving(offers=("8BITMIME",)) as server:
        assert forward(spool, server.port).code == 65
    assert (names(spool), server.mails) == ([f"{name}.err"], [])
