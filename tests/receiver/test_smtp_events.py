"""What the receiver logs about its clients: no event is given a password, and none forges a line."""

from __future__ import annotations

import inspect

import pytest

from benno_smtp import events

FORGED = "10.0.0.1\nINFO: NOQUEUE: stored"


def functions() -> list[object]:
    return [
        value
        for name, value in vars(events).items()
        if inspect.isfunction(value) and value.__module__ == events.__name__ and name[0] != "_"
    ]


def test_no_event_is_told_a_password() -> None:
    """What a function is not given it cannot log; who adds a parameter thinks about that here."""
    given = {name for event in functions() for name in inspect.signature(event).parameters}  # type: ignore[arg-type]
    assert given == {
        *("client", "user", "in_a_row", "others", "reason", "setting", "phase", "under_way", "reply"),
        *("path", "what", "wanted", "places", "descriptors"),
    }


def test_one_line_whatever_is_in_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "benno")
    events.login_failed(FORGED, b"a\r\nb" + b"x" * 1000, 1)
    events.login_refused(FORGED, 3)
    events.timed_out(FORGED, "command_timeout", "a command", under_way=True)
    events.readable_by_all(FORGED, "auth_pass")
    events.heard_by_all(FORGED)
    events.kept("the certificate", FORGED)
    events.tls_doubted(FORGED)
    events.fewer_places(1000, 20, 64)
    events.mail_lacks(FORGED, "530 5.7.0 AUTH comes first", "auth_file", 0)
    assert len(caplog.messages) == 9
    assert not [line for line in caplog.messages if "\n" in line or "\r" in line or len(line) > 400]
    assert caplog.messages[0].endswith(rf"failed: user=a\x0d\x0ab{'x' * 60} failures=1")
    assert caplog.messages[1].endswith("(3 more were, since the last such line)")
