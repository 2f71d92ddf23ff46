"""The spool: which files are mail, in which order, and that no envelope is ever guessed."""

from __future__ import annotations

import os
import random
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benno_common import spool as spool_module
from benno_common.durable import Directory
from benno_common.envelope import Envelope
from benno_common.filename import FileNames
from benno_common.mailfile import Encoder, MailFileError
from benno_common.spool import READ_SIZE, SETTLED, Spool, Unfinished
from committing import descriptors
from directories import settle

ENVELOPE = Envelope(b"a@example.org", (b"b@example.net", b"bcc@example.net"), b"gw1")
MESSAGE = b"Subject: hi\r\nX-REAL-RCPTTO: <forged@x>\r\n\r\nhello\r\n"
OLD_FILE = b"X-REAL-MAILFROM:a@example.org\nX-REAL-RCPTTO: b@example.net\nSubject: old\n\nhello\n"


@pytest.fixture
def opened(inbox: Path) -> Iterator[Directory]:
    directory = Directory(str(inbox))
    directory.open()
    yield directory
    directory.close()


@pytest.fixture
def spool(opened: Directory) -> Spool:
    return Spool(opened)


def encoded(message: bytes = MESSAGE) -> bytes:
    encoder = Encoder(ENVELOPE)
    return encoder.start() + encoder.feed(message) + encoder.finish()


def put(inbox: Path, content: bytes, size: int | None = None) -> str:
    """A file with this size in its name, by default the true one."""
    name = FileNames().new(b"", len(content) if size is None else size)
    (inbox / name).write_bytes(content)
    return name


OLD_NAMES = [
    "arch.Xy3zA9",
    "arch.Xy3zA9.msg",
    "arch.2020-01-01-10-00.user@example.org.Xy3zA9ab.msg",  # with -t
    "other.eml",
]


def numbered(second: int) -> str:
    return f"{1_700_000_000 + second}.000000.x.S=1.eml"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where something blocks for ever."""

    def too_late(*_: object) -> None:
        raise TimeoutError(f"blocked for {seconds} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Listing


def test_oldest_first_whatever_the_directory_says(inbox: Path, spool: Spool) -> None:
    names = [numbered(second) for second in range(100)]
    seed = random.randrange(10**9)
    for name in random.Random(seed).sample(names, len(names)):
        (inbox / name).touch()
    assert spool.window() == names, f"seed {seed}"
    assert spool.count() == 100


def test_window_after_window(inbox: Path, opened: Directory, spool: Spool) -> None:
    """Each name once, whatever comes and goes in between."""
    names = [numbered(second) for second in range(25)]
    for name in names:
        (inbox / name).touch()
    first = spool.window(size=10)
    opened.remove(first[:5])
    second = spool.window(first[-1], size=10)
    (inbox / numbered(-1)).touch()  # older than all, as if the clock had gone back
    third = spool.window(second[-1], size=10)
    assert first + second + third == names
    assert spool.window(third[-1], size=10) == []
    assert spool.window(size=1) == [numbered(-1)]


def test_windows_of_any_size(inbox: Path, spool: Spool) -> None:
    """Names of the older milter are not passed over, wherever they sort and are listed."""
    old = ["1800000000.000000.x.S=1.eml.eml", "1800000000.eml", "arch.Xy3zA9", "zzz.eml"]
    names = [*old, *map(numbered, range(100))]
    seed = random.randrange(10**9)
    for name in random.Random(seed).sample([*names, "2.no.mail.S=1.eml"], len(names) + 1):
        (inbox / name).touch()
    for size in (1, 3, 10):
        listed: list[str] = []
        while window := spool.window(listed[-1] if listed else None, size=size):
            listed += window
        assert listed == names, f"seed {seed}"
    assert spool.foreign == {"2.no.mail.S=1.eml"}


def test_what_a_window_leaves_out_is_hardly_looked_at(
    inbox: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(10**9)
    for name in random.Random(seed).sample([numbered(second) for second in range(1000)], 1000):
        (inbox / name).touch()
    looked: list[str] = []
    age = spool_module._age

    def watched(name: str) -> str:
        looked.append(name)
        return age(name)

    monkeypatch.setattr(spool_module, "_age", watched)
    assert spool.window(size=10) == [numbered(second) for second in range(10)]
    assert len(looked) < 400, f"seed {seed}"


def test_files_of_the_older_milter_come_first(inbox: Path, spool: Spool) -> None:
    old = ["arch.Xy3zA9", "arch.Xy3zA9.msg", "zzz.eml"]
    for name in [numbered(1), *old, numbered(0)]:
        (inbox / name).touch()
    assert spool.window() == [*old, numbered(0), numbered(1)]
    assert spool.window("arch.Xy3zA9.msg") == ["zzz.eml", numbered(0), numbered(1)]
    assert spool.window("zzz.eml", size=1) == [numbered(0)]
    assert spool.window(numbered(0)) == [numbered(1)]


def test_hidden_and_held_files_are_none(inbox: Path, spool: Spool) -> None:
    for name in (".hidden.eml", "held.eml.err", numbered(0) + ".err", "arch.x.err", "notes.txt"):
        (inbox / name).touch()
    (inbox / "lost+found").mkdir()
    assert spool.window() == []
    assert spool.count() == 0


def test_a_name_that_is_no_text(inbox: Path, spool: Spool) -> None:
    path = os.path.join(os.fsencode(inbox), b"arch.\xff\xfe")
    with open(path, "wb") as file:
        file.write(OLD_FILE)
    (name,) = spool.window()
    settle(inbox / name)
    assert spool.read(name).envelope == Envelope(b"a@example.org", (b"b@example.net",))
    assert spool.hold(name) == name + ".err"


# Reading


@pytest.mark.parametrize("size", [0, 1, READ_SIZE - 200, READ_SIZE, 3 * READ_SIZE + 1])
def test_read(inbox: Path, spool: Spool, size: int) -> None:
    message = MESSAGE + b"x" * size
    content = encoded(message)
    mail = spool.read(put(inbox, content))
    assert mail.envelope == ENVELOPE
    assert mail.stamp.size == len(content)
    assert b"".join(mail.pieces) == message


def test_a_mail_whose_pieces_nobody_wants_leaves_no_descriptor(inbox: Path, spool: Spool) -> None:
    """A recipient was refused, say: a run over 20,000 mails must not use them up."""
    name = put(inbox, encoded(MESSAGE + b"x" * 200_000))
    before = descriptors()
    for wanted in (0, 1, 1000):
        mail = spool.read(name)
        for _, _ in zip(range(wanted), mail.pieces, strict=False):
            pass
        del mail
        assert descriptors() <= before, f"{wanted} pieces read"


def test_torn_at_every_octet(inbox: Path, spool: Spool) -> None:
    content = encoded()
    before = descriptors()
    for length in range(len(content)):
        name = put(inbox, content[:length], len(content))
        with pytest.raises(MailFileError, match=f"{name} has {length} octets: it was torn or changed"):
            spool.read(name)
    assert descriptors() <= before


def test_longer_than_its_name_says(inbox: Path, spool: Spool) -> None:
    content = encoded()
    with pytest.raises(MailFileError, match="torn or changed"):
        spool.read(put(inbox, content + b"x", len(content)))


@pytest.mark.parametrize("length", [READ_SIZE + 1, 3 * READ_SIZE])
def test_torn_while_it_is_read(inbox: Path, spool: Spool, length: int) -> None:
    name = put(inbox, encoded(b"\r\n" + b"x" * 5 * READ_SIZE))
    mail = spool.read(name)
    next(mail.pieces)
    os.truncate(inbox / name, length)
    with pytest.raises(MailFileError, match=f"when the file was opened, now {length}"):
        list(mail.pieces)


def test_appended_to_while_it_is_read(inbox: Path, spool: Spool) -> None:
    name = put(inbox, encoded())
    mail = spool.read(name)
    with (inbox / name).open("ab") as file:
        file.write(b"more")
    with pytest.raises(MailFileError, match="when the file was opened"):
        list(mail.pieces)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        MESSAGE,
        b"X-REAL-RCPTTO: <b>\r\n" + MESSAGE,
        b"X-REAL-MAILFROM: <a>\n" + MESSAGE,
        b"\0" * 99,
    ],
    ids=["empty", "no block", "no sender", "LF in our block", "zeros"],
)
def test_without_an_envelope(inbox: Path, spool: Spool, content: bytes) -> None:
    before = descriptors()
    with pytest.raises(MailFileError):
        spool.read(put(inbox, content))
    assert descriptors() <= before


@pytest.mark.parametrize("name", OLD_NAMES)
def test_files_of_the_older_milter(inbox: Path, spool: Spool, name: str) -> None:
    (inbox / name).write_bytes(OLD_FILE)
    settle(inbox / name)
    mail = spool.read(name)
    assert mail.envelope == Envelope(b"a@example.org", (b"b@example.net",))
    assert b"".join(mail.pieces) == b"Subject: old\n\nhello\n"
    (inbox / name).write_bytes(b"Subject: no block\n\nhello\n")
    settle(inbox / name)
    with pytest.raises(MailFileError, match="does not begin with X-REAL-MAILFROM"):
        spool.read(name)


@pytest.mark.parametrize("name", OLD_NAMES)
@pytest.mark.parametrize("content", [b"", OLD_FILE[:40], OLD_FILE], ids=["empty", "block", "whole"])
@pytest.mark.parametrize("seconds", [0, SETTLED - 60, -SETTLED + 60], ids=["now", "lately", "clocks"])
def test_files_that_may_still_be_written(
    inbox: Path, spool: Spool, name: str, content: bytes, seconds: float
) -> None:
    """Neither mail nor refused: the next run looks at them."""
    (inbox / name).write_bytes(content)
    settle(inbox / name, seconds)
    before = descriptors()
    with pytest.raises(Unfinished) as raised:
        spool.read(name)
    assert raised.value.strerror == "changed within the last 10 minutes, and may not be whole yet"
    assert descriptors() <= before
    assert (spool.window(), spool.count()) == ([name], 1)


@pytest.mark.parametrize("seconds", [SETTLED + 1, 10**9, -SETTLED - 60, -(10**9)])
def test_no_clock_keeps_a_file_for_ever(inbox: Path, spool: Spool, seconds: float) -> None:
    (inbox / "arch.Xy3zA9").write_bytes(OLD_FILE)
    settle(inbox / "arch.Xy3zA9", seconds)
    assert b"".join(spool.read("arch.Xy3zA9").pieces) == b"Subject: old\n\nhello\n"


def test_torn_file_of_the_older_milter(inbox: Path, spool: Spool) -> None:
    before = descriptors()
    for length in range(len(OLD_FILE) - len(b"\nhello\n")):
        (inbox / "arch.1").write_bytes(OLD_FILE[:length])
        settle(inbox / "arch.1")
        with pytest.raises(MailFileError):
            list(spool.read("arch.1").pieces)
    assert descriptors() <= before


def test_other_names_are_never_read(inbox: Path, spool: Spool) -> None:
    for name in ("notes.txt", numbered(0) + ".err"):
        (inbox / name).write_bytes(encoded())
        with pytest.raises(MailFileError, match="is not the name of a mail file"):
            spool.read(name)


def test_missing(spool: Spool) -> None:
    with pytest.raises(FileNotFoundError):
        spool.read(numbered(0))


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{here}/{path.name}")  # the path may be too long for one
        finally:
            os.close(here)


def _make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("needs the right to make a device")


PLANTED = {
    "symlink": lambda path: path.symlink_to("/etc/passwd"),
    "symlink to a mail": lambda path: path.symlink_to(numbered(0)),
    "dangling symlink": lambda path: path.symlink_to("nowhere"),
    "FIFO": os.mkfifo,
    "directory": os.mkdir,
    "socket": _make_socket,
    "device": _make_device,
}


@pytest.mark.parametrize("name", [numbered(1), "arch.Xy3zA9"], ids=["our name", "old name"])
@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_no_regular_file_is_never_followed(
    inbox: Path, spool: Spool, kind: str, name: str
) -> None:
    (inbox / numbered(0)).write_bytes(OLD_FILE)
    PLANTED[kind](inbox / name)
    before = descriptors()
    with within(5), pytest.raises(MailFileError, match=f"{name} is not a regular file"):
        spool.read(name)
    assert descriptors() <= before
    if kind != "directory":
        assert spool.hold(name) == name + ".err"
        assert os.path.lexists(inbox / (name + ".err"))
        assert not os.path.lexists(inbox / name)


# Taking out


def test_remove_syncs_the_directory_once(
    inbox: Path, opened: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [put(inbox, encoded()) for _ in range(5)]
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(len(os.listdir(inbox))))
    opened.remove(names)
    assert synced == [0]


def test_hold_is_synced_and_never_goes_over_another(
    inbox: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = put(inbox, encoded())
    (inbox / (name + ".err")).write_bytes(b"before")
    synced: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(sorted(os.listdir(inbox))))
    assert spool.hold(name) == name + ".1.err"
    assert synced == [[name + ".1.err", name + ".err"]]
    assert (inbox / (name + ".err")).read_bytes() == b"before"
    assert (inbox / (name + ".1.err")).read_bytes() == encoded()
    assert spool.window() == []
