"""Each call on a mail's way to the disk fails: 451, nothing left, one log line, and on it goes."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable, Iterator

import pytest

import daemon
import injection
import powercut
from daemon import Daemon
from load import as_kept, send
from processes import descriptors
from tally import Tally
from waiting import wait_for

pytestmark = pytest.mark.system

NOT_STORED = "451 4.3.0 The mail archive could not store this mail"
SMALL = b"hello\r\n"
LARGE = b"x" * 600_000

# Where each call of a small and of a large mail is made, and what may come of it.
CALLS = {
    "openat": ["ENOSPC", "EDQUOT", "EACCES", "EMFILE"],
    "write": ["ENOSPC", "EDQUOT", "EIO"],
    "fdatasync": ["EIO", "ENOSPC", "EDQUOT"],
    "linkat": ["ENOSPC", "EDQUOT", "EACCES", "EIO"],
    "fsync": ["EIO", "ENOSPC"],
}
CASES = [
    pytest.param(size, call, error, 1, id=f"{size}-{call}-{error}")
    for size in ("small", "large")
    for call, errors in CALLS.items()
    for error in errors
] + [  # the second piece, and the last
    pytest.param("large", "write", error, when, id=f"large-write-{error}-{when}")
    for error in CALLS["write"]
    for when in (2, 3)
]


@pytest.fixture(scope="module")
def milter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all: that it lives on is what is tested. It has one worker, and no mail."""
    powercut.need("strace")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(daemon, "COMMAND", injection.command_with("maildrop.WORKERS = 1"))
        with daemon.running(tmp_path_factory.mktemp("injection") / "spool") as milter:
            accepted(milter, LARGE)
            yield milter
            assert milter.stop() == 0


def take_out(milter: Daemon) -> list[tuple[bytes, tuple[bytes, ...], bytes]]:
    """The mails in the spool, which is empty then."""
    mails = milter.mails()
    for path in milter.files():
        path.unlink()
    return mails


def files(milter: Daemon) -> list[str]:
    """What it has open, without its connections, the last of which may just be closed."""
    return [lead for lead in descriptors(milter.pid) if not lead.startswith("socket:")]


def lines(milter: Daemon, queue_id: str) -> list[str]:
    return [line for line in milter.log.splitlines() if f"{queue_id}:" in line]


def accepted(milter: Daemon, body: bytes) -> None:
    """At once, or after the directory was found to work again."""
    wait_for(lambda: send(milter.address, body) == "accepted", "mail is taken again", 10)
    assert take_out(milter) == [as_kept(body)]


@pytest.mark.parametrize(("size", "call", "error", "when"), CASES)
def test_a_call_that_fails(
    milter: Daemon, size: str, call: str, error: str, when: int, tally: Tally
) -> None:
    tally.what = "a call fails, milter"
    body = SMALL if size == "small" else LARGE
    in_worker = size == "large" and call in {"openat", "write", "fdatasync"}
    find: Callable[[int], int] = injection.worker if in_worker else injection.committer
    queue_id = f"{size}.{call}.{error}.{when}"
    before = files(milter)
    with injection.into(find(milter.pid), f"{call}:error={error}:when={when}") as trace:
        assert send(milter.address, body, queue_id) == NOT_STORED
    assert trace.injected == [call]
    assert take_out(milter) == []
    wait_for(lambda: lines(milter, queue_id), "its line in the log")  # written after the reply
    (line,) = lines(milter, queue_id)
    assert re.search(rf"WARNING: {queue_id}: refused from=<a@b> nrcpt=2 .*reason=.*Errno", line), line
    accepted(milter, body)
    wait_for(lambda: files(milter) == before, "no descriptor is left open")
    tally.round([], 1)


def test_a_directory_sync_that_fails_is_told_once_and_its_end_too(milter: Daemon) -> None:
    told = milter.log.count("takes no mail"), milter.log.count("takes mail again")
    with injection.into(injection.committer(milter.pid), "fsync:error=EIO:when=1"):
        assert send(milter.address, SMALL, "BROKEN") == NOT_STORED
    accepted(milter, SMALL)
    assert (milter.log.count("takes no mail"), milter.log.count("takes mail again")) == (
        told[0] + 1,
        told[1] + 1,
    )


def test_while_the_directory_cannot_be_synced_mail_is_refused_at_its_beginning(milter: Daemon) -> None:
    with injection.into(injection.committer(milter.pid), "fsync:error=EIO"):
        assert send(milter.address, SMALL) == NOT_STORED
        for _ in range(3):
            assert send(milter.address, SMALL) == "451 4.3.0 The mail archive is not available"
    assert take_out(milter) == []
    accepted(milter, SMALL)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
def test_a_writeback_that_cannot_be_started_does_no_harm(milter: Daemon, body: bytes) -> None:
    thread = injection.committer if body == SMALL else injection.worker
    with injection.into(thread(milter.pid), "fadvise64:error=EINVAL") as trace:
        assert send(milter.address, body) == "accepted"
    assert "fadvise64" in trace.injected
    assert take_out(milter) == [as_kept(body)]


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
def test_a_short_write_is_written_on(milter: Daemon, body: bytes) -> None:
    """strace says that 7 octets were written, and has none written: all others must be there."""
    thread = injection.committer if body == SMALL else injection.worker
    with injection.into(thread(milter.pid), "write:retval=7:when=1") as trace:
        assert send(milter.address, body) == "accepted"
    assert trace.injected == ["write"]
    assert send(milter.address, body) == "accepted"
    short, whole = milter.files()
    assert short.read_bytes() == whole.read_bytes()[7:]
    short.unlink()
    assert take_out(milter) == [as_kept(body)]


@pytest.mark.parametrize("limit", [4096, 65536 + 10, 299_000])
def test_a_write_that_is_short_and_then_fails(milter: Daemon, limit: int) -> None:
    """The kernel's own: a limit on the size of files."""
    queue_id = f"LIMIT{limit}"
    before = resource.prlimit(milter.pid, resource.RLIMIT_FSIZE, (limit + 10**6, -1))
    log = os.path.getsize(milter.spool.parent / "spool.log")
    try:
        resource.prlimit(milter.pid, resource.RLIMIT_FSIZE, (max(limit, log + 4096), -1))
        assert send(milter.address, LARGE * 2, queue_id) == NOT_STORED
        assert send(milter.address, SMALL) == "accepted"
    finally:
        resource.prlimit(milter.pid, resource.RLIMIT_FSIZE, before)
    (line,) = lines(milter, queue_id)
    assert "File too large" in line
    assert take_out(milter) == [as_kept(SMALL)]
    accepted(milter, LARGE)
