"""Staging directories: what a killed process left is swept, what a living one uses is not."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benno_common.durable import Directory
from benno_common.durable.staging import Staging, sweep
from committing import descriptors

OWNER = """\
import sys
from benno_common.durable import Directory
directory = Directory(sys.argv[1], allow_unnamed=False)
directory.open()
draft = directory.draft()
draft.write(b"half of a ma")
print(directory.place.staging.path, flush=True)
sys.stdin.read()
"""


@contextmanager
def owner(inbox: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a file in progress, and its staging directory."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(inbox)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def staged(inbox: Path) -> list[Path]:
    return [path for path in inbox.parent.iterdir() if path != inbox]


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_uses_is_not(inbox: Path) -> None:
    with owner(inbox) as (process, theirs):
        assert len(list(theirs.iterdir())) == 2  # its lock, its draft
        directory = Directory(str(inbox))
        directory.open()
        assert len(list(theirs.iterdir())) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        directory.open()
        assert staged(inbox) == []
        directory.close()
    assert os.listdir(inbox) == []


def test_our_own_is_not_swept_while_we_live(inbox: Path) -> None:
    directory = Directory(str(inbox), allow_unnamed=False)
    directory.open()
    (ours,) = staged(inbox)
    assert sweep(str(inbox)) == []
    directory.open()
    assert len(staged(inbox)) == 1
    assert not ours.exists()  # opening anew makes a new one, and the old one had no drafts
    directory.close()
    assert staged(inbox) == []


def test_only_we_may_look_into_it(inbox: Path) -> None:
    staging = Staging(str(inbox))
    assert os.stat(staging.path).st_mode & 0o777 == 0o700
    assert os.path.dirname(staging.path) == str(inbox.parent)  # not where a watcher would see it
    staging.close()


@pytest.mark.parametrize(("age", "swept"), [(0, False), (50, False), (70, True)])
def test_one_without_a_lock_is_being_made_unless_it_is_old(inbox: Path, age: int, swept: bool) -> None:
    young = inbox.parent / ".inbox.0123456789abcdef.staging"
    young.mkdir(0o700)
    then = time.time() - age
    os.utime(young, (then, then))
    assert sweep(str(inbox)) == ([str(young)] if swept else [])
    assert young.exists() != swept


@pytest.mark.parametrize(
    "name",
    [
        ".inbox2.0123456789abcdef.staging",
        "inbox.0123456789abcdef.staging",
        ".inbox.0123456789abcdef.staging.old",
        ".inbox.0123456789abcdef",
        ".inbox.backup.staging",
        ".inbox.0123456789ABCDEF.staging",
        "other",
    ],
)
def test_what_is_not_ours_is_never_touched(inbox: Path, name: str) -> None:
    other = inbox.parent / name
    other.mkdir(0o700)
    (other / "lock").touch()
    (other / "precious").touch()
    assert sweep(str(inbox)) == []
    assert len(list(other.iterdir())) == 2


LEFT = ".inbox.0123456789abcdef.staging"


def test_no_link_is_followed(inbox: Path) -> None:
    """A link to the mail directory itself, say, would cost all its mail."""
    inbox.chmod(0o700)
    (inbox / "mail.eml").touch()
    (inbox.parent / LEFT).symlink_to(inbox)
    then = time.time() - 70
    os.utime(inbox, (then, then))
    assert sweep(str(inbox)) == []
    assert (inbox / "mail.eml").exists()


def test_others_may_not_have_made_it(inbox: Path) -> None:
    left = inbox.parent / LEFT
    left.mkdir()
    left.chmod(0o755)
    (left / "lock").touch()
    assert sweep(str(inbox)) == []
    assert left.exists()


def test_what_else_lies_in_it_stays(inbox: Path) -> None:
    left = inbox.parent / LEFT
    left.mkdir(0o700)
    for name in ("lock", "fedcba9876543210", "precious"):
        (left / name).touch()
    assert sweep(str(inbox)) == []
    assert [path.name for path in left.iterdir()] == ["precious"]


def test_a_lock_that_cannot_be_opened_leaves_no_descriptor(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has failed, say, and the descriptor would keep it from being unmounted."""
    left = inbox.parent / LEFT
    left.mkdir(0o700)
    (left / "lock").touch()
    call = os.open

    def failing(path: str, *arguments: Any, **named: Any) -> int:
        if path == "lock":
            raise OSError(errno.EIO, "Input/output error")
        return call(path, *arguments, **named)

    before = descriptors()
    monkeypatch.setattr(os, "open", failing)
    assert sweep(str(inbox)) == []
    assert descriptors() == before
    assert left.exists()


def test_a_parent_that_cannot_be_read_is_no_reason_to_fail(tmp_path: Path) -> None:
    assert sweep(str(tmp_path / "missing" / "inbox")) == []
