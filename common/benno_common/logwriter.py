"""What brings the lines of the log to their reader, and never keeps mail waiting for it.

A line that the reader takes at once is written by the thread that logs it. Where it takes none
(journald or syslogd is stopped, nobody reads the pipe), lines wait in order, up to MAX_WAITING octets,
for a thread that lives as long as any does. Lines beyond are lost, and how many is logged afterwards:
mail goes on without a log, and a full journal is no reason to refuse it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

MAX_WAITING = 4 * 1024 * 1024
DRAIN_SECONDS = 2.0  # at the end, for a reader that may come back


class Channel(Protocol):
    """A way to the reader."""

    def take(self, line: bytes, *, wait: bool) -> int:
        """Write; returns how many octets were. wait: at least one, else none where it would wait.

        Raises OSError where the line cannot be written at all.
        """

    def close(self) -> None: ...


class StandardError:
    """A terminal, file, pipe, or the socket that systemd opened to the journal."""

    def __init__(self) -> None:
        self._fd = os.dup(sys.stderr.fileno())
        mode = os.fstat(self._fd).st_mode
        self._socket = socket.socket(fileno=self._fd) if stat.S_ISSOCK(mode) else None
        self._is_file = stat.S_ISREG(mode)  # poll(2) always calls it ready
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)

    def take(self, line: bytes, *, wait: bool) -> int:
        if wait or self._is_file:
            return os.write(self._fd, line)
        if self._socket is None:  # a pipe that is ready takes PIPE_BUF octets without waiting (pipe(7))
            return os.write(self._fd, line[: select.PIPE_BUF]) if self._poll.poll(0) else 0
        try:
            return self._socket.send(line, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._fd)


class Syslog:
    """The socket at `path`, connected anew where the daemon behind it was replaced."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def take(self, line: bytes, *, wait: bool) -> int:
        flags = 0 if wait else socket.MSG_DONTWAIT
        if self._socket is not None:
            try:
                return self._socket.send(line, flags)
            except BlockingIOError:
                return 0
            except OSError:
                self.close()
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            connected.connect(self._path)
        except OSError:
            connected.close()
            raise
        self._socket = connected
        try:
            return connected.send(line, flags)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Writer:
    """Lines to a channel, whole and in order. tell_lost: makes the line that says how many were."""

    def __init__(self, channel: Channel, tell_lost: Callable[[int], bytes]) -> None:
        self._channel = channel
        self._tell_lost = tell_lost
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._octets = 0
        self._lost = 0

    def put(self, line: bytes) -> None:
        """Write a line, now or later. Raises OSError where it cannot be written at all."""
        with self._changed:
            while line and not self._waiting and (taken := self._channel.take(line, wait=False)):
                line = line[taken:]
            if line:
                self._keep(line)

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait until nothing waits, but not longer."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, seconds)

    def _keep(self, line: bytes) -> None:
        if self._octets + len(line) > MAX_WAITING:
            self._lost += 1
            return
        if not self._waiting:
            try:
                threading.Thread(target=self._work, name="log", daemon=True).start()
            except RuntimeError:  # there are too many
                self._lost += 1
                return
        self._waiting.append(line)
        self._octets += len(line)

    def _work(self) -> None:
        """In a thread: write what waits, until nothing does."""
        with self._changed:
            while self._waiting:
                line = self._waiting[0]
                self._changed.release()
                self._write(line)
                self._changed.acquire()
                self._octets -= len(line)
                if self._lost and self._octets < MAX_WAITING // 2:
                    self._waiting.append(self._tell_lost(self._lost))
                    self._octets += len(self._waiting[-1])
                    self._lost = 0
                self._waiting.popleft()
            self._changed.notify_all()

    def _write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            while line:
                line = line[self._channel.take(line, wait=True) :]
