"""The names of mail files: SECONDS.MICROSECONDS.UNIQUE[.QUEUEID][.LABEL].S=SIZE.eml

They sort by time, and say how long the file is, so that a torn one is recognised. By the queue id a
mail is found in a spool, and in the log of the archive host. Files of the older C milter are called
`arch.XXXXXXXX` or `arch.XXXXXXXX.msg`, perhaps with time and sender in between, or anything else that
ends in `.eml`.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import time

_OURS = re.compile(r"[0-9]{10}\.[0-9]{6}\..*\.S=([0-9]{1,18})\.eml\Z", re.DOTALL)
_SIZED = re.compile(r"\.S=[0-9]+\.eml\Z")
_OLD = re.compile(
    r"arch\.(?:[^.]+|[0-9]{4}(?:-[0-9]{2}){4}\..+\.[A-Za-z0-9]{6,})(?:\.msg)?\Z|[^.].*\.eml\Z",
    re.DOTALL,
)
_TAIL = 32  # octets; .S=SIZE.eml has up to 25
_UNSAFE = re.compile(r"[^A-Za-z0-9@._+=-]")
_NO_QUEUE_ID = re.compile(r"[^A-Za-z0-9-]")
_LONGEST_QUEUE_ID = 32  # Postfix' have up to 19 octets, Sendmail's 14, Exim's 23


class FileNames:
    """Makes names; no two are equal, in this process or another. labelled: with time and sender."""

    def __init__(self, *, labelled: bool = False) -> None:
        self._labelled = labelled
        self._process = secrets.token_hex(6)
        self._counter = itertools.count()

    def new(self, sender: bytes, size: int, queue_id: str | None = None) -> str:
        """A name for a file of `size` octets."""
        micros = time.time_ns() // 1000
        unique = f"{self._process}{next(self._counter):x}"
        if queue_id:
            unique += "." + _NO_QUEUE_ID.sub("_", queue_id)[:_LONGEST_QUEUE_ID]
        label = f".{_label(micros, sender)}" if self._labelled else ""
        return f"{micros // 10**6:010d}.{micros % 10**6:06d}.{unique}{label}.S={size}.eml"


def is_mail_name(name: str) -> bool:
    """Whether a file of this name is a mail, of ours or of the older milter; held ones are none."""
    return size_of(name) is not None or is_old_name(name)


def is_our_name(name: str) -> bool:
    """Whether a file of this name is a mail of ours."""
    return _OURS.match(name) is not None


def is_old_name(name: str) -> bool:
    """Whether a file of this name was written by the older milter, if it is a mail file at all."""
    return _OLD.match(name) is not None and _SIZED.search(name) is None


def size_of(name: str) -> int | None:
    """The octets that a file of our naming has; None for every other name."""
    match = _OURS.match(name)
    return int(match[1]) if match else None


def shortened(name: str, longest: int) -> str:
    """The name in so many octets at the most; time and size stay, the middle goes."""
    octets = os.fsencode(name)
    if len(octets) <= longest:
        return name
    return os.fsdecode(octets[: longest - _TAIL] + octets[-_TAIL:])


def _label(micros: int, sender: bytes) -> str:
    """Time in UTC and sender as a safe part of a file name."""
    address = _UNSAFE.sub("_", sender.decode("ascii", "replace"))[:100] or "null-sender"
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(micros // 10**6)) + "." + address
