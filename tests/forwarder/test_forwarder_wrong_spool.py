"""Directories that are no spool, and single files in one that cannot be taken out."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from forwarding import MESSAGE, command, forward, names, put
from scripted import serving

ONE = ("--connections", "1")
OURS = "1700000000.{:06d}.x.S=24.eml"


@pytest.fixture
def letters(spool: Path) -> list[str]:
    """Somebody's mails, without envelopes."""
    for number in range(30):
        (spool / OURS.format(number)).write_bytes(MESSAGE)
    return names(spool)


def test_where_no_file_is_a_mail_nothing_is_touched(spool: Path, letters: list[str]) -> None:
    with serving() as server:
        run = forward(spool, server.port)
    assert (run.code, names(spool)) == (78, letters)
    assert f"{spool} is no spool, nothing in it was touched: {letters[0]} and others" in run.log


def test_where_no_file_has_the_name_of_a_mail(spool: Path) -> None:
    for number in range(20):
        (spool / f"program{number}.conf").touch()
    with serving() as server:
        run = forward(spool, server.port)
    assert run.code == 78
    assert f"{spool} is no spool, nothing in it was touched: program" in run.log


@pytest.mark.parametrize("place", [0, 9, 20, 29])
def test_one_mail_among_the_oldest_or_newest_makes_it_a_spool(
    spool: Path, letters: list[str], place: int
) -> None:
    """Torn files of a crash must not keep the mails here, and are held."""
    good = put(spool)
    (spool / good).rename(spool / letters[place].replace("S=24", f"S={good.split('S=')[1][:-4]}"))
    (spool / letters[place]).unlink()
    with serving() as server:
        run = forward(spool, server.port)
    assert (run.code, run.summary, len(server.mails)) == (65, "sent=1 kept=0 held=29", 1), run.log


def test_an_empty_name_is_not_the_current_directory(spool: Path) -> None:
    put(spool)
    for option in (["--spool", ""], ["--keep-sent", ""]):
        done = subprocess.run(
            [*command(spool), *option, "127.0.0.1:1"],
            cwd=spool,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 64
        assert f"{option[0]}: the directory has no name" in done.stderr
    assert len(names(spool)) == 1


def test_whoever_reads_the_list_may_stop(spool: Path) -> None:
    for _ in range(3000):
        put(spool)
    with subprocess.Popen(
        [*command(spool), "--dry-run", "127.0.0.1:1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as listing:
        assert listing.stdout and listing.stderr
        listing.stdout.readline()
        listing.stdout.close()
        assert listing.stderr.read() == b""
        assert listing.wait(60) == 0


@pytest.mark.parametrize("keep", [False, True], ids=["removed", "moved"])
def test_one_file_that_cannot_be_taken_out_does_not_keep_the_others(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    """It is sent again by each run, and each says so; nothing else is."""
    (tmp_path / "sent").mkdir()
    stored = [put(spool) for _ in range(30)]
    call = "rename" if keep else "unlink"
    real = getattr(os, call)

    def immutable(name: str, *arguments: object, **named: object) -> object:
        if name == stored[5]:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return real(name, *arguments, **named)

    monkeypatch.setattr(os, call, immutable)
    options = ["--keep-sent", str(tmp_path / "sent")] if keep else []
    with serving() as server:
        run = forward(spool, server.port, options=options)
    assert (run.code, run.summary, names(spool)) == (75, "sent=30 kept=1 held=0", [stored[5]])
    assert f"{stored[5]}: kept" in run.log
    assert "cannot be removed: Operation not permitted" in run.log


def test_where_many_cannot_be_taken_out_the_run_stops(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(200):
        put(spool)

    def immutable(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "unlink", immutable)
    with serving() as server:
        run = forward(spool, server.port, options=ONE)
    assert run.code == 75
    assert "mail that was sent stays there and will be sent again: Operation not permitted" in run.log
    assert len(server.mails) < 100
