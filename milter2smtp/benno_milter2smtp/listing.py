"""What a run would send: one line a mail, oldest first. Nothing is changed, nobody is connected to."""

from __future__ import annotations

import os
from typing import TextIO

from benno_common.mailfile import MailFileError
from benno_common.spool import WINDOW, Spool
from benno_common.visible import printable, safe
from benno_milter2smtp.parcel import open_parcel


def write(spool: Spool, out: TextIO) -> int:
    """Write the list; returns the exit code. Raises OSError."""
    after: str | None = None
    while window := spool.window(after):
        for name in window:
            if line := _line(spool, name):
                out.write(line + "\n")
        if len(window) < WINDOW:
            break
        after = window[-1]
    for name in sorted(spool.foreign):
        out.write(f"{safe(os.fsencode(name))}: is no mail, and would stay there\n")
    out.flush()
    return os.EX_OK


def _line(spool: Spool, name: str) -> str | None:
    try:
        letter = open_parcel(spool, name).letter
    except FileNotFoundError:
        return None
    except MailFileError as error:
        return f"{safe(os.fsencode(name))}: would be held: {printable(str(error))}"
    except OSError as error:
        return f"{safe(os.fsencode(name))}: cannot be read: {error.strerror}"
    envelope = letter.envelope
    return (
        f"{safe(os.fsencode(name))}: from=<{safe(envelope.sender)}> "
        f"nrcpt={len(envelope.recipients)} size={letter.content.size}"
    )
