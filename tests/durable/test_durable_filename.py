"""File names: unique whatever the clock does, sorted by time, and safe whoever the sender is."""

from __future__ import annotations

import re
import time

import pytest

from benno_common.filename import FileNames, is_mail_name, is_old_name, size_of

SAFE = re.compile(r"[A-Za-z0-9@._+=-]+\Z")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What time.time_ns() gives, in order; the last for ever."""
    times = [1_700_000_000_123_456_789]
    monkeypatch.setattr(time, "time_ns", lambda: times.pop(0) if len(times) > 1 else times[0])
    return times


def test_name(clock: list[int]) -> None:
    name = FileNames().new(b"a@b", 4711)
    assert re.fullmatch(r"1700000000\.123456\.[0-9a-f]{12}0\.S=4711\.eml", name)
    assert (size_of(name), is_mail_name(name), is_old_name(name)) == (4711, True, False)


def test_queue_id(clock: list[int]) -> None:
    name = FileNames().new(b"a@b", 7, "4dFqLw1Zk0z1b")
    assert re.fullmatch(r"1700000000\.123456\.[0-9a-f]{12}0\.4dFqLw1Zk0z1b\.S=7\.eml", name)
    labelled = FileNames(labelled=True).new(b"a@b", 7, "1vGx-3-Xy")
    assert labelled.endswith("0.1vGx-3-Xy.20231114T221320Z.a@b.S=7.eml")
    assert FileNames().new(b"a@b", 7, "").count(".") == 4


@pytest.mark.parametrize(
    "queue_id", ["../../x", "/", "..", "a b\n", "\0", "x.S=12.eml", "ü\udcff", "-rf", "x" * 300]
)
def test_queue_ids_are_safe(queue_id: str) -> None:
    name = FileNames().new(b"a@b", 7, queue_id)
    assert SAFE.match(name)
    assert len(name) < 80
    assert size_of(name) == 7
    assert name.count(".") == 5


def test_labelled_name(clock: list[int]) -> None:
    name = FileNames(labelled=True).new(b"a@b", 1)
    assert name.endswith(".20231114T221320Z.a@b.S=1.eml")
    assert FileNames(labelled=True).new(b"", 1).endswith("Z.null-sender.S=1.eml")


def test_equal_clock(clock: list[int]) -> None:
    """In one process and in ten."""
    processes = [FileNames() for _ in range(10)]
    names = {names.new(b"a@b", 1) for _ in range(1000) for names in processes}
    assert len(names) == 10_000


def test_clock_going_back(clock: list[int]) -> None:
    clock[:] = [1_700_000_000_000_000_000 - 10**9 * back for back in range(100)] * 2
    names = FileNames()
    assert len({names.new(b"a@b", 1) for _ in range(200)}) == 200


def test_names_sort_by_time(clock: list[int]) -> None:
    """Also over the edge of a second, and where the clock gives more or fewer digits."""
    clock[:] = [9, 10**9 - 1, 10**9, 1_700_000_000_000_999_999, 1_700_000_000_001_000_000, 2 * 10**18]
    names = FileNames()
    made = [names.new(b"a@b", 10**number) for number in range(6)]
    assert made == sorted(made)


@pytest.mark.parametrize(
    "sender",
    [
        b"../../etc/passwd",
        b"/",
        b".",
        b"..",
        b"a b\tc\nd",
        b"\0",
        b"*?[]{}$`'\"\\|;&<>!#~",
        b"j\xfcrgen@b",
        "jürgen@bücher.example".encode(),
        b"\xff" * 10,
        b"x" * 300,
        b"-rf",
        b"x.S=12.eml",
        b"a@b.eml.err",
    ],
)
def test_labels_are_safe(sender: bytes) -> None:
    name = FileNames(labelled=True).new(sender, 7)
    assert SAFE.match(name)
    assert len(name) < 200
    assert size_of(name) == 7
    assert re.match(r"[0-9]{10}\.", name)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("1700000000.123456.abc0.S=4711.eml", 4711),
        ("1700000000.123456..S=0.eml", 0),
        ("1700000000.123456.abc0.20231114T221320Z.a@b.S=1.eml.S=2.eml", 2),
        ("1700000000.123456.a\nb.S=2.eml", 2),
        ("1700000000.123456.abc0.S=999999999999999999.eml", 10**18 - 1),
        ("1700000000.123456.abc0.S=1000000000000000000.eml", None),
        ("170000000.123456.abc0.S=1.eml", None),
        ("1700000000.12345.abc0.S=1.eml", None),
        ("1700000000.123456.abc0.S=1.eml\n", None),
        ("1700000000.123456.abc0.S=1.eml.err", None),
        ("1700000000.123456.abc0.S=1.eml.1.err", None),
        ("1700000000.123456.abc0.S=-1.eml", None),
        ("1700000000.123456.abc0.S=.eml", None),
        ("1700000000.123456.abc0.eml", None),
        (".1700000000.123456.abc0.S=1.eml", None),
    ],
)
def test_size_in_a_name(name: str, size: int | None) -> None:
    assert size_of(name) == size
    if size is None and ".err" in name:
        assert not is_mail_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden.eml",
        ".probe.0123456789abcdef",
        ".inbox.00.staging",
        "lost+found",
        "mail.eml.err",
        "arch.Xy3zA9.err",
        "arch.Xy3zA9.msg.err",
        "mail.S=12.eml",  # ours by its end, but without a time
    ],
)
def test_no_mail(name: str) -> None:
    assert not is_mail_name(name)
