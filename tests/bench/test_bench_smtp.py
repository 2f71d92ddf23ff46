"""The SMTP side of the benchmarks sends what it says, and counts what was sent."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import backlog, mta, receivers, spool
from bench.logfile import Count
from bench.process import measured
from bench.sending import KIB, MB, Load, send, send_by_smtp_source
from bench.setting import SOURCES, Setting
from daemon import read

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc (apt install gcc libc6-dev)"),
]
SENDER, RECIPIENT = b"sender@example.org", b"recipient@example.net"


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where smtpload lies."""
    place = tmp_path_factory.mktemp("programs")
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-o", str(place / "smtpload")]
    subprocess.run([*command, str(SOURCES / "smtpload.c")], check=True)
    return place


@pytest.fixture
def setting(programs: Path) -> Iterator[Setting]:
    """In a directory that Postfix can reach, whoever else runs pytest."""
    with tempfile.TemporaryDirectory(prefix="bench.") as name:
        places = Path(name, "disk"), Path(name, "ram")
        for place in places:
            place.mkdir()
        yield Setting(True, 1, *places, programs)


def sizes(inbox: Path) -> list[int]:
    """Of the messages; each is whole and has the envelope that is sent."""
    found = []
    for path in inbox.glob("*.eml"):
        sender, recipients, message = read(path)
        assert sender == SENDER
        assert all(one.endswith(b"@example.net") for one in recipients)
        assert message.endswith(b"\r\n")
        assert message.count(b"\r") == message.count(b"\n") == message.count(b"\r\n")
        found.append(len(message))
    return found


@pytest.mark.parametrize(
    "load",
    [
        Load(30, 4 * KIB, 8),
        Load(30, 4 * KIB, 8, bdat=True),
        Load(9, 5001, 2, recipients=20, each=2),
        Load(3, MB, 3),
        Load(1, 2 * MB + 1, 1, bdat=True),
    ],
    ids=str,
)
def test_smtpload(setting: Setting, load: Load) -> None:
    with receivers.benno_smtp(setting.directory) as receiver:
        sample = measured(receiver.daemon, lambda: send(setting, receiver.port, load))
        assert sizes(setting.directory / "inbox") == [load.size] * load.mails
        receiver.empty()
        assert not sizes(setting.directory / "inbox")
        assert send(setting, receiver.port, Load(2, 4 * KIB, 1)).mails == 2  # it is the same directory
    assert (sample.mails, sample.octets) == (load.mails, load.mails * load.size)
    assert sample.latency is not None
    assert 0 < sample.latency.median <= sample.latency.high <= sample.latency.worst <= sample.seconds


def test_messages_of_any_size(setting: Setting) -> None:
    """Wherever the last line is cut, it ends in CR LF."""
    wanted = range(5000, 5000 + 82)
    with receivers.benno_smtp(setting.directory) as receiver:
        for size in wanted:
            send(setting, receiver.port, Load(1, size, 1))
        assert sorted(sizes(setting.directory / "inbox")) == list(wanted)


def test_smtpload_line_by_line(setting: Setting) -> None:
    """Stock aiosmtpd does not offer PIPELINING."""
    with receivers.aiosmtpd(setting.directory) as receiver:
        send(setting, receiver.port, Load(20, 4 * KIB, 4, recipients=3))
        assert sizes(setting.directory / "inbox") == [4 * KIB] * 20


def test_a_refusal_is_no_result(setting: Setting) -> None:
    with receivers.aiosmtpd(setting.directory) as receiver:
        with pytest.raises(RuntimeError, match="CHUNKING is not offered"):
            send(setting, receiver.port, Load(1, 4 * KIB, 1, bdat=True))
        with pytest.raises(RuntimeError, match="after 0 mails the server said: 552"):
            send(setting, receiver.port, Load(1, 40 * MB, 1))


@pytest.mark.skipif(mta.missing() is not None, reason=str(mta.missing()))
def test_postfix_holds_and_sends_on(setting: Setting) -> None:
    load = Load(20, 4 * KIB, 4)
    with receivers.benno_smtp(setting.ram) as archive:
        relayed = mta.relayed(archive.port, 4)
        with mta.running(setting.directory, extra=relayed) as server:
            assert send(setting, server.port, load).mails == 20
            assert send_by_smtp_source(server.port, Load(5, 4 * KIB, 2, each=1)).mails == 5
            assert len(server.files("hold")) == 25
            assert not sizes(setting.ram / "inbox")
            server.release()
            server.send_on(25)
            assert not server.files("hold", "deferred", "incoming", "active")
        assert len(list((setting.ram / "inbox").glob("*.eml"))) == 25
    assert not Path(f"/proc/{server.daemon.pid}").exists()


@pytest.mark.parametrize("refill", [spool.refill, spool.refill_with_links])
def test_forwarder(setting: Setting, refill: object) -> None:
    spooled = setting.ram / "spool"
    assert callable(refill)
    refill(spooled, 12, 5000)
    assert sizes(spooled) == [5000] * 12
    with receivers.benno_smtp(setting.directory) as receiver:
        sample = spool.forward(
            spooled, receiver.port, 12, connections=3, log=setting.ram / "forwarder.log"
        )
        assert sizes(setting.directory / "inbox") == [5000] * 12
    assert sample.mails == 12
    assert sample.cpu_seconds
    assert sample.peak


def test_mail_that_is_left_is_no_result(setting: Setting) -> None:
    spooled = setting.ram / "spool"
    spool.refill(spooled, 2, 5000)
    with pytest.raises(RuntimeError, match="2 mails are left"):
        spool.forward(spooled, 1, 2, connections=1, log=setting.ram / "forwarder.log")


@pytest.mark.skipif(mta.missing() is not None, reason=str(mta.missing()))
def test_backlog(setting: Setting) -> None:
    whole = backlog.run(setting, 300, 100)
    assert whole[backlog.FIRST] > 0
    assert whole[backlog.LAST] > 0


def test_lines_of_a_growing_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"a: sent\n")
    count = Count(log, b": sent")
    assert count.now() == 0
    with log.open("ab") as stream:
        for text, expected in ((b"b: se", 0), (b"nt", 0), (b"\nc: sent\n", 2), (b"d: kept\n", 2)):
            stream.write(text)
            stream.flush()
            assert count.now() == expected
