"""A run of benno-milter2smtp: a spool with mails in it, the real command, its exit code and its log."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from unittest import mock

from benno_common.envelope import Envelope
from benno_common.filename import FileNames
from benno_common.mailfile import Encoder
from benno_milter2smtp.program import main

COMMAND = (
    sys.executable,
    "-c",
    "import sys; from benno_milter2smtp.program import main; sys.exit(main())",
)
ENVELOPE = Envelope(b"sender@example.org", (b"first@example.net", b"bcc@example.net"))
MESSAGE = b"Subject: hello\r\n\r\nbody\r\n"

_names = FileNames()


@dataclass(frozen=True)
class Run:
    """What a run that has ended left: exit code, standard output, log."""

    code: int
    output: str
    log: str

    @property
    def summary(self) -> str:
        """`sent=1 kept=0 held=0`."""
        (ended,) = re.findall(r": ended: (sent=\d+ kept=\d+ held=\d+)", self.log)
        return str(ended)


def encoded(message: bytes = MESSAGE, envelope: Envelope = ENVELOPE) -> bytes:
    """A mail file."""
    encoder = Encoder(envelope)
    return encoder.start() + encoder.feed(message) + encoder.finish()


def put(spool: Path, message: bytes = MESSAGE, envelope: Envelope = ENVELOPE) -> str:
    """Put a mail into the spool; returns the name of its file."""
    content = encoded(message, envelope)
    name = _names.new(b"", len(content))
    (spool / name).write_bytes(content)
    return name


def command(spool: Path, *arguments: str) -> list[str]:
    """For a process of its own."""
    return [*COMMAND, "--spool", str(spool), "--log", "stderr", *arguments]


def forward(spool: Path, *arguments: str | int, options: Sequence[str] = ()) -> Run:
    """Run it to the end, in this process. arguments: hosts, or ports on loopback."""
    hosts = [f"127.0.0.1:{host}" if isinstance(host, int) else host for host in arguments]
    given = ["benno-milter2smtp", "--spool", str(spool), "--log", "stderr", *options, *hosts]
    with (
        _stream() as output,
        _stream() as errors,
        _log_restored(),
        mock.patch.object(sys, "argv", given),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            code = main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Run(code, _text(output), _text(errors))


def _stream() -> IO[str]:
    """A file, for the log goes to a descriptor."""
    return tempfile.TemporaryFile("w+", errors="backslashreplace")


def _text(stream: IO[str]) -> str:
    for handler in logging.getLogger("benno").handlers:
        handler.flush()
    stream.seek(0)
    return stream.read()


@contextlib.contextmanager
def _log_restored() -> Iterator[None]:
    """The log of this process is as it was."""
    log = logging.getLogger("benno")
    before = log.handlers[:], log.propagate, log.level, logging.raiseExceptions
    try:
        yield
    finally:
        for handler in set(log.handlers) - set(before[0]):
            handler.close()
        log.handlers[:], log.propagate, level, logging.raiseExceptions = before
        log.setLevel(level)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
