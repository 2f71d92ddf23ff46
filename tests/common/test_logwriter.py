"""A log whose reader takes no lines for a while: nobody waits, and lines come whole and in order."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benno_common import logtarget, logwriter
from waiting import wait_for

pytestmark = pytest.mark.slow

LINES = 3000  # of 100 octets and more: some times what a pipe or socket takes


class Reader:
    """The other end of a channel, that reads when it is told to."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def text(self) -> str:
        """What comes until nothing does, and no thread of the log is left to bring more."""
        os.set_blocking(self.fd, False)
        read: list[bytes] = []
        wait_for(lambda: not (self._read(read) or writing() or self._read(read)), "all lines")
        return b"".join(read).decode()

    def _read(self, read: list[bytes]) -> int:
        before = len(read)
        with contextlib.suppress(BlockingIOError):
            while True:
                read.append(os.read(self.fd, 1_000_000))
        return len(read) - before


def writing() -> bool:
    return any(thread.name == "log" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    own = logging.getLogger("benno-writer")
    monkeypatch.setattr(logtarget, "_log", own)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    yield own
    for handler in own.handlers:
        handler.close()
    own.handlers.clear()  # a second time it would be another's descriptor


@contextlib.contextmanager
def standard_error(fd: int) -> Iterator[None]:
    """As long as it takes to set up a log."""
    python, sys.stderr = sys.stderr, os.fdopen(fd, "w")
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = python


@pytest.fixture(params=["pipe", "journal", "syslog"])
def reader(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    """A log is set up to it."""
    if request.param == "syslog":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.bind(str(tmp_path / "log"))
            monkeypatch.setattr(logtarget, "SYSLOG_SOCKET", str(tmp_path / "log"))
            logtarget.setup("benno-test", "syslog")
            yield Reader(end.fileno())
        return
    if request.param == "pipe":
        read, write = os.pipe()
    else:
        read, write = (end.detach() for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
    with standard_error(write):
        logtarget.setup("benno-test", "journal")
    yield Reader(read)
    os.close(read)


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"line (\d+) x{100}", text)]


def test_nobody_reads_for_a_while(reader: Reader, logger: logging.Logger) -> None:
    for number in range(LINES):
        logger.info("line %d %s", number, "x" * 100)
    assert writing()
    assert numbers(reader.text()) == list(range(LINES))
    logger.info("line %d %s", LINES, "x" * 100)
    assert not writing()
    assert numbers(reader.text()) == [LINES]


def test_nobody_reads_for_long(
    reader: Reader, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest lines are kept, and how many of the others were lost is said once, behind them.

    A later one may find room: a pipe that takes no whole PIPE_BUF takes some lines from who waits.
    """
    monkeypatch.setattr(logwriter, "MAX_WAITING", 50_000)
    for number in range(LINES):
        logger.info("line %d %s", number, "x" * 100)
    text = reader.text()
    kept = numbers(text)
    assert 0 < len(kept) < LINES
    assert kept[:200] == list(range(200))
    assert kept == sorted(set(kept)), "in order, and none twice"
    assert re.findall(r"<(?:4|20)>.*?(\d+) lines of the log were lost", text) == [
        str(LINES - len(kept))
    ]


def test_a_line_longer_than_the_channel_takes_at_once(reader: Reader, logger: logging.Logger) -> None:
    logger.info("begin %s end", "x" * 150_000)
    logger.info("next")
    assert re.search("begin x{150000} end\n?<.*next", reader.text())


def test_lines_wait_at_the_end(reader: Reader, logger: logging.Logger) -> None:
    """Somebody who begins to read then has them all."""
    for number in range(LINES):
        logger.info("line %d %s", number, "x" * 100)
    read: list[str] = []
    thread = threading.Thread(target=lambda: read.append(reader.text()))
    thread.start()
    logger.handlers[0].flush()
    thread.join()
    assert numbers(read[0]) == list(range(LINES))


def test_nobody_ever_reads(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader goes away while lines wait for it."""
    read, write = os.pipe()
    with standard_error(write):
        logtarget.setup("benno-test", "journal")
    for number in range(LINES):
        logger.info("line %d %s", number, "x" * 100)
    assert writing()
    os.close(read)
    wait_for(lambda: not writing(), "the thread has ended")
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger.info("nobody")
    assert not writing()


def test_no_thread_can_be_had(
    reader: Reader, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for number in range(LINES):
            logger.info("line %d %s", number, "x" * 100)
    logger.info("line %d %s", LINES, "x" * 100)  # one can
    text = reader.text()
    kept = numbers(text)
    assert kept[:-1] == list(range(len(kept) - 1))
    assert kept[-1] == LINES
    assert str(LINES + 1 - len(kept)) + " lines of the log were lost" in text


def test_a_file_takes_all_at_once(
    tmp_path: Path, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not a pipe, which may take only a part, and says so when asked."""
    with standard_error(os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)):
        logtarget.setup("benno-test", "journal")
    calls: list[int] = []
    write = os.write

    def counted(fd: int, line: bytes) -> int:
        calls.append(len(line))
        return write(fd, line)

    monkeypatch.setattr(os, "write", counted)
    logger.info("line 1 %s", "x" * 3 * select.PIPE_BUF)
    logger.info("line 2")
    assert [len(line) for line in (tmp_path / "log").read_bytes().splitlines(True)] == calls
    assert len(calls) == 2
