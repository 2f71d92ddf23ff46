"""Where the log goes: journal, syslog or standard error.

To the journal where systemd made standard error a stream to it, to standard error at a terminal, else
to syslog with facility mail, and without a syslog socket to standard error again.
"""

from __future__ import annotations

import errno
import logging
import logging.handlers
import os
import stat
import sys
from typing import Any, Literal

from benno_common.visible import printable

SYSLOG_SOCKET = "/dev/log"

Target = Literal["auto", "journal", "stderr", "syslog"]
TARGETS: tuple[Target, ...] = ("auto", "journal", "stderr", "syslog")

_log = logging.getLogger("benno")


class _Formatter(logging.Formatter):
    """Puts two blanks before each line of a traceback, so that none can pass for a line of the log."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


class _JournalFormatter(_Formatter):
    """Each line with the priority that sd-daemon(3) reads: <6>text."""

    _PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in self._PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


class _Unbuffered:
    """Standard error, a line at a time: what could not be written is not tried again at the end."""

    def __init__(self) -> None:
        self._raw = getattr(sys.stderr.buffer, "raw", sys.stderr.buffer)

    def write(self, text: str) -> None:
        self._raw.write(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Nothing is held."""


def setup(program: str, target: Target = "auto", *, quiet: bool = False) -> Target:
    """Begin to log; returns where to. quiet: warnings and errors only.

    Raises OSError if `target` is syslog and there is none.
    """
    if target == "auto":
        target = _find_target()
    logging.raiseExceptions = False  # a log that cannot be written must not stop the mail
    handler: logging.Handler = (
        logging.StreamHandler(_Unbuffered()) if sys.stderr else logging.NullHandler()
    )
    if target == "syslog":
        if not _is_socket(SYSLOG_SOCKET):  # the handler would not tell
            raise FileNotFoundError(errno.ENOENT, "no syslog listens there", SYSLOG_SOCKET)
        facility = logging.handlers.SysLogHandler.LOG_MAIL
        handler = logging.handlers.SysLogHandler(SYSLOG_SOCKET, facility)
        handler.append_nul = False
        handler.setFormatter(_Formatter(f"{program}[{os.getpid()}]: %(message)s"))
    elif target == "journal":
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        form = f"%(asctime)s {program}[{os.getpid()}]: %(levelname)s: %(message)s"
        handler.setFormatter(_Formatter(form))
    _log.handlers[:] = [handler]
    _log.propagate = False
    _log.setLevel(logging.WARNING if quiet else logging.INFO)
    return target


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
