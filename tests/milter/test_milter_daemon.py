"""The daemon as its MTA sees it: short dialogues with the real process."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import daemon
from milter_packets import SESSION, SESSION_MAILS, body, header, mail
from mta import MTA, message_of, packet, strings
from processes import descriptors, resident
from waiting import wait_for

pytestmark = pytest.mark.slow

CONTINUE = (b"c", b"")
HEADERS = [(b"Subject", b" hi\n\tthere"), (b"X", b" y")]
MESSAGE = message_of(HEADERS, b"body\r\n")
MAIL = (b"a@b", (b"c@d",), MESSAGE)


@pytest.fixture
def milter(tmp_path: Path) -> Iterator[daemon.Daemon]:
    with daemon.running(tmp_path / "spool") as milter:
        yield milter


def deliver(mta: MTA) -> str:
    return mta.deliver(b"<a@b>", [b"<c@d>"], HEADERS, b"body\r\n")


def begin(mta: MTA) -> None:
    """Half a mail, up to its first header."""
    mta.negotiate()
    mta.mail(b"<a@b>")
    mta.rcpt(b"<c@d>")
    mta.header(*HEADERS[0])


def finish(mta: MTA) -> str:
    """The other half."""
    mta.header(*HEADERS[1])
    mta.end_of_headers()
    mta.body(b"body\r\n")
    return mta.end_of_message()


def hung_up(mta: MTA) -> bool:
    try:
        mta.reply()
    except (EOFError, ConnectionError):
        return True
    return False


def test_old_mta_is_answered_at_each_step(milter: daemon.Daemon) -> None:
    with MTA(milter.address) as mta:
        mta.negotiate(2, 0x3F, 0x7F)
        for command, data in [
            (b"C", b"mx\0" + b"4\0\x19" + b"127.0.0.1\0"),
            (b"H", b"mx\0"),
            (b"M", b"<a@b>\0"),
            (b"R", b"<c@d>\0"),
            (b"T", b""),
            (b"L", strings(b"Subject", b"hi\n\tthere")),
            (b"L", strings(b"X", b"y")),
            (b"N", b""),
            (b"U", b"NOOP\0"),
            (b"B", b""),
            (b"B", b"body\r\n"),
            (b"E", b""),
        ]:
            mta.macros(command, i="QID")
            mta.send(command, data)
            assert mta.reply() == CONTINUE, command
        mta.send(b"A")
        assert deliver(mta) == "accepted"
    assert milter.mails() == [MAIL, MAIL]


def test_a_session_sent_in_one_go(milter: daemon.Daemon) -> None:
    """Nothing is waited for; the answers come in order: O M E, M, M E."""
    with MTA(milter.address) as mta:
        mta.send_raw(SESSION)
        commands = [mta.reply()[0] for _ in range(6)]
        assert commands == [b"O", b"c", b"c", b"c", b"c", b"c"]
        assert hung_up(mta)
    assert milter.mails() == SESSION_MAILS


@pytest.mark.parametrize("size", [10, 300_000])
def test_the_queue_id_is_in_the_name(milter: daemon.Daemon, size: int) -> None:
    with MTA(milter.address) as mta:
        mta.negotiate()
        for queue_id in ("4dFqLw1Zk0z1b", "../é\n", ""):
            assert mta.deliver(b"<a@b>", [b"<c@d>"], [], b"x" * size, queue_id) == "accepted"
    named = [path.name.split(".", 3)[3].rpartition("S=")[0] for path in milter.files()]
    assert named == ["4dFqLw1Zk0z1b.", "____x_e9_.".replace("x_e9", "xc3_xa9"), ""]


def test_large_mails(milter: daemon.Daemon) -> None:
    """Headers of 104 KB and 1 MB, and a body in chunks as Postfix and Sendmail cut it."""
    headers = [
        (b"Received", b" x" * 52_000),
        (b"References", b"".join(b" %070d\n" % number for number in range(14_000)) + b" end"),
    ]
    content = bytes(range(256)) * 12_000
    chunks = (65_535, 256 << 10, 1 << 20)
    with MTA(milter.address) as mta:
        mta.negotiate(6, 0x1FF, 0x301FFFFF)
        for chunk in chunks:
            verdict = mta.deliver(b"<a@b>", [b"<c@d>"], headers, content, chunk=chunk)
            assert verdict == "accepted"
        assert deliver(mta) == "accepted"
    large = b"a@b", (b"c@d",), message_of(headers, content)
    assert milter.mails() == [large] * len(chunks) + [MAIL]


def test_refused_early_when_short_of_space(tmp_path: Path) -> None:
    with daemon.running(tmp_path / "spool", "--min-free", "9999999T") as milter:
        with MTA(milter.address) as mta:
            mta.negotiate()
            mta.macros(b"M", i="QID")
            assert deliver(mta) == "452 4.3.1 The mail archive is short of space"
            mta.send(b"A")
            assert deliver(mta) == "452 4.3.1 The mail archive is short of space"
        milter.wait_for_log('WARNING: QID: refused from=<a@b> nrcpt=0 reply="452 .* octets free, ')
        assert milter.files() == []


# Who may connect


def test_peer_that_is_not_allowed(tmp_path: Path) -> None:
    options = ("--allow", "10.0.0.0/8", "::1")
    with daemon.running(tmp_path / "spool", *options, socket="inet:0@127.0.0.1") as milter:
        for _ in range(50):
            with MTA(milter.address) as mta:
                assert hung_up(mta)
        hint = "to allow it too, start with --allow 10.0.0.0/8 ::1/128 127.0.0.1"
        milter.wait_for_log(f"connect from 127.0.0.1 refused: {hint}")
        assert milter.stop() == 0
        assert milter.log.count("connect from ") == 1, "one line in a minute"


def test_peer_that_is_allowed(tmp_path: Path) -> None:
    options = ("--allow", "127.0.0.0/8")
    with daemon.running(tmp_path / "spool", *options, socket="inet:0@127.0.0.1") as milter:
        with MTA(milter.address) as mta:
            mta.negotiate()
            assert deliver(mta) == "accepted"
        assert milter.mails() == [MAIL]


def test_mta_whose_socket_has_a_name(milter: daemon.Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """An MTA may bind its end of a Unix socket; it is a Unix socket nevertheless."""
    connect = socket.socket.connect

    def bind_and_connect(self: socket.socket, address: str) -> None:
        self.bind(f"{milter.spool}.mta")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", bind_and_connect)
    with MTA(milter.address) as mta:
        mta.negotiate()
        assert deliver(mta) == "accepted"
    assert milter.stop() == 0
    assert "ERROR" not in milter.log


# Rubbish

MALFORMED = {
    "length 0": bytes(4),
    "4 GB": b"\xff\xff\xff\xffB" + bytes(60_000),
    "unknown command": packet(b"!", b"x" * 1000),
    "MAIL without NUL": packet(b"M", b"<a@b>"),
    "header without NUL": packet(b"L", b"x" * 100_000),
    "header with NUL": mail(b"<a@b>") + packet(b"L", strings(b"A", b"b", b"c")),
    "short negotiation": packet(b"O", bytes(5)),
    "oversized MAIL": struct.pack("!I", 1 << 20) + b"M" + b"x" * 60_000,
    "rubbish in a mail": mail(b"<a@b>")
    + header(b"A", b" b")
    + body(b"x" * 200_000)
    + b"EHLO there\r\n",
    "an SMTP client": b"EHLO mail.example.org\r\n",
}


def send_rubbish(milter: daemon.Daemon, rounds: int) -> None:
    for _ in range(rounds):
        for data in MALFORMED.values():
            with MTA(milter.address) as mta:
                try:
                    mta.send_raw(data)
                except ConnectionError:  # closed before all was sent
                    continue
                while not hung_up(mta):  # MAIL may be answered before
                    pass


def test_malformed_packets(milter: daemon.Daemon) -> None:
    """Each is logged, its connection closed; the daemon lives, and holds no more than before."""
    before = descriptors(milter.pid)
    send_rubbish(milter, 5)
    memory = resident(milter.pid)
    send_rubbish(milter, 20)
    wait_for(lambda: descriptors(milter.pid) == before, "the descriptors of before, and no other")
    assert resident(milter.pid) - memory < 2 << 20
    assert milter.log.count("WARNING: MTA: protocol violated, connection closed: ") == 250
    assert "ERROR" not in milter.log
    with MTA(milter.address) as mta:
        mta.negotiate()
        assert deliver(mta) == "accepted"
    assert milter.mails() == [MAIL]


# Signals


def test_drain(milter: daemon.Daemon) -> None:
    """A mail under way is finished and kept; who is idle is sent away; nobody new comes in."""
    with MTA(milter.address) as busy, MTA(milter.address) as idle, MTA(milter.address) as silent:
        begin(busy)
        idle.negotiate()
        assert deliver(idle) == "accepted"
        os.kill(milter.pid, signal.SIGTERM)
        assert hung_up(idle)
        assert hung_up(silent)
        milter.wait_for_log("stopping connections=3")
        with pytest.raises(ConnectionError):
            MTA(milter.address)
        assert finish(busy) == "accepted"
        assert hung_up(busy)
    assert milter.process.wait(30) == 0
    assert milter.mails() == [MAIL, MAIL]
    assert re.search(r"statistics: mails=2 bytes=\d+ refused=0 .*\n.* stopped\n", milter.log)
    assert not os.path.lexists(str(milter.address))


def test_second_signal_and_what_it_leaves(tmp_path: Path) -> None:
    """The end at once: no mail, exit code 75, and a stale socket that the next start replaces."""
    with daemon.running(tmp_path / "spool") as milter, MTA(milter.address) as mta:
        begin(mta)
        os.kill(milter.pid, signal.SIGTERM)
        milter.wait_for_log("stopping connections=1")
        os.kill(milter.pid, signal.SIGINT)
        assert milter.process.wait(30) == os.EX_TEMPFAIL
        milter.wait_for_log("second signal: ended at once")
        assert milter.files() == []
    stale = os.lstat(str(milter.address))
    assert stat.S_ISSOCK(stale.st_mode)
    with daemon.running(tmp_path / "spool") as again, MTA(again.address) as mta:
        mta.negotiate()
        assert deliver(mta) == "accepted"
        assert again.mails() == [MAIL]


def test_statistics(milter: daemon.Daemon) -> None:
    with MTA(milter.address) as mta:
        mta.negotiate()
        assert deliver(mta) == deliver(mta) == "accepted"
        assert mta.deliver(b"<a\r>", [], [], b"").startswith("553 5.1.3 ")
        os.kill(milter.pid, signal.SIGUSR1)
        size = 2 * len(MESSAGE)
        line = milter.wait_for_log(rf"INFO: statistics: mails=2 bytes={size} refused=1 mean_ms=.*")
        mean, worst = map(float, re.findall(r"_ms=([0-9.]+)", line))
        assert 0 < mean <= worst
        assert deliver(mta) == "accepted"
