"""Each call on a mail's way to the disk of benno-smtp fails: 451 or 452, nothing left, on it goes.

The mails end on one connection, by BDAT and by DATA, so that it is also seen that the content of a
refused one was read to its end and nothing of it taken for commands.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import daemon
import injection
import powercut
import receiver_daemon
from processes import descriptors
from receiver_daemon import Receiver
from smtp_load import Connection, make_message
from tally import Tally
from waiting import wait_for

pytestmark = pytest.mark.system

SENDER, RECIPIENTS = b"a@b", (b"c@d", b"bcc@d")
SMALL = make_message(SENDER, b"\r\n.\r\nMAIL FROM:<x@y>\r\nhello\0")
LARGE = make_message(SENDER, b"\r\nQUIT\r\n" * 100_000)  # written in three pieces at least
NOT_STORED = "451 4.3.0 The mail archive could not store this mail"
NOT_AVAILABLE = "451 4.3.0 The mail archive is not available"
NO_SPACE = "452 4.3.1 The mail archive is short of space"
FULL = ("ENOSPC", "EDQUOT")

# One worker, and what is looked at once a second is looked at more often.
PRELUDE = """
from benno_common import maildrop
from benno_common.durable import committer
maildrop.WORKERS = 1
maildrop.RECHECK_SECONDS = committer.RETRY_SECONDS = 0.05
"""

# What each call may fail with, and how many of them a small and a large mail make.
CALLS = [
    ("openat", ["ENOSPC", "EDQUOT", "EACCES", "EMFILE", "EIO"], 1, 1),
    ("write", ["ENOSPC", "EDQUOT", "EIO"], 1, 3),
    ("fdatasync", ["EIO", "ENOSPC", "EDQUOT"], 1, 1),
    ("linkat", ["ENOSPC", "EDQUOT", "EACCES", "EIO"], 1, 1),
    ("fsync", ["EIO", "ENOSPC"], 1, 1),
]
CASES = [
    pytest.param(message, call, error, number, id=f"{name}-{call}{number}-{error}")
    for call, errors, *counts in CALLS
    for name, message, count in zip(("small", "large"), (SMALL, LARGE), counts, strict=True)
    for number in range(1, count + 1)
    for error in errors[: 1 if number > 1 else None]
]


@pytest.fixture
def receiver(one_for_all: Receiver) -> Iterator[Receiver]:
    """Its directory is empty."""
    yield one_for_all
    for path in kept(one_for_all):
        path.unlink()


@pytest.fixture(scope="module")
def one_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """That it lives on is what is tested. It has one worker, and no mail."""
    powercut.need("strace")
    inbox = tmp_path_factory.mktemp("injection") / "inbox"
    with receiver_daemon.running(inbox, prelude=PRELUDE) as receiver:
        accepted(receiver, LARGE)
        yield receiver
        assert receiver.stop() == 0


def deliver(connection: Connection, message: bytes, sender: bytes = SENDER) -> str:
    """The small ones by BDAT, the large ones by DATA."""
    send = connection.send if len(message) > 100_000 else connection.send_chunks
    return send(sender, RECIPIENTS, message)


def kept(receiver: Receiver) -> list[Path]:
    """The visible files, oldest first; a directory that is tried anew has others for a moment."""
    return sorted(receiver.inbox.glob("[!.]*"))


def take_out(receiver: Receiver) -> list[tuple[bytes, tuple[bytes, ...], bytes]]:
    """The mails in the import directory, which is empty then."""
    mails = [daemon.read(path) for path in kept(receiver)]
    for path in kept(receiver):
        path.unlink()
    return mails


def accepted(receiver: Receiver, message: bytes) -> None:
    """At once, or after the directory was found to work again."""
    with Connection(receiver.port) as connection:
        wait_for(lambda: deliver(connection, message)[:3] == "250", "mail is taken again", 10)
    assert take_out(receiver) == [(SENDER, RECIPIENTS, message)]


def files(receiver: Receiver) -> list[str]:
    """What it has open, without its connections, the last of which may just be closed."""
    return [lead for lead in descriptors(receiver.pid) if not lead.startswith("socket:")]


@pytest.mark.parametrize(("message", "call", "error", "number"), CASES)
def test_a_call_that_fails(
    receiver: Receiver, message: bytes, call: str, error: str, number: int, tally: Tally
) -> None:
    tally.what = "a call fails, receiver"
    in_worker = message == LARGE and call in {"openat", "write", "fdatasync"}
    find: Callable[[int], int] = injection.worker if in_worker else injection.committer
    sender = f"{len(message)}.{call}{number}.{error}@b".encode()
    before = files(receiver)
    with Connection(receiver.port) as connection:
        with injection.into(find(receiver.pid), f"{call}:error={error}:when={number}") as trace:
            reply = deliver(connection, message, sender)
        assert trace.injected == [call]
        assert reply == (NO_SPACE if error in FULL else NOT_STORED)
        assert take_out(receiver) == []
        said = len(connection.replies)
        assert connection.command(b"NOOP") == "250 2.0.0 OK"
        assert len(connection.replies) == said + 1
    (line,) = (line for line in receiver.log.splitlines() if f"from=<{sender.decode()}>" in line)
    assert re.search(r"WARNING: NOQUEUE: refused client=127.0.0.1 .* nrcpt=2 .*reason=.*Errno", line)
    accepted(receiver, message)
    wait_for(lambda: files(receiver) == before, "no descriptor is left open")
    tally.round([], 1)


@pytest.mark.parametrize("message", [SMALL, LARGE], ids=["small", "large"])
def test_a_name_that_is_taken_is_not_overwritten(receiver: Receiver, message: bytes) -> None:
    with (
        injection.into(injection.committer(receiver.pid), "linkat:error=EEXIST:when=1") as trace,
        Connection(receiver.port) as connection,
    ):
        assert deliver(connection, message).startswith("250")
    assert trace.calls == ["linkat", "linkat"]
    assert take_out(receiver) == [(SENDER, RECIPIENTS, message)]


def test_while_the_directory_cannot_be_synced_mail_is_refused_at_its_beginning(
    receiver: Receiver,
) -> None:
    with Connection(receiver.port) as connection:
        with injection.into(injection.committer(receiver.pid), "fsync:error=EIO"):
            assert deliver(connection, SMALL) == NOT_STORED
            for message in (SMALL, LARGE, SMALL):
                assert deliver(connection, message) == NOT_AVAILABLE
        assert take_out(receiver) == []
        accepted(receiver, SMALL)


def test_what_was_linked_and_cannot_be_removed_again_is_whole(receiver: Receiver) -> None:
    """Neither the directory's sync nor the removal of the name works: refused, and it comes twice."""
    committer = injection.committer(receiver.pid)
    faults = ["fsync:error=EIO:when=1", "unlinkat:error=EIO:when=1"]
    with injection.into(committer, *faults) as trace, Connection(receiver.port) as connection:
        assert deliver(connection, SMALL) == NOT_STORED
    assert trace.injected == ["fsync", "unlinkat"]
    assert take_out(receiver) == [(SENDER, RECIPIENTS, SMALL)]
    accepted(receiver, SMALL)


@pytest.mark.parametrize(
    ("message", "find", "number"),
    [(SMALL, injection.committer, 1), *((LARGE, injection.worker, number) for number in range(1, 4))],
    ids=["small", "large1", "large2", "large3"],
)
def test_a_short_write_is_written_on(
    receiver: Receiver, message: bytes, find: Callable[[int], int], number: int
) -> None:
    """strace says that 7 octets were written, and has none written: all others must be there."""
    with Connection(receiver.port) as connection:
        assert deliver(connection, message).startswith("250")
        with injection.into(find(receiver.pid), f"write:retval=7:when={number}") as trace:
            assert deliver(connection, message).startswith("250")
    assert trace.injected == ["write"]
    whole, short = (path.read_bytes() for path in kept(receiver))
    gap = next(at for at, octet in enumerate(whole) if short[at : at + 1] != bytes([octet]))
    assert short[gap:] == whole[gap + 7 :]


@pytest.mark.parametrize("message", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("ending", ["closed", "reset"])
def test_the_client_leaves_while_its_mail_is_synced(
    receiver: Receiver, message: bytes, ending: str
) -> None:
    """It is kept, the log says that nobody heard of it, and the next client is served."""
    find = injection.committer if message == SMALL else injection.worker
    sender = f"{len(message)}.{ending}@b".encode()
    with injection.into(find(receiver.pid), "fdatasync:delay_exit=600000000:when=1"):
        with Connection(receiver.port) as connection:
            assert connection.envelope(sender, RECIPIENTS) == []
            open_sockets = sockets(receiver)
            connection.socket.sendall(b"BDAT %d LAST\r\n" % len(message) + message)
            wait_for(lambda: is_written(receiver, len(message)), "the mail is written")
            if ending == "reset":
                connection.socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        if ending == "reset":
            wait_for(lambda: sockets(receiver) < open_sockets, "the connection is closed")
        assert kept(receiver) == []
    assert "answered=no" in receiver.wait_for_log(rf"stored .*from=<{sender.decode()}>.*")
    assert take_out(receiver) == [(sender, RECIPIENTS, message)]
    accepted(receiver, SMALL)


def sockets(receiver: Receiver) -> int:
    return len(descriptors(receiver.pid)) - len(files(receiver))


def is_written(receiver: Receiver, size: int) -> bool:
    """Whether a file without a name has more octets than this: those of a block come on top."""
    directory = f"/proc/{receiver.pid}/fd"
    return any(
        os.stat(f"{directory}/{fd}").st_size > size
        for fd in os.listdir(directory)
        if os.readlink(f"{directory}/{fd}").startswith(f"{receiver.inbox}/#")
    )
