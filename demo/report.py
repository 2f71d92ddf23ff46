"""What was sent and what lies in the import directory, side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benno_common.mailfile import MailFileError
from benno_common.visible import printable
from daemon import read
from samples import Sample


@dataclass(frozen=True)
class Archived:
    """A file, its envelope without brackets and its message, trusted headers and escaping taken off."""

    path: Path
    sender: bytes
    recipients: tuple[bytes, ...]
    message: bytes


@dataclass(frozen=True)
class Row:
    """One mail: what was sent, the reply to it, and the files that carry its Message-Id."""

    sample: Sample
    reply: str
    found: list[Archived]
    past_mta: bool = False

    @property
    def verdict(self) -> str:
        """`same`, or what is wrong."""
        if not self.reply.startswith("250"):
            return "REFUSED"
        if len(self.found) != 1:
            return f"{len(self.found)} FILES" if self.found else "MISSING"
        sample, found = self.sample, self.found[0]
        if (found.sender, found.recipients) != (sample.sender, sample.recipients):
            return "ENVELOPE"
        return "same" if found.message == sample.message else "DIFFERENT"


def collect(directory: Path) -> tuple[list[Archived], list[Path]]:
    """The mail files in a directory, oldest first, and what is none; the receiver's mark is hidden."""
    archived, foreign = [], []
    for path in sorted(path for path in directory.iterdir() if not path.name.startswith(".")):
        try:
            archived.append(Archived(path, *read(path)))
        except (MailFileError, OSError):
            foreign.append(path)
    return archived, foreign


def match(samples: Sequence[Sample], archived: Sequence[Archived]) -> list[list[Archived]]:
    """The files of each sample, found by its Message-Id, so that an altered mail is found too."""
    return [[one for one in archived if sample.message_id in one.message] for sample in samples]


def faults(rows: Sequence[Row], archived: Sequence[Archived], foreign: Sequence[Path]) -> list[str]:
    """What is wrong, one line each; nothing if just the mails sent arrived, unchanged."""
    lines = []
    for row in rows:
        if row.verdict == "REFUSED":
            lines.append(f"{row.sample.title}: not accepted: {printable(row.reply)}")
        elif row.verdict != "same":
            lines.append(f"{row.sample.title}: {row.verdict.lower()}")
    lines += [f"in the import directory, and no mail file: {path.name}" for path in foreign]
    found = {one.path for row in rows for one in row.found}
    lines += [
        f"in the import directory, and sent by nobody: {one.path.name}"
        for one in archived
        if one.path not in found
    ]
    return lines


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of a table, aligned."""
    heading = ("mail", "to, in truth", "sha256 sent", "archived", "", "file")
    lines = [heading, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def _cells(row: Row) -> tuple[str, ...]:
    found = row.found[0] if row.found else None
    return (
        row.sample.title + ("*" if row.past_mta else ""),
        _whom(row.sample),
        _digest(row.sample.message),
        _digest(found.message) if found else "-",
        row.verdict,
        _short(found.path.name) if found else "-",
    )


def _whom(sample: Sample) -> str:
    """The envelope's recipients; `bcc` stands before those that are in no header."""
    if len(sample.recipients) > 3:
        hidden = "all" if len(sample.hidden) == len(sample.recipients) else str(len(sample.hidden))
        return f"{len(sample.recipients)} recipients, {hidden} bcc"
    return ", ".join(
        ("bcc " if recipient in sample.hidden else "") + recipient.decode()
        for recipient in sample.recipients
    )


def _digest(message: bytes) -> str:
    return hashlib.sha256(message).hexdigest()[:10]


def _short(name: str) -> str:
    """Seconds and microseconds of the name: enough to find the file by."""
    return ".".join(name.split(".")[:2]) + ".*"
