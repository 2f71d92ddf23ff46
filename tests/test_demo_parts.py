"""What the demonstration is made of: its mails, its comparison, its MTA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import embedded
from mta import message_of
from report import Archived, Row, faults, match
from samples import Sample, samples
from smtp import Client

BCC = samples()[0]


def _archived(sample: Sample, **changes: object) -> Archived:
    whole = Archived(Path("1.eml"), sample.sender, sample.recipients, sample.message)
    return replace(whole, **changes)  # type: ignore[arg-type]


VERDICTS = [
    ("250 ok", [_archived(BCC)], "same"),
    ("451 later", [], "REFUSED"),
    ("250 ok", [], "MISSING"),
    ("250 ok", [_archived(BCC), _archived(BCC)], "2 FILES"),
    ("250 ok", [_archived(BCC, message=BCC.message + b"\r\n")], "DIFFERENT"),
    ("250 ok", [_archived(BCC, sender=b"")], "ENVELOPE"),
    ("250 ok", [_archived(BCC, recipients=BCC.recipients[:1])], "ENVELOPE"),
    ("250 ok", [_archived(BCC, recipients=BCC.recipients[::-1])], "ENVELOPE"),
]


@pytest.mark.parametrize(("reply", "found", "verdict"), VERDICTS)
def test_verdict(reply: str, found: list[Archived], verdict: str) -> None:
    row = Row(BCC, reply, found)
    assert row.verdict == verdict
    assert bool(faults([row], found, [])) == (verdict != "same")


def test_a_mail_that_nobody_sent_is_a_fault() -> None:
    stray = _archived(BCC, path=Path("2.eml"), message=b"Subject: who\r\n\r\n")
    assert match([BCC], [stray]) == [[]]
    rows = [Row(BCC, "250 ok", [_archived(BCC)])]
    (line,) = faults(rows, [_archived(BCC), stray], [])
    assert line.endswith("sent by nobody: 2.eml")


def test_samples_show_what_they_say() -> None:
    by_title = {sample.title.partition(",")[0]: sample for sample in samples()}
    assert by_title["BCC"].hidden == [b"eva@b.example"]
    assert len(by_title["attachment"].message) > 400_000
    assert not by_title["8-bit headers"].message.partition(b"\r\n\r\n")[0].isascii()
    assert by_title["forged X-REAL-RCPTTO"].message.startswith(b"X-REAL-RCPTTO: ")
    assert [
        title for title, sample in by_title.items() if b"\n" in sample.message.replace(b"\r\n", b"")
    ] == [title for title, sample in by_title.items() if sample.bare]
    assert b"\r\n.\r\n" in by_title["lines of dots"].message
    assert by_title["no sender"].sender == b""
    assert len(by_title["list"].recipients) == 1000
    assert len({sample.message_id for sample in samples()}) == len(samples())


# The embedded MTA

SPLITS = [
    (b"A: b\r\n\r\nbody\r\n", [(b"A", b" b")], b"body\r\n"),
    (b"A:b\r\nC:\r\n\r\n", [(b"A", b"b"), (b"C", b"")], b""),
    (b"A: b\r\n c\r\n\td\r\nE: f\r\n\r\n\r\n", [(b"A", b" b\n c\n\td"), (b"E", b" f")], b"\r\n"),
    (b"A: \xe4\r\n\r\none\ntwo", [(b"A", b" \xe4")], b"one\ntwo"),
]


@pytest.mark.parametrize(("message", "headers", "body"), SPLITS)
def test_split(message: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    assert embedded.split(message) == (headers, body)
    assert message_of(headers, body) == message


@pytest.mark.parametrize("message", [b"A: b\r\n", b"A: b\nC: d\r\n\r\n", b"no header\r\n", b""])
def test_what_it_would_have_to_alter_is_refused(message: bytes) -> None:
    assert embedded.hand_over("/nowhere", b"a@b", [b"c@d"], message).startswith("554 5.6.0")


def test_without_a_milter_mail_is_put_off(tmp_path: Path) -> None:
    with embedded.running(str(tmp_path / "nobody")) as port, Client(port) as client:
        assert client.send(b"a@b.example", [b"c@d.example"], b"A: b\r\n\r\nc\r\n").startswith(
            "451 4.7.1"
        )
