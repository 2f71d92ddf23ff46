"""Where the log goes: journal, syslog or standard error.

To the journal where systemd made standard error a stream to it, to standard error at a terminal, else
to syslog with facility mail, and without a syslog socket to standard error again. `logwriter` brings
the lines there.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from typing import Any, Literal

from benno_common.logwriter import Channel, StandardError, Syslog, Writer
from benno_common.visible import printable

SYSLOG_SOCKET = "/dev/log"

Target = Literal["auto", "journal", "stderr", "syslog"]
TARGETS: tuple[Target, ...] = ("auto", "journal", "stderr", "syslog")

_SEVERITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
_MAIL = 2  # the facility

_log = logging.getLogger("benno")


class _Formatter(logging.Formatter):
    """Puts two blanks before each line of a traceback, so that none can pass for a line of the log."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


class _JournalFormatter(_Formatter):
    """Each line with the priority that sd-daemon(3) reads: <6>text."""

    def format(self, record: logging.LogRecord) -> str:
        number = _severity(record)
        return "\n".join(f"<{number}>{line}" for line in super().format(record).split("\n"))


class _SyslogFormatter(_Formatter):
    """A datagram: <PRI>program[pid]: text, facility mail."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_MAIL * 8 + _severity(record)}>{super().format(record)}"


class _Handler(logging.Handler):
    """Gives lines to a writer, with `end` after each."""

    def __init__(self, channel: Channel, formatter: _Formatter, end: str) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._end = end
        self._channel = channel
        self._writer = Writer(channel, self._tell_lost)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(self._line(record))
        except Exception:  # noqa: BLE001 - a log that cannot be written must not stop the mail
            self.handleError(record)

    def flush(self) -> None:
        self._writer.drain()

    def close(self) -> None:
        self._channel.close()
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + self._end).encode("utf-8", "backslashreplace")

    def _tell_lost(self, lines: int) -> bytes:
        text = f"{lines} lines of the log were lost: nobody took them"
        return self._line(_log.makeRecord(_log.name, logging.WARNING, "", 0, text, (), None))


def setup(program: str, target: Target = "auto", *, quiet: bool = False) -> Target:
    """Begin to log; returns where to. quiet: warnings and errors only.

    Raises OSError if `target` is syslog and there is none.
    """
    if target == "auto":
        target = _find_target()
    logging.raiseExceptions = False  # see _Handler.emit
    # No line has them, and to find them takes a third of its time (Python's logging HOWTO).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 # type: ignore[assignment]
    _log.handlers[:] = [_make_handler(f"{program}[{os.getpid()}]: ", target)]
    _log.propagate = False
    _log.setLevel(logging.WARNING if quiet else logging.INFO)
    return target


def _make_handler(tag: str, target: Target) -> logging.Handler:
    if target == "syslog":
        if not _is_socket(SYSLOG_SOCKET):
            raise FileNotFoundError(errno.ENOENT, "no syslog listens there", SYSLOG_SOCKET)
        return _Handler(Syslog(SYSLOG_SOCKET), _SyslogFormatter(f"{tag}%(message)s"), "")
    if sys.stderr is None:
        return logging.NullHandler()
    if target == "journal":
        return _Handler(StandardError(), _JournalFormatter("%(message)s"), "\n")
    form = f"%(asctime)s {tag}%(levelname)s: %(message)s"
    return _Handler(StandardError(), _Formatter(form), "\n")


def _severity(record: logging.LogRecord) -> int:
    """As syslog(3) counts them."""
    return next(number for level, number in _SEVERITIES if record.levelno >= level)


def _find_target() -> Target:
    if _is_journal():
        return "journal"
    if os.isatty(2) or not _is_socket(SYSLOG_SOCKET):
        return "stderr"
    return "syslog"


def _is_journal() -> bool:
    """Whether standard error is the stream that systemd named in $JOURNAL_STREAM (systemd.exec(5))."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
