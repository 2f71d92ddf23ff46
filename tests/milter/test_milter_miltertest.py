"""Sendmail's own client side: scripts for miltertest(8) against the real daemon."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import daemon
from milter_memory import Archived

SCRIPTS = Path(__file__).parent / "scripts"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not shutil.which("miltertest"), reason="miltertest is not installed"),
]


def simple(sender: bytes, recipient: bytes, subject: bytes, body: bytes) -> Archived:
    return sender, (recipient,), b"Subject: " + subject + b"\r\n\r\n" + body


TWO = [simple(b"a@b", b"c@d", b"one", b"one\r\n"), simple(b"e@f", b"g@h", b"two", b"two\r\n")]
FOLDED = b"Subject: plain\r\nX-Folded: one\r\n\ttwo\r\nX-Empty: \r\n\r\nhello\r\nworld\r\n"

# Options of the daemon, and what must lie in the spool.
EXPECTED: dict[str, tuple[tuple[str, ...], list[Archived]]] = {
    "abort": ((), [simple(b"second@b", b"second@d", b"second", b"second\r\n")]),
    "abort_after_end": ((), TWO),
    "answers_to_all": ((), [simple(b"a@b", b"c@d", b"old", b"old\r\n")]),
    "bad_address": ((), [simple(b"a@b", b"c@d", b"good", b"good\r\n")]),
    "negotiation": ((), []),
    "null_sender": ((), [simple(b"", b"c@d", b"bounce", b"bounce\r\n")]),
    "plain": ((), [(b"a@b", (b"c@d", b"bcc@e"), FOLDED)]),
    "temporary": (("--min-free", "9999999T"), []),
    "two_mails": ((), TWO),
    "vanished": ((), []),
}


def test_every_script_is_run() -> None:
    assert sorted(path.stem for path in SCRIPTS.glob("*.lua")) == sorted([*EXPECTED, "mail"])


@pytest.mark.parametrize("name", EXPECTED)
def test_script(tmp_path: Path, name: str) -> None:
    run(tmp_path / "spool", name, None)


def test_script_over_tcp(tmp_path: Path) -> None:
    run(tmp_path / "spool", "two_mails", "inet:0@127.0.0.1")


def run(spool: Path, name: str, socket: str | None) -> None:
    options, expected = EXPECTED[name]
    with daemon.running(spool, *options, socket=socket) as milter:
        where = milter.address
        address = f"unix:{where}" if isinstance(where, str) else f"inet:{where[1]}@{where[0]}"
        command = ["miltertest", "-vv", "-D", f"address={address}", "-s", f"{name}.lua"]
        done = subprocess.run(
            command, cwd=SCRIPTS, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{name}.lua: {done.stdout}{done.stderr}{milter.log}"
        assert milter.stop() == 0
        assert milter.mails() == expected
