"""SIGKILL before the k-th system call of a mail, for every k: acknowledged means kept, and never torn.

One thread at a time is counted: the committer's, which makes small mails durable; the worker's, which
writes large ones; the main one, which talks to the MTA. Each killed daemon is followed by another on
the same spool and socket.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import daemon
import injection
import powercut
from load import HEADERS, as_kept, send
from mta import MTA
from tally import Tally

pytestmark = pytest.mark.system

SMALL = b"hello\r\n"
LARGE = b"x" * 600_000
FILES = "openat,write,fadvise64,fdatasync,linkat,fsync,newfstatat,close"
TALK = "accept4,recvfrom,sendto,write"


def main_thread(pid: int) -> int:
    return pid


@pytest.mark.parametrize(
    ("body", "find", "traced", "expected"),
    [
        pytest.param(
            SMALL,
            injection.committer,
            FILES,
            ["openat", "write", "fadvise64", "fdatasync", "linkat", "fsync", "newfstatat", "close"],
            id="small mail, committer",
        ),
        pytest.param(
            SMALL, main_thread, TALK, ["recvfrom", "sendto"] * 2, id="small mail, main thread"
        ),
        pytest.param(
            LARGE,
            injection.committer,
            FILES,
            ["linkat", "fsync", "newfstatat", "close"],
            id="large mail, committer",
        ),
        pytest.param(
            LARGE,
            injection.worker,
            FILES,
            ["openat", "write", "fadvise64", "write", "fadvise64", "write", "fdatasync"],
            id="large mail, worker",
        ),
    ],
)
def test_killed_before_every_call(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    find: Callable[[int], int],
    traced: str,
    expected: list[str],
    tally: Tally,
) -> None:
    powercut.need("strace")
    tally.what = "kill -9 before each call of a mail, milter"
    monkeypatch.setattr(daemon, "COMMAND", injection.command_with("maildrop.WORKERS = 1"))
    verdict, mails, calls = deliver_and_kill(tmp_path / "spool", body, find, traced)
    assert (verdict, mails) == ("accepted", [as_kept(body)])
    assert _is_within(expected, calls), calls
    kept = 0
    for number, call in enumerate(calls):
        where = f"{call}:signal=KILL:when={calls[: number + 1].count(call)}"
        verdict, mails, _ = deliver_and_kill(tmp_path / "spool", body, find, traced, where)
        assert mails in ([], [as_kept(body)]), f"killed before call {number} of {calls}"
        assert verdict != "accepted" or mails, f"killed before call {number} of {calls}"
        kept += len(mails)
        tally.round([], len(mails))
    print(f"killed before each of {calls}; {kept} of {len(calls)} kills left the mail")


def _is_within(expected: list[str], calls: list[str]) -> bool:
    """Whether the expected calls were made in this order, whatever was in between."""
    left = iter(calls)
    return all(call in left for call in expected)


def deliver_and_kill(
    spool: Path, body: bytes, find: Callable[[int], int], traced: str, *faults: str
) -> tuple[str, list[tuple[bytes, tuple[bytes, ...], bytes]], list[str]]:
    """The verdict or `none`, the mails that are left, and the thread's calls. Empties the spool."""
    with daemon.running(spool) as milter:
        if find is injection.worker:  # it starts with the first large mail
            assert send(milter.address, LARGE) == "accepted"
            milter.files()[0].unlink()
        with injection.into(find(milter.pid), *faults, traced=traced) as trace:
            try:
                verdict = send(milter.address, body)
            except (EOFError, OSError):
                verdict = "none"
                assert milter.process.wait(10) == -signal.SIGKILL
        mails = milter.mails()
        for path in milter.files():
            path.unlink()
        return verdict, mails, trace.calls


def test_killed_while_a_second_mail_of_the_connection_is_under_way(tmp_path: Path) -> None:
    """The first was acknowledged and is kept; of the second there is nothing."""
    powercut.need("strace")
    with daemon.running(tmp_path / "spool") as milter, MTA(milter.address) as mta:
        mta.negotiate()
        assert mta.deliver(b"<a@b>", [b"<c@d>", b"<e@f>"], HEADERS, SMALL) == "accepted"
        with injection.into(injection.committer(milter.pid), "linkat:signal=KILL:when=1"):
            with pytest.raises((EOFError, OSError)):
                mta.deliver(b"<other@b>", [b"<c@d>"], HEADERS, SMALL)
            milter.process.wait(10)
        assert milter.mails() == [as_kept(SMALL)]
