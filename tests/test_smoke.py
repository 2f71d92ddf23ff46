"""The thinnest complete path: an MTA delivers one mail, and it lies in the spool."""

from __future__ import annotations

from pathlib import Path

import daemon
from mta import MTA, message_of


def test_one_mail(tmp_path: Path) -> None:
    headers = [(b"Subject", b" hi\n there"), (b"X", b"y"), (b"X-Real-RcptTo", b" <forged@x>")]
    with daemon.running(tmp_path / "spool", "-g", "gw1") as milter:
        with MTA(milter.address) as mta:
            mta.negotiate()
            assert mta.deliver(b"<a@b>", [b"<c@d>", b"<bcc@e>"], headers, b"body\r\n") == "accepted"
        assert milter.mails() == [(b"a@b", (b"c@d", b"bcc@e"), message_of(headers, b"body\r\n"))]
        line = milter.wait_for_log("QUEUEID: stored .*")
        assert "nrcpt=2" in line
        assert "foreign=1" in line
        assert "answered=yes" in line
        assert milter.stop() == 0
        assert "statistics: mails=1 " in milter.log
