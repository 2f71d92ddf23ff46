"""What lies in the spool: strange files, files that change or vanish, windows, batches, the disk."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benno_common import spool as spool_module
from benno_common.durable import Directory
from benno_common.envelope import Envelope
from benno_common.spool import Spool, Stamp
from benno_milter2smtp import parcel as parcel_module
from benno_milter2smtp.parcel import Parcel, open_parcel
from benno_milter2smtp.plan import Plan
from benno_milter2smtp.removal import Removal
from directories import settle
from forwarding import MESSAGE, encoded, forward, names, put
from scripted import After, serving

ONE = ("--connections", "1")
OUR_NAME = "1700000000.000000.x.S=24.eml"
PLANTED: dict[str, Callable[[Path], object]] = {
    "symlink": lambda path: path.symlink_to("/etc/passwd"),
    "dangling symlink": lambda path: path.symlink_to("nowhere"),
    "FIFO": os.mkfifo,
    "directory": os.mkdir,
    "empty": lambda path: path.touch(),
    "no envelope": lambda path: path.write_bytes(MESSAGE),
    "torn": lambda path: path.write_bytes(encoded()[:-1]),
    "no recipient": lambda path: path.write_bytes(encoded(MESSAGE, Envelope(b"a", ()))),
    "parameter in an address": lambda path: path.write_bytes(
        encoded(MESSAGE, Envelope(b"a> XBENNO-GW=x Y=<", (b"b",)))
    ),
}


@pytest.mark.parametrize("name", [OUR_NAME, "arch.Xy3zA9.eml"], ids=["our name", "old name"])
@pytest.mark.parametrize("kind", PLANTED)
def test_strange_files_are_held_and_never_sent(spool: Path, kind: str, name: str) -> None:
    if (kind, name) == ("torn", "arch.Xy3zA9.eml"):
        pytest.skip("the old names do not say how long a file is")
    PLANTED[kind](spool / name)
    settle(spool / name)
    put(spool)
    with serving() as server:
        run = forward(spool, server.port, options=ONE)
    assert (run.code, run.summary) == (65, "sent=1 kept=0 held=1")
    assert names(spool) == [f"{name}.err"]
    assert os.path.lexists(spool / f"{name}.err")
    assert f"ERROR: {name}: held file={name}.err reason=" in run.log
    assert len(server.mails) == 1


def test_what_is_no_mail_is_reported_and_stays(spool: Path) -> None:
    for name in ("notes.txt", "m\u00fcll", "report.gz"):
        (spool / name).touch()
    for name in (".hidden", "arch.x.err"):
        (spool / name).touch()
    (spool / "sent").mkdir()
    before = names(spool)
    put(spool)
    with serving() as server:
        listed = forward(spool, server.port, options=["--dry-run"]).output
        run = forward(spool, server.port)
    assert (run.code, run.summary, names(spool)) == (0, "sent=1 kept=0 held=0", before)
    assert f"{spool}: what is no mail stays there: m\\xc3\\xbcll notes.txt report.gz\n" in run.log
    assert listed.count("is no mail, and would stay there") == 3


def _rename_over(spool: Path, name: str) -> None:
    (spool / ".new").write_bytes(encoded(b"Subject: another\r\n\r\n"))
    (spool / ".new").rename(spool / name)
    settle(spool / name)


def _write_over(spool: Path, name: str) -> None:
    (spool / name).write_bytes(encoded(b"Subject: another\r\n\r\n"))
    settle(spool / name)


@pytest.mark.parametrize("keep", [False, True], ids=["removed", "moved"])
@pytest.mark.parametrize("replace", [_rename_over, _write_over])
def test_a_mail_that_came_under_a_name_in_use_is_not_taken_for_sent(
    spool: Path, tmp_path: Path, replace: Callable[[Path, str], None], keep: bool
) -> None:
    """The old names are not made for once only, and people copy files about."""
    name = "arch.Xy3zA9.eml"
    (spool / name).write_bytes(encoded())
    settle(spool / name)
    sent = tmp_path / "sent"
    sent.mkdir()
    options = ["--keep-sent", str(sent)] if keep else []
    with serving(script={"LAST": [After("250 ok", lambda: replace(spool, name)), "250 ok"]}) as server:
        run = forward(spool, server.port, options=options)
        assert (run.code, run.summary, names(spool)) == (75, "sent=1 kept=1 held=0", [name])
        assert f"WARNING: {name}: kept host= reason=" in run.log
        assert forward(spool, server.port, options=options).code == 0
    assert names(spool) == []
    assert [mail.message for mail in server.mails] == [MESSAGE, b"Subject: another\r\n\r\n"]


def test_many_strange_files_do_not_stop_the_run(spool: Path) -> None:
    """Ten in a row are about refusals: a server had nothing to do with these."""
    for number in range(15):
        (spool / f"arch.{number}").write_bytes(b"nothing")
        settle(spool / f"arch.{number}")
    put(spool)
    with serving() as server:
        run = forward(spool, server.port)
    assert (run.code, run.summary) == (65, "sent=1 kept=0 held=15")


def test_files_of_the_older_milter_come_first(spool: Path) -> None:
    put(spool)
    (spool / "arch.Xy3zA9").write_bytes(
        b"X-REAL-MAILFROM: a@b\nX-REAL-RCPTTO: c@d\r\nSubject: old\r\n\r\nold\r\n"
    )
    settle(spool / "arch.Xy3zA9")
    with serving() as server:
        run = forward(spool, server.port, options=ONE)
    assert (run.code, names(spool)) == (0, [])
    assert [mail.message for mail in server.mails] == [b"Subject: old\r\n\r\nold\r\n", MESSAGE]
    assert server.mails[0].rcpts == (b"RCPT TO:<c@d>",)


@pytest.mark.parametrize("content", [b"", encoded()[:40], encoded()], ids=["empty", "torn", "whole"])
def test_files_that_may_still_be_written_wait(spool: Path, content: bytes) -> None:
    (spool / "arch.Xy3zA9").write_bytes(content)
    put(spool)
    with serving() as server:
        listed = forward(spool, server.port, options=["--dry-run"]).output
        run = forward(spool, server.port)
    assert (run.code, run.summary, names(spool)) == (75, "sent=1 kept=1 held=0", ["arch.Xy3zA9"])
    reason = "cannot be read: changed within the last 10 minutes, and may not be whole yet"
    assert f"arch.Xy3zA9: {reason}\n" in listed
    assert f'arch.Xy3zA9: kept host= reason="it {reason}"\n' in run.log
    assert [mail.message for mail in server.mails] == [MESSAGE]


def test_other_files_are_left_alone(spool: Path) -> None:
    others = [".hidden.eml", "held.eml.err", "notes.txt"]
    for name in others:
        (spool / name).write_bytes(b"x")
    with serving() as server:
        assert forward(spool, server.port).code == 0
    assert (names(spool), server.dialogues) == (sorted(others), [])


def test_one_window_after_another(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "WINDOW", 7)
    monkeypatch.setattr(Spool.window, "__defaults__", (None, 7))
    for number in range(30):
        put(spool, b"%d\r\n" % number)
    with serving() as server:
        assert forward(spool, server.port, options=ONE).code == 0
    assert [mail.message for mail in server.mails] == [b"%d\r\n" % number for number in range(30)]


# Reading


@pytest.fixture
def opened(spool: Path) -> Spool:
    directory = Directory(str(spool))
    directory.open_to_empty()
    return Spool(directory)


def plan(parcel: Parcel, *, chunked: bool = True) -> Plan:
    size = parcel.letter.content.size
    return Plan(b"", (), b"", size, chunked, True, False, normalized=False, sized=False)


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("change", ["octet", "longer", "envelope", "torn"])
def test_a_mail_that_changes_while_it_is_sent_never_ends(
    spool: Path, opened: Spool, monkeypatch: pytest.MonkeyPatch, change: str, chunked: bool
) -> None:
    monkeypatch.setattr(parcel_module, "SMALL", 0)
    message = MESSAGE + b"x" * 300_000 + b"\r\n"
    (spool / "arch.1").write_bytes(encoded(message))
    settle(spool / "arch.1")
    parcel = open_parcel(opened, "arch.1")
    content = {
        "octet": encoded(message.replace(b"xx", b"xy")),
        "longer": encoded(message + b"y" * 300_000),
        "envelope": encoded(message, Envelope(b"a", (b"b",))),
        "torn": encoded(message)[:-100],
    }[change]
    (spool / "arch.1").write_bytes(content)
    settle(spool / "arch.1")
    sent = b""
    with pytest.raises(ValueError, match="changed while"):
        for piece in parcel.octets(plan(parcel, chunked=chunked)):
            sent += piece
    assert len(sent) <= len(message)
    assert not sent.endswith(b"\r\n.\r\n")


def test_a_large_mail_that_changes_is_held_and_the_next_one_sent(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcel_module, "SMALL", 200_000)
    large = put(spool, MESSAGE + b"x" * 300_000 + b"\r\n")
    put(spool)
    octets = Parcel.octets

    def changing(self: Parcel, plan: Plan) -> object:
        if self.name == large:
            content = (spool / large).read_bytes()
            (spool / large).write_bytes(content.replace(b"xxx", b"xyx"))
        return octets(self, plan)

    monkeypatch.setattr(Parcel, "octets", changing)
    with serving() as server:
        run = forward(spool, server.port, options=ONE)
    assert (run.code, names(spool)) == (65, [f"{large}.err"])
    assert [mail.message for mail in server.mails] == [MESSAGE]
    assert "C: BDAT 0 LAST" not in server.dialogues[0]


def test_files_that_vanish_are_passed_over(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = put(spool)
    put(spool)
    read = Spool.read

    def vanishing(self: Spool, name: str) -> object:
        if name == gone:
            (spool / gone).unlink()
        return read(self, name)

    monkeypatch.setattr(Spool, "read", vanishing)
    with serving() as server:
        run = forward(spool, server.port)
    assert (run.code, run.summary, names(spool)) == (0, "sent=1 kept=0 held=0", [])
    assert gone not in run.log


def test_a_file_that_cannot_be_read_is_kept(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = put(spool)
    put(spool)
    read = Spool.read

    def failing(self: Spool, name: str) -> object:
        if name == broken:
            raise OSError(errno.EIO, "Input/output error")
        return read(self, name)

    monkeypatch.setattr(Spool, "read", failing)
    with serving() as server:
        run = forward(spool, server.port)
    assert (run.code, run.summary, names(spool)) == (75, "sent=1 kept=1 held=0", [broken])
    assert 'reason="it cannot be read: Input/output error"' in run.log


def test_a_fault_of_ours_keeps_the_mail_and_sends_the_others(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = put(spool)
    put(spool)
    octets = Parcel.octets

    def faulty(self: Parcel, plan: Plan) -> object:
        if self.name == odd:
            raise ZeroDivisionError
        return octets(self, plan)

    monkeypatch.setattr(Parcel, "octets", faulty)
    with serving() as server:
        run = forward(spool, server.port, options=ONE)
    assert (run.code, run.summary, names(spool)) == (75, "sent=1 kept=1 held=0", [odd])
    assert f"{odd}: unexpected ZeroDivisionError" in run.log


# Taking out


def test_nothing_is_taken_out_before_the_250(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[list[str]] = []
    taken = Directory.remove

    def watched(self: Directory, removed: list[str]) -> None:
        there.append([*removed])
        assert len(server.mails) >= sum(map(len, there))
        taken(self, removed)

    monkeypatch.setattr(Directory, "remove", watched)
    stored = [put(spool) for _ in range(20)]
    with serving() as server:
        assert forward(spool, server.port).code == 0
    assert sorted(name for batch in there for name in batch) == stored


@pytest.mark.parametrize("call", ["unlink", "fsync"])
def test_where_nothing_can_be_taken_out_the_run_stops(
    spool: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    for _ in range(500):
        put(spool)
    calls = 0
    real = getattr(os, call)

    def failing(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1 and call == "fsync":  # the trial at the start
            return real(*arguments, **named)
        raise OSError(errno.EIO, "Input/output error")

    with serving() as server:
        monkeypatch.setattr(os, call, failing)
        run = forward(spool, server.port)
        monkeypatch.undo()
    assert run.code == 75
    assert "mail that was sent stays there and will be sent again: Input/output error" in run.log
    assert len(server.mails) < 100
    assert calls <= 3, "a failed sync is not tried again"


def test_what_is_delivered_while_a_batch_is_synced_is_the_next_batch(spool: Path) -> None:
    directory = Directory(str(spool))
    directory.open()
    batches: list[list[str]] = []

    def unexpected(error: Exception) -> None:
        raise error

    async def story() -> None:
        removal = Removal(Spool(directory), lambda batch: batches.append(list(batch)), unexpected)
        for number in range(5):
            await removal.add(str(number), Stamp(0, 0, 0, 0))
        await removal.finish()
        await removal.add("last", Stamp(0, 0, 0, 0))
        await removal.finish()
        await removal.finish()

    asyncio.run(story())
    directory.close()
    assert [name for batch in batches for name in batch] == ["0", "1", "2", "3", "4", "last"]
    assert len(batches) <= 3
