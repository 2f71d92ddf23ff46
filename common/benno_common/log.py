"""The log: one line for each mail event, through one function for each event.

A line begins with the queue id and goes on with key=value. Levels mean something: info is normal,
warning wants somebody to look soon, error means that mail is waiting for a person. Never the content of
a message, never a password; addresses and reasons are made safe, so that nobody forges a log line.

Where it goes: to the journal where systemd made standard error a stream to it, to standard error at a
terminal, else to syslog with facility mail, and without a syslog socket to standard error again.
"""

from __future__ import annotations

import errno
import logging
import logging.handlers
import os
import stat
import sys
from dataclasses import dataclass
from typing import Any, Literal

from benno_common.envelope import Envelope

SYSLOG_SOCKET = "/dev/log"
NO_QUEUE_ID = "NOQUEUE"

Target = Literal["auto", "journal", "stderr", "syslog"]
TARGETS: tuple[Target, ...] = ("auto", "journal", "stderr", "syslog")

_log = logging.getLogger("benno")


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a mail: file name, octets of the message, its SHA-256, foreign lines escaped."""

    name: str
    size: int
    sha256: str
    escaped: int


class _Formatter(logging.Formatter):
    """Puts two blanks before each line of a traceback, so that none can pass for a line of the log."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        return "\n".join(f"  {_printable(line)}" for line in super().formatException(ei).split("\n"))


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


def setup(program: str, target: Target = "auto") -> Target:
    """Begin to log; returns where to. Raises OSError if `target` is syslog and there is none."""
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
    _log.setLevel(logging.INFO)
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


def safe(text: bytes | str) -> str:
    """Text from outside as one visible word: other octets than printable ASCII as \\xNN."""
    octets = text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text
    return "".join(
        chr(octet) if 0x20 < octet < 0x7F and octet != 0x5C else f"\\x{octet:02x}" for octet in octets
    )


def mail_stored(
    queue_id: str | None, envelope: Envelope, stored: Stored, seconds: float, *, answered: bool
) -> None:
    """A mail is durable. answered: somebody heard of it; else it may come a second time."""
    _log.log(
        logging.INFO if answered else logging.WARNING,
        "%s: stored file=%s from=<%s> nrcpt=%d size=%d sha256=%s%s ms=%.1f answered=%s",
        safe(queue_id or NO_QUEUE_ID),
        stored.name,
        safe(envelope.sender),
        len(envelope.recipients),
        stored.size,
        stored.sha256,
        f" foreign={stored.escaped}" if stored.escaped else "",
        1000 * seconds,
        "yes" if answered else "no",
    )


def mail_refused(
    queue_id: str | None, *, sender: bytes, recipients: int, reply: str, reason: str
) -> None:
    """A mail was not stored, and the client was told `reply`."""
    _log.warning(
        "%s: refused from=<%s> nrcpt=%d reply=%s reason=%s",
        safe(queue_id or NO_QUEUE_ID),
        safe(sender),
        recipients,
        _quoted(reply),
        _quoted(reason),
    )


def peer_refused(peer: str, reason: str) -> None:
    """A client may not connect. reason: says which option would allow it."""
    _log.warning("connect from %s refused: %s", safe(peer), _printable(reason))


def protocol_violated(peer: str, reason: str) -> None:
    """A client broke the protocol; its connection is closed."""
    _log.warning("%s: protocol violated, connection closed: %s", safe(peer), _printable(reason))


def inexact(peer: str) -> None:
    """The mail server takes a blank off header values, and the octets of a mail cannot be told."""
    _log.warning(
        "%s: takes the blank off header values, so that mail is not archived octet by octet; "
        "Postfix: set milter_protocol = 6",
        safe(peer),
    )


def unexpected(queue_id: str | None, error: BaseException) -> None:
    """A fault of this program, answered temporarily."""
    # Not repr(): that of an encoding error shows the text, which may be a message.
    what = _printable(f"{type(error).__name__}: {error}")
    _log.error("%s: unexpected %s", safe(queue_id or NO_QUEUE_ID), what, exc_info=error)


def directory_changed(path: str, reason: str | None) -> None:
    """The directory cannot take mail any more (reason), or can again (None)."""
    if reason is None:
        _log.warning("%s takes mail again", _printable(path))
    else:
        _log.error(
            "%s takes no mail, all is refused until it does: %s", _printable(path), _printable(reason)
        )


def short_of_space(path: str, shortage: str) -> None:
    """At a check: new mail would be refused until there is space."""
    _log.warning("%s: new mail would be refused: %s", _printable(path), shortage)


def cut_off(connections: int, seconds: float) -> None:
    """At the end: mail servers in the middle of a mail were hung up on, and come again."""
    _log.warning("%d connections with mail under way closed after %.0f s", connections, seconds)


def statistics(*, mails: int, size: int, refused: int, mean_ms: float, worst_ms: float) -> None:
    _log.info(
        "statistics: mails=%d bytes=%d refused=%d mean_ms=%.1f worst_ms=%.1f",
        mails,
        size,
        refused,
        mean_ms,
        worst_ms,
    )


def lifecycle(event: str, **settings: object) -> None:
    """The program starts, listens, stops; with its effective settings."""
    _log.info(
        "%s", " ".join([event, *(f"{key}={_quoted(str(value))}" for key, value in settings.items())])
    )


def fatal(reason: str) -> None:
    """The program cannot start, or must end."""
    _log.error("%s", _printable(reason))


def _printable(text: str) -> str:
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def _quoted(text: str) -> str:
    text = _printable(text)
    return '"' + text.replace('"', "'") + '"' if " " in text or not text else text
