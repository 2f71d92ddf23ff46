"""How many connections there are descriptors for, and what is said where there are none.

Each connection has one, and one for the file of its mail. A connection beyond that is turned away, so
that a flood of idle ones takes no mail its file. This holds only where few are accepted before they are
looked at, see `ACCEPTS`.

Where none can be accepted, for the whole system has no more files, say, asyncio tries it again
each second, and complains each time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

from benno_common import log
from benno_common.seldom import Seldom

# Of the daemon itself (9, and 1 for the journal), and of connections that are being turned away.
OWN = 24

# Connections that are accepted in one turn of the loop; it takes three more to turn one away.
ACCEPTS = 1

RAISE = "raise LimitNOFILE= of the unit, or ulimit -n"

_REMEDIES = {
    errno.EMFILE: RAISE,
    errno.ENFILE: "the whole system has too many; raise fs.file-max, see sysctl(8)",
    errno.ENOBUFS: "the system is short of memory",
    errno.ENOMEM: "the system is short of memory",
}


def limit() -> int:
    """Descriptors that this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def places() -> int:
    """Connections at a time."""
    return max((limit() - OWN) // 2, 1)


def complaints() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """An exception handler for the loop: logs what it could not do."""
    seldom = Seldom()

    def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or RuntimeError(context["message"])
        number = getattr(error, "errno", None) if "socket" in context else None  # of accept(2)
        if number not in _REMEDIES:
            log.unexpected(None, error)
        elif seldom.others("", loop.time()) is not None:
            log.connections_wait(f"{os.strerror(number)}: {_REMEDIES[number]}")

    return complain
