"""Between two runs files are put away: their directory is empty, and no inode is freed."""

from __future__ import annotations

from pathlib import Path

from bench import place


def test_put_away(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    inodes = set()
    for content in (b"small", b"x" * 1_000_000, b"small again"):
        (spool / "1.eml").write_bytes(content)  # the same name each time
        inodes.add((spool / "1.eml").stat().st_ino)
        place.put_away(spool.iterdir())
        assert list(spool.iterdir()) == []
    kept = list(tmp_path.rglob("*.eml"))
    assert {path.stat().st_ino for path in kept} == inodes
    assert sorted(path.read_bytes() for path in kept) == [b"", b"small", b"small again"]


def test_of_a_file_with_many_names_nothing_is_cut_off(tmp_path: Path) -> None:
    spool, other = tmp_path / "spool" / "1.eml", tmp_path / "other"
    spool.parent.mkdir()
    other.write_bytes(b"x" * 1_000_000)
    spool.hardlink_to(other)
    place.clear(spool.parent)
    assert list(spool.parent.iterdir()) == []
    assert other.stat().st_size == 1_000_000


def test_all_is_removed_at_the_end(tmp_path: Path) -> None:
    with place.made(tmp_path) as directory:
        (directory / "spool").mkdir()
        (directory / "spool" / "1.eml").write_bytes(b"x")
        place.put_away((directory / "spool").iterdir())
    assert list(tmp_path.iterdir()) == []
