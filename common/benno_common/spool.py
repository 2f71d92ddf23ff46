"""A directory of mail files, as it is emptied: list oldest first, read, hold.

Our own names begin with the time, so they sort by age without a look at each file; files of the older
milter have no time in their names, are older than all of ours, and come first. A million names fit
into no list that stays small, so they come in windows: each scan of the directory keeps only the
`size` first names after a given one (and as many more while it goes on).

A name can come to mean another mail while one of its name is being sent; a stamp tells them apart.

The older milter wrote under the name that we see, and its names do not say how long a file is. So its
files are left alone until they have not changed for a while.

No envelope is ever guessed: what is not a regular file, is shorter or longer than its name says, or
does not begin with a complete envelope, raises MailFileError with the reason.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from benno_common.durable import HELD, Directory
from benno_common.envelope import Envelope
from benno_common.filename import is_mail_name, is_old_name, is_our_name, size_of
from benno_common.mailfile import Decoder, MailFileError
from benno_common.oldfile import OldDecoder

WINDOW = 20_000
READ_SIZE = 64 * 1024

MOST_FOREIGN = 10  # names that are remembered

# Seconds. A mail server waits five minutes for a client's next command (RFC 5321, 4.5.3.2.7), while the
# older milter writes nothing.
SETTLED = 600

_OLDER = "\0"  # before a name of the older milter: no file name has a NUL, and all of ours come later


class Unfinished(OSError):
    """A file that may still be written by the older milter; to be tried again by the next run."""


class Stamp(NamedTuple):
    """What tells a file from another of its name. size: octets. changed: its content, in ns."""

    device: int
    inode: int
    size: int
    changed: int


@dataclass
class StoredMail:
    """A mail file that was opened: its envelope, its stamp, and the message in pieces.

    Reading `pieces` raises MailFileError if the file ends early, OSError if the disk fails.
    """

    envelope: Envelope
    stamp: Stamp
    pieces: Iterator[bytes]


class Spool:
    """The mail files in a directory that is open.

    foreign: the names of some files that are no mail, were not put aside, and are not hidden.
    """

    def __init__(self, directory: Directory) -> None:
        self.path = directory.path
        self._directory = directory
        self.foreign: set[str] = set()

    def window(self, after: str | None = None, size: int = WINDOW) -> list[str]:
        """The names of the `size` oldest mail files that come after the file named `after`.

        Hidden and held files are none. Raises OSError.
        """
        start = "" if after is None else _age(after)
        ages: list[str] = []
        limit: str | None = None
        with os.scandir(self._directory.place.fd) as entries:
            for entry in entries:
                name = entry.name
                if limit is not None and name >= limit and is_our_name(name):
                    continue  # as nearly all of a million are
                age = _age(name)
                if not age and len(self.foreign) < MOST_FOREIGN and _is_foreign(entry):
                    self.foreign.add(name)
                if age <= start or (limit is not None and age >= limit):
                    continue
                ages.append(age)
                if len(ages) == 2 * size:
                    ages.sort()
                    del ages[size:]
                    limit = ages[-1]
        return [age.removeprefix(_OLDER) for age in sorted(ages)[:size]]

    def count(self) -> int:
        """How many mail files there are. Raises OSError."""
        with os.scandir(self._directory.place.fd) as entries:
            return sum(is_mail_name(entry.name) for entry in entries)

    def read(self, name: str) -> StoredMail:
        """Open a mail file and read its envelope.

        Raises MailFileError; Unfinished; another OSError if the disk fails.
        """
        fd, stamp = self._open(name)
        try:
            _check_size(name, stamp.size)
            _check_age(name, stamp.changed)
            decoder = OldDecoder() if is_old_name(name) else Decoder()
            begin, read = b"", 0
            while decoder.envelope is None:
                data = os.read(fd, READ_SIZE)
                read += len(data)
                begin += decoder.feed(data) if data else decoder.finish()
        except BaseException:
            os.close(fd)
            raise
        pieces = _pieces(fd, begin, decoder, stamp.size, read)
        next(pieces)  # it has begun, so that the file is closed even if nobody reads it
        return StoredMail(decoder.envelope, stamp, pieces)

    def is_replaced(self, name: str, stamp: Stamp) -> bool:
        """Whether another file, or other content, lies under this name now. Raises OSError."""
        try:
            status = os.stat(name, dir_fd=self._directory.place.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return _stamp(status) != stamp

    def hold(self, name: str) -> str:
        """Put a file aside as NAME.err, for a person to look at; returns the new name."""
        held = self._directory.hold(name)
        self._directory.sync()
        return held

    def _open(self, name: str) -> tuple[int, Stamp]:
        """Open a regular file, never through a link and never waiting for a FIFO's other end."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=self._directory.place.fd)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO}:
                raise MailFileError(f"{name} is not a regular file") from error
            raise
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise MailFileError(f"{name} is not a regular file")
        return fd, _stamp(status)


def _age(name: str) -> str:
    """What sorts by age; nothing for a file that is no mail."""
    if size_of(name) is not None:
        return name
    return _OLDER + name if is_old_name(name) else ""


def _is_foreign(entry: os.DirEntry[str]) -> bool:
    """Directories are nobody's mistake: that for --keep-sent, lost+found."""
    return not (entry.name.startswith(".") or entry.name.endswith(HELD) or entry.is_dir())


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _check_size(name: str, size: int) -> None:
    expected = size_of(name)
    if expected is not None and expected != size:
        raise MailFileError(f"{name} has {size} octets: it was torn or changed")
    if expected is None and not is_old_name(name):
        raise MailFileError(f"{name} is not the name of a mail file")


def _check_age(name: str, changed: int) -> None:
    # Clocks differ (NFS): a little in the future is as good as now. Far in the future says nothing, and
    # must not keep a mail here for ever.
    if is_old_name(name) and abs(time.time() - changed / 1e9) < SETTLED:
        reason = f"changed within the last {SETTLED // 60} minutes, and may not be whole yet"
        raise Unfinished(errno.EAGAIN, reason)


def _pieces(fd: int, begin: bytes, decoder: Decoder, file_size: int, read: int) -> Iterator[bytes]:
    """begin, read: the message and the file, as far as they are known."""
    try:
        yield b""
        if begin:
            yield begin
        while data := os.read(fd, READ_SIZE):
            read += len(data)
            if piece := decoder.feed(data):
                yield piece
        if read != file_size:
            raise MailFileError(f"{file_size} octets were there when the file was opened, now {read}")
        if piece := decoder.finish():
            yield piece
    finally:
        os.close(fd)
