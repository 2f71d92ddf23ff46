"""What asyncio complains of: where no connection can be accepted, one clear line a minute."""

from __future__ import annotations

import asyncio
import errno
from typing import Any, cast

import pytest

from benno_common import descriptors

EMFILE = OSError(errno.EMFILE, "Too many open files")
ENFILE = OSError(errno.ENFILE, "Too many open files in system")
ACCEPT = {"message": "socket.accept() out of system resource", "socket": object()}
WAIT = "new connections wait: "


class Clock:
    """Stands for the loop."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("context", "line"),
    [
        ({**ACCEPT, "exception": EMFILE}, f"{WAIT}Too many open files: {descriptors.RAISE}"),
        ({**ACCEPT, "exception": ENFILE}, f"{WAIT}Too many open files in system: the whole system"),
        ({**ACCEPT, "exception": OSError(errno.EIO, "x")}, "NOQUEUE: unexpected OSError"),
        ({"message": "in a callback", "exception": EMFILE}, "NOQUEUE: unexpected OSError"),
        ({"message": "planted"}, "NOQUEUE: unexpected RuntimeError: planted"),
    ],
)
def test_complaint(caplog: pytest.LogCaptureFixture, context: dict[str, Any], line: str) -> None:
    descriptors.complaints()(cast(asyncio.AbstractEventLoop, Clock()), context)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(line)
    assert (caplog.records[0].exc_info is None) == line.startswith(WAIT), "the traceback of a fault"


def test_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    complain, clock = descriptors.complaints(), Clock()
    for second in range(180):
        clock.now = float(second)
        for number in (EMFILE, ENFILE):
            complain(cast(asyncio.AbstractEventLoop, clock), {**ACCEPT, "exception": number})
    assert len(caplog.messages) == 3
