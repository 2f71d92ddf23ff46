"""The log: each event's line as an administrator greps for it, and where the lines go.

Whatever a client sends as address, queue id or name, and whatever an error says, a line of the log
begins and ends where this program means it to, and nothing in it moves a terminal's cursor.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benno_common import log, logtarget, visible
from benno_common.envelope import Envelope

SHA256 = "5ea71dc6d0b4f57bf39aadd07c208c35f06cd2bac5fde210397f70de11d439c6"
STORED = log.Stored("1700000000.000001.ab0.S=812.eml", 700, SHA256, 0)
ESCAPED = log.Stored("1700000000.000001.ab1.S=812.eml", 700, SHA256, 3)

# What may come from outside, and what a line of the log may be made of.
HOSTILE = {
    "line feed": b"a\nQ2: stored file=x",
    "CR": b"a\rQ2: stored",
    "CRLF": b"a\r\nQ2:",
    "NUL": b"a\0b",
    "vertical tab, form feed": b"a\x0b\x0cb",
    "file and group separators": b"a\x1c\x1d\x1eb",
    "ANSI escape": b"\x1b[2K\x1b[1AQ2: stored\x1b]0;title\x07",
    "C1 control sequence": b"\x9b31m\x85",
    "UTF-8 of C1 control sequence": b"\xc2\x9b31m\xc2\x85",
    "backspaces and DEL": b"secret\x08\x08\x7f",
    "blank, tab": b"a answered=yes\tb",
    "quotes": b"\"a\" 'b' `c`",
    "brackets": b"a> nrcpt=1 reply=<b",
    "backslash": b"a\\nb\\x20c",
    "Latin-1": b"gr\xfcn@example.org",
    "UTF-8": "grün@exämple.org".encode(),
    "right to left": "\u202egro.elpmaxe".encode(),
    "line separator": "a\u2028b\u2029c\u0085d".encode(),
    "all octets": bytes(range(256)),
}
hostile = pytest.mark.parametrize("octets", HOSTILE.values(), ids=HOSTILE)


@pytest.fixture(autouse=True)
def logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """A logger of the test's own, and logging as it was before."""
    own = logging.getLogger("benno-test")
    for module in (log, logtarget):
        monkeypatch.setattr(module, "_log", own)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    yield own
    for handler in own.handlers:
        handler.close()
    own.handlers.clear()  # a second time it would be another's descriptor


class Lines(logging.Handler):
    """Keeps level and text of each event, its traceback too, as a target formats them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += f"{record.levelname} {self.format(record)}".split("\n")


@pytest.fixture
def lines(logger: logging.Logger) -> list[str]:
    """What is logged from here on."""
    logtarget.setup("benno-test", "journal")
    kept = Lines()
    kept.setFormatter(logger.handlers[0].formatter)
    logger.handlers[:] = [kept]
    return kept.lines


def case(name: str, *values: object) -> object:
    return pytest.param(*values, id=name)


# Each event's line


@pytest.mark.parametrize(
    ("queue_id", "envelope", "stored", "answered", "line"),
    [
        case(
            "plain",
            "4Zx1",
            Envelope(b"a@example.org", (b"b@example.net", b"c@example.net")),
            STORED,
            True,
            "INFO <6>4Zx1: stored file=1700000000.000001.ab0.S=812.eml from=<a@example.org> nrcpt=2 "
            f"size=700 sha256={SHA256} ms=12.3 answered=yes",
        ),
        case(
            "null sender, escaped lines, nobody left to be answered",
            None,
            Envelope(b"", (b"b@example.net",)),
            ESCAPED,
            False,
            "WARNING <4>NOQUEUE: stored file=1700000000.000001.ab1.S=812.eml from=<> nrcpt=1 "
            f"size=700 sha256={SHA256} foreign=3 ms=12.3 answered=no",
        ),
        case(
            "empty queue id",
            "",
            Envelope(b"a b\xff@example.org", ()),
            STORED,
            True,
            r"INFO <6>NOQUEUE: stored file=1700000000.000001.ab0.S=812.eml "
            rf"from=<a\x20b\xff@example.org> nrcpt=0 size=700 sha256={SHA256} ms=12.3 answered=yes",
        ),
    ],
)
def test_mail_stored(
    lines: list[str],
    queue_id: str | None,
    envelope: Envelope,
    stored: log.Stored,
    answered: bool,
    line: str,
) -> None:
    log.mail_stored(queue_id, envelope, stored, 0.01234, answered=answered)
    assert lines == [line]


def test_mail_refused(lines: list[str]) -> None:
    reply = "451 4.3.0 The mail archive could not store this mail"
    log.mail_refused("4Zx1", sender=b"a@b", recipients=2, reply=reply, reason="No space left on device")
    log.mail_refused(None, sender=b"", recipients=0, reply="451", reason="")
    log.mail_refused("4Zx1", sender=b"", recipients=1, reply="451", reason='not "a" b')
    assert lines == [
        f'WARNING <4>4Zx1: refused from=<a@b> nrcpt=2 reply="{reply}" reason="No space left on device"',
        'WARNING <4>NOQUEUE: refused from=<> nrcpt=0 reply=451 reason=""',
        "WARNING <4>4Zx1: refused from=<> nrcpt=1 reply=451 reason=\"not 'a' b\"",
    ]


def test_clients(lines: list[str]) -> None:
    log.peer_refused("192.0.2.1", "to allow it, start with --allow 192.0.2.1")
    log.peer_refused("192.0.2.1", "no", 17)
    log.protocol_violated("192.0.2.1", "a packet of 4294967295 octets")
    log.protocol_violated("fe80::1%eth0", "no packet")
    assert lines == [
        "WARNING <4>connect from 192.0.2.1 refused: to allow it, start with --allow 192.0.2.1",
        "WARNING <4>connect from 192.0.2.1 refused: no (17 more were, since the last such line)",
        "WARNING <4>192.0.2.1: protocol violated, connection closed: a packet of 4294967295 octets",
        "WARNING <4>fe80::1%eth0: protocol violated, connection closed: no packet",
    ]


def test_directory(lines: list[str]) -> None:
    log.directory_changed("/srv/benno/inbox", "it is not mounted")
    log.directory_changed("/srv/benno/inbox", None)
    assert lines == [
        "ERROR <3>/srv/benno/inbox takes no mail, all is refused until it does: it is not mounted",
        "WARNING <4>/srv/benno/inbox takes mail again",
    ]


def test_life_of_the_program(lines: list[str]) -> None:
    log.lifecycle("started", version="3.0", spool="/srv/my spool", gateway="", mode="660", tls=False)
    log.statistics(mails=3, size=4096, refused=1, mean_ms=1.26, worst_ms=2.0)
    log.lifecycle("stopped")
    log.fatal("spool: /srv/benno/inbox: No such file or directory")
    assert lines == [
        'INFO <6>started version=3.0 spool="/srv/my spool" gateway="" mode=660 tls=False',
        "INFO <6>statistics: mails=3 bytes=4096 refused=1 mean_ms=1.3 worst_ms=2.0",
        "INFO <6>stopped",
        "ERROR <3>spool: /srv/benno/inbox: No such file or directory",
    ]


def fail(error: Exception) -> Exception:
    """The error with a traceback, as it comes to the log."""
    with contextlib.suppress(type(error)):
        raise error
    return error


def test_unexpected(lines: list[str]) -> None:
    log.unexpected("4Zx1", fail(KeyError("envelope")))
    assert lines[:2] == [
        "ERROR <3>4Zx1: unexpected KeyError: 'envelope'",
        "<3>  Traceback (most recent call last):",
    ]
    assert lines[-1] == "<3>  KeyError: 'envelope'"
    assert any("raise error" in line for line in lines[2:-1])


def test_unexpected_without_traceback(lines: list[str]) -> None:
    log.unexpected(None, RuntimeError("two\nlines"))
    assert lines == [
        r"ERROR <3>NOQUEUE: unexpected RuntimeError: two\nlines",
        "<3>  RuntimeError: two",
        "<3>  lines",
    ]


def test_unexpected_shows_no_message(lines: list[str]) -> None:
    """The repr() of an encoding error has all that could not be decoded."""
    log.unexpected("4Zx1", fail(UnicodeDecodeError("ascii", b"Subject: secret \xff", 16, 17, "no")))
    assert "secret" not in "\n".join(lines)
    assert "position 16" in lines[0]


# Nobody forges a line


@hostile
def test_safe(octets: bytes) -> None:
    """One visible word, from which the octets can be had back; a file name is one as text, too."""
    word = visible.safe(octets)
    assert visible.safe(os.fsdecode(octets)) == word
    assert re.fullmatch("[!-~]*", word)
    back = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), word.encode())
    assert back == octets


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("4Zx1", "4Zx1"),
        ("", ""),
        ("a b\\", r"a\x20b\x5c"),
        ("\n\x1b", r"\x0a\x1b"),
        ("ü€", r"\xc3\xbc\xe2\x82\xac"),
        ("caf\udce9.eml", r"caf\xe9.eml"),
        ("\ud800", r"\x5cud800"),
        (b"\xff\\xff", r"\xff\x5cxff"),
        (b"'\"<>=:", "'\"<>=:"),
    ],
)
def test_safe_words(text: str | bytes, word: str) -> None:
    assert visible.safe(text) == word


def test_a_file_name_in_a_reason() -> None:
    assert visible.printable("caf\udce9 \ud800\x9b \udc80\udcff") == r"caf\xe9 \ud800\x9b \x80\xff"


def test_a_long_text_is_cut(lines: list[str]) -> None:
    """journald breaks lines over 48 KiB, and the rest would look like a line of its own."""
    log.mail_refused("Q", sender=b"\n" * 500_000, recipients=1, reply="y" * 2000, reason="\0" * 99_000)
    (line,) = lines
    assert len(line) < 11_000
    assert line.count("...(") == 3
    assert "\\x0a...(500000)>" in line


@hostile
def test_no_forged_line(lines: list[str], octets: bytes) -> None:
    """Every event with hostile text at every place stays on one line, and its own words stand out."""
    text = octets.decode("utf-8", "surrogateescape")
    sender = re.sub(rb"[\r\n\0]", b" ", octets)
    log.mail_stored(text, Envelope(sender, ()), STORED, 0, answered=True)
    log.mail_refused(text, sender=octets, recipients=1, reply=text, reason=text)
    log.peer_refused(text, text)
    log.protocol_violated(text, text)
    log.directory_changed(text, text)
    log.directory_changed(text, None)
    log.lifecycle("started", value=text)
    log.fatal(text)
    assert len(lines) == 8
    assert all(line.isprintable() for line in lines)
    stored, refused = lines[:2]
    assert re.fullmatch(
        r"INFO <6>[!-~]+: stored file=[!-~]+ from=<[!-~]*> nrcpt=0 .* answered=yes", stored
    )
    assert re.fullmatch(r"WARNING <4>[!-~]+: refused from=<[!-~]*> nrcpt=1 reply=.* reason=.*", refused)
    if " " in text:
        assert refused.partition(" reply=")[2].count('"') == 4


@hostile
def test_no_forged_line_in_a_traceback(lines: list[str], octets: bytes) -> None:
    """An error's own lines cannot pass for the log's: those are indented."""
    log.unexpected("4Zx1", fail(ValueError(octets.decode("utf-8", "surrogateescape"))))
    assert lines[0].startswith("ERROR <3>4Zx1: unexpected ValueError: ")
    assert all(line.startswith("<3>  ") for line in lines[1:])
    assert all(line.isprintable() for line in lines)


# Never a message, never a password


def test_no_event_is_told_a_message_or_a_password() -> None:
    """What a function is not given it cannot log; who adds a parameter thinks about that here."""
    events = [
        value
        for name, value in vars(log).items()
        if getattr(value, "__module__", "") == log.__name__
        and inspect.isfunction(value)
        and not name.startswith("_")
    ]
    given = {name for event in events for name in inspect.signature(event).parameters}
    assert given == {
        *("queue_id", "envelope", "stored", "seconds", "answered", "sender", "recipients", "reply"),
        *("peer", "reason", "path", "error", "event", "settings", "others"),
        *("altered", "lines", "client", "name", "names", "host", "sha256", "held", "sent", "kept"),
        *("mails", "size", "refused", "mean_ms", "worst_ms", "shortage", "connections", "about"),
    }
    assert log.Stored.__slots__ == ("name", "size", "sha256", "escaped")


# Where it goes

PREFIX = rf"[0-9-]{{10}} [0-9:,]{{12}} benno-test\[{os.getpid()}\]: "


@contextlib.contextmanager
def standard_error(fd: int | None) -> Iterator[None]:
    """Standard error is what `fd` is open for; closed if None."""
    saved, python = os.dup(2), sys.stderr
    if fd is None:
        os.close(2)
        sys.stderr = None
    else:
        os.dup2(fd, 2)
        stream = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
        sys.stderr = stream
    try:
        yield
    finally:
        if sys.stderr is not None:
            with contextlib.suppress(OSError):  # of what could not be written
                sys.stderr.close()
        sys.stderr = python
        os.dup2(saved, 2)
        os.close(saved)


class Stream:
    """A pipe as standard error, and what was written there."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        status = os.fstat(self.writer)
        self.name = f"{status.st_dev}:{status.st_ino}"  # as systemd puts it into $JOURNAL_STREAM

    def lines(self) -> list[str]:
        os.set_blocking(self.reader, False)
        try:
            return os.read(self.reader, 65536).decode().splitlines()
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def stream() -> Iterator[Stream]:
    made = Stream()
    yield made
    made.close()


class Syslog:
    """A syslog daemon's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def records(self) -> list[bytes]:
        received = []
        with contextlib.suppress(BlockingIOError):
            while True:
                received.append(self.socket.recv(65536))
        return received

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Syslog]:
    """A syslog daemon that listens where this program looks for one."""
    made = Syslog(tmp_path / "log")
    monkeypatch.setattr(logtarget, "SYSLOG_SOCKET", str(made.path))
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    yield made
    made.close()


@pytest.fixture
def no_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a syslog daemon would listen, but none does."""
    monkeypatch.setattr(logtarget, "SYSLOG_SOCKET", str(tmp_path / "log"))
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    return tmp_path / "log"


def log_each_level(target: logtarget.Target = "auto") -> None:
    logtarget.setup("benno-test", target)
    log.lifecycle("started", spool="/srv/grün")
    log.peer_refused("192.0.2.1", "no")
    log.unexpected("4Zx1", fail(ValueError("why\nnot")))


def test_journal(stream: Stream, syslog: Syslog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line with its priority, those of a traceback too; time and program the journal knows."""
    monkeypatch.setenv("JOURNAL_STREAM", stream.name)
    with standard_error(stream.writer):
        log_each_level()
    lines = stream.lines()
    assert lines[:4] == [
        "<6>started spool=/srv/grün",
        "<4>connect from 192.0.2.1 refused: no",
        r"<3>4Zx1: unexpected ValueError: why\nnot",
        "<3>  Traceback (most recent call last):",
    ]
    assert lines[-2:] == ["<3>  ValueError: why", "<3>  not"]
    assert all(line.startswith("<3>  ") for line in lines[3:])
    assert syslog.records() == []


@pytest.mark.parametrize("name", ["", "0:0", "{}0", "{} ", "journal"])
def test_journal_is_for_another_stream(
    stream: Stream, syslog: Syslog, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The unit's standard error was redirected: to a file, say."""
    monkeypatch.setenv("JOURNAL_STREAM", name.format(stream.name))
    with standard_error(stream.writer):
        log_each_level()
    assert stream.lines() == []
    assert len(syslog.records()) == 3


def test_terminal(syslog: Syslog) -> None:
    terminal, line = os.openpty()
    with standard_error(line):
        log_each_level()
    assert syslog.records() == []
    written = os.read(terminal, 65536).decode().splitlines()
    os.close(line)
    os.close(terminal)
    assert re.fullmatch(PREFIX + "INFO: started spool=/srv/grün", written[0])


def test_syslog(stream: Stream, syslog: Syslog) -> None:
    """<PRI>program[pid]: text; facility mail is 2, and so 2 * 8 + severity."""
    with standard_error(stream.writer):
        log_each_level()
    tag = f"benno-test[{os.getpid()}]: "
    info, warning, error = (record.decode() for record in syslog.records())
    assert info == f"<22>{tag}started spool=/srv/grün"
    assert warning == f"<20>{tag}connect from 192.0.2.1 refused: no"
    first, *traceback = error.split("\n")
    assert first == rf"<19>{tag}4Zx1: unexpected ValueError: why\nnot"
    assert traceback[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in traceback)
    assert stream.lines() == []


def test_neither(stream: Stream, no_syslog: Path) -> None:
    with standard_error(stream.writer):
        log_each_level()
    lines = stream.lines()
    assert re.fullmatch(PREFIX + "INFO: started spool=/srv/grün", lines[0])
    assert re.fullmatch(PREFIX + "WARNING: connect from 192.0.2.1 refused: no", lines[1])
    assert re.fullmatch(PREFIX + r"ERROR: 4Zx1: unexpected ValueError: why\\nnot", lines[2])
    assert all(line.startswith("  ") for line in lines[3:])


def test_syslog_path_is_no_socket(stream: Stream, no_syslog: Path) -> None:
    no_syslog.write_text("a file")
    with standard_error(stream.writer):
        log_each_level()
    assert len(stream.lines()) > 3
    assert no_syslog.read_text() == "a file"


@pytest.mark.parametrize(("target", "begin"), [("stderr", "INFO: started"), ("journal", "<6>started")])
def test_target_that_was_asked_for(
    stream: Stream, syslog: Syslog, target: logtarget.Target, begin: str
) -> None:
    with standard_error(stream.writer):
        log_each_level(target)
    assert re.match(f"({PREFIX})?{begin}", stream.lines()[0])
    assert syslog.records() == []


def test_syslog_was_asked_for(stream: Stream, syslog: Syslog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", stream.name)
    with standard_error(stream.writer):
        log_each_level("syslog")
    assert stream.lines() == []
    assert len(syslog.records()) == 3


def test_syslog_was_asked_for_and_there_is_none(no_syslog: Path) -> None:
    with pytest.raises(OSError, match="no syslog listens there") as caught:
        logtarget.setup("benno-test", "syslog")
    assert str(no_syslog) in str(caught.value)


# A log that cannot be written does not stop the mail


@pytest.mark.parametrize("leftover", [True, False], ids=["path stays", "path goes"])
def test_syslog_restarts(syslog: Syslog, leftover: bool) -> None:
    """It is away for a while, and what is logged then is lost; afterwards logging goes on."""
    logtarget.setup("benno-test", "syslog")
    log.fatal("before")
    syslog.close()
    if not leftover:
        syslog.path.unlink()
    for number in range(3):
        log.fatal(f"away {number}")
    syslog.path.unlink(missing_ok=True)
    again = Syslog(syslog.path)
    log.fatal("after")
    log.fatal("and on")
    told = [record.decode().partition(": ")[2] for record in again.records()]
    again.close()
    assert told == ["after", "and on"]


def test_syslog_is_replaced(syslog: Syslog) -> None:
    """Another daemon takes its place between two lines; nothing is lost."""
    logtarget.setup("benno-test", "syslog")
    log.fatal("before")
    syslog.close()
    syslog.path.unlink()
    again = Syslog(syslog.path)
    log.fatal("after")
    assert len(again.records()) == 1
    again.close()


def test_a_text_too_long_for_syslog(syslog: Syslog) -> None:
    """It is cut, not lost."""
    logtarget.setup("benno-test", "syslog")
    log.fatal("x" * 1_000_000)
    (record,) = syslog.records()
    assert record.endswith(b"xxx...(1000000)")


def test_standard_error_is_closed(syslog: Syslog) -> None:
    with standard_error(None):
        log_each_level()
    assert len(syslog.records()) == 3


@pytest.mark.parametrize("target", ["auto", "stderr", "journal"])
def test_standard_error_is_closed_and_there_is_no_syslog(
    no_syslog: Path, target: logtarget.Target
) -> None:
    with standard_error(None):
        log_each_level(target)


@pytest.mark.parametrize("target", ["auto", "stderr", "journal"])
def test_nobody_reads_standard_error(stream: Stream, no_syslog: Path, target: logtarget.Target) -> None:
    """EPIPE."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, stream.reader)
    os.close(null)
    with standard_error(stream.writer):
        for _ in range(100):
            log_each_level(target)


@pytest.mark.parametrize("target", ["auto", "stderr", "journal"])
def test_standard_error_is_a_full_disk(no_syslog: Path, target: logtarget.Target) -> None:
    """ENOSPC."""
    full = os.open("/dev/full", os.O_WRONLY)
    with standard_error(full):
        for _ in range(100):
            log_each_level(target)
    os.close(full)
