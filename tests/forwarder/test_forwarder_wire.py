"""Replies that belong to no command: the next 250 must not be taken for the answer to a mail."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwarding import forward, names, put
from scripted import EVERYTHING, serving


@pytest.mark.parametrize(
    ("phase", "offers"),
    [("CHUNK", EVERYTHING), ("RCPT", EVERYTHING), ("RCPT", ()), ("DATA", ()), ("EHLO", ())],
)
def test_one_reply_too_many(spool: Path, phase: str, offers: tuple[str, ...]) -> None:
    name = put(spool)
    good = "354 go on" if phase == "DATA" else "250 ok"
    script = {phase: [f"{good}\n250 one more"], "END": ["554 5.6.0 no"], "LAST": ["554 5.6.0 no"]}
    with serving(offers=offers, script=script) as server:
        run = forward(spool, server.port)
    assert server.mails == []
    assert run.code != 0
    assert names(spool)[0].startswith(name)
