"""The command: options, exit codes, --keep-sent, --dry-run, --quiet, wrong spools."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benno_common.durable import Directory
from benno_common.service import Exit
from benno_milter2smtp.route import Host, parse_host
from directories import settle
from forwarding import MESSAGE, forward, names, put
from scripted import serving
from waiting import free_port

ONE = ("--connections", "1")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("archive", Host("archive", 2500)),
        ("archive.example:25", Host("archive.example", 25)),
        ("192.0.2.1", Host("192.0.2.1", 2500)),
        ("192.0.2.1:2525", Host("192.0.2.1", 2525)),
        ("[::1]", Host("::1", 2500)),
        ("[::1]:25", Host("::1", 25)),
        ("[fe80::1%eth0]:25", Host("fe80::1%eth0", 25)),
        ("m\u00fcller.example", Host("m\u00fcller.example", 2500)),
        ("my_archive.", Host("my_archive.", 2500)),
    ],
)
def test_hosts(text: str, host: Host) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":25",
        "a b",
        "a..b",
        "a:",
        "a:0",
        "a:65536",
        "a:x",
        "::1",
        "::1:25",
        "[::1",
        "[a]",
        "[]",
        "a/b",
        "x" * 64,
        "a:25:25",
        "[::1]25",
        "[::1]:",
        "a\n",
    ],
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(Exit) as caught:
        parse_host(text)
    assert caught.value.code == 78
    assert "is no host: write NAME" in caught.value.reason


@pytest.mark.parametrize(
    "options",
    [
        ["--nonsense"],
        ["--connections", "0"],
        ["--connections", "101"],
        ["--connections", "-1"],
        ["--connections", "x"],
        ["--timeout", "0"],
        ["--timeout", "1.5"],
        ["--timeout", "999999999999999999999"],
        ["--log", "nowhere"],
    ],
)
def test_wrong_usage(spool: Path, options: list[str]) -> None:
    run = forward(spool, "archive", options=options)
    assert run.code == 64
    assert "see --help" in run.log


def test_usage_without_a_host(spool: Path) -> None:
    assert forward(spool).code == 64


def test_help_and_version(spool: Path) -> None:
    assert "benno-milter2smtp 3." in forward(spool, options=["--version"]).output
    for option in ("-h", "--help"):
        run = forward(spool, options=[option])
        assert (run.code, "HOST[:PORT]" in run.output) == (0, True)


def test_a_host_that_cannot_be_one(spool: Path) -> None:
    name = put(spool)
    run = forward(spool, "a..b")
    assert (run.code, names(spool)) == (78, [name])


# Spools


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_wrong_spool(tmp_path: Path, options: tuple[str, ...]) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, reason in (
        (tmp_path / "missing", "No such file or directory"),
        (file, "Not a directory"),
    ):
        run = forward(path, "archive", options=options)
        assert run.code == 78
        assert f"spool: {path}: {reason}" in run.log


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_a_spool_that_is_not_ours(spool: Path) -> None:
    spool.chmod(0o555)
    run = forward(spool, "archive")
    spool.chmod(0o755)
    assert run.code == 78
    assert "Permission denied" in run.log


# --keep-sent


def test_keep_sent(spool: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    stored = [put(spool) for _ in range(5)]
    content = (spool / stored[0]).read_bytes()
    (kept / stored[0]).write_bytes(b"somebody's")
    with serving() as server:
        run = forward(spool, server.port, options=("--keep-sent", str(kept)))
    assert (run.code, names(spool)) == (0, [])
    assert names(kept) == sorted([*stored, f"{stored[0]}.1"])
    assert (kept / stored[0]).read_bytes() == b"somebody's"
    assert (kept / f"{stored[0]}.1").read_bytes() == content


def test_only_sent_mail_goes_to_keep_sent(spool: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    stored = [put(spool) for _ in range(3)]
    with serving(script={"LAST": ["450 no", "554 no", "250 ok"]}) as server:
        run = forward(spool, server.port, options=(*ONE, "--keep-sent", str(kept)))
    assert run.code == 75
    assert names(spool) == [stored[0], f"{stored[1]}.err"]
    assert names(kept) == [stored[2]]


@pytest.mark.parametrize("where", ["missing", "itself", "other file system"])
def test_keep_sent_where_nothing_can_be_kept(spool: Path, tmp_path: Path, where: str) -> None:
    kept = {"missing": tmp_path / "missing", "itself": spool, "other file system": Path("/dev/shm")}[
        where
    ]
    if where == "other file system" and kept.stat().st_dev == spool.stat().st_dev:
        pytest.skip("/dev/shm is no other file system")
    name = put(spool)
    with serving() as server:
        run = forward(spool, server.port, options=("--keep-sent", str(kept)))
    assert (run.code, names(spool), server.dialogues) == (78, [name], [])
    assert "--keep-sent: " in run.log


# --dry-run, --quiet


def test_dry_run(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Directory, "sync", lambda _: pytest.fail("something was changed"))
    name = put(spool)
    (spool / "arch.1").write_bytes(b"nothing")
    settle(spool / "arch.1")
    before = os.stat(spool).st_mtime_ns
    with serving() as server:
        run = forward(spool, server.port, options=["--dry-run"])
    assert (run.code, server.dialogues) == (0, [])
    assert run.output.splitlines() == [
        "arch.1: would be held: the file does not begin with X-REAL-MAILFROM",
        f"{name}: from=<sender@example.org> nrcpt=2 size={len(MESSAGE)}",
    ]
    assert (names(spool), os.stat(spool).st_mtime_ns) == (sorted(["arch.1", name]), before)


def test_quiet(spool: Path) -> None:
    put(spool)
    with serving() as server:
        assert forward(spool, server.port, options=["--quiet"]).log == ""
    put(spool)
    assert "takes no mail" in forward(spool, free_port(), options=["--quiet"]).log


def test_summary(spool: Path) -> None:
    for _ in range(3):
        put(spool)
    with serving(script={"LAST": ["450 no", "554 no", "250 ok"]}) as server:
        run = forward(spool, server.port, options=ONE)
    assert "ended: sent=1 kept=1 held=1 bytes=24 seconds=" in run.log
    assert run.code == 75
