"""The demonstration shows the way of the mail, tells what goes wrong, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import postfix
from daemon import read
from demonstration import main
from waiting import wait_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
MAIN = "import sys; from demonstration import main; sys.exit(main())"


@contextmanager
def _started(
    tmp_path: Path, *options: str, prelude: str = ""
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The demonstration as demo.sh starts it, in a process group of its own; its output as a file.

    prelude: Python that runs before it, to break something. At the end nothing of it may be left.
    """
    directory = tmp_path / "t"
    directory.mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}/demo", "TMPDIR": str(directory)}
    output = tmp_path / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{prelude}\n{MAIN}", *options],
            stdout=stream,
            stderr=stream,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process, output
        process.wait(60)
        assert list(directory.iterdir()) == []
        assert _processes(directory) == []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def _processes(directory: Path) -> list[str]:
    """Command lines that name this directory."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # ended meanwhile
            continue
    return [line for line in lines if str(directory) in line]


def _run(tmp_path: Path, *options: str, prelude: str = "") -> tuple[int, str]:
    with _started(tmp_path, *options, prelude=prelude) as (process, output):
        process.wait(60)
    return process.returncode, output.read_text()


def _expect_all(output: str) -> None:
    assert len(re.findall(r"^.+  ([0-9a-f]{10})  +\1  same  \d+\.\d+\.\*$", output, re.MULTILINE)) == 8
    assert "BCC                    anna@b.example, bcc eva@b.example" in output
    assert "  X-Benno-Foreign-X-REAL-RCPTTO: <rival@c.example>\n" in output
    assert output.endswith("All 8 arrived once, unchanged, with their true envelopes.\n")


def test_embedded_mta(tmp_path: Path) -> None:
    code, output = _run(tmp_path, "--embedded")
    assert code == 0, output
    _expect_all(output)
    assert "\n  embedded MTA -> benno-milter -> " in output


@pytest.mark.system
@pytest.mark.skipif(not postfix.available(), reason="needs root and postfix (apt install postfix)")
def test_postfix(tmp_path: Path) -> None:
    tmp_path.parent.chmod(0o711)
    code, output = _run(tmp_path)
    assert code == 0, output
    _expect_all(output)
    assert re.search(r"\n  Postfix \d[\w.-]+ -> benno-milter -> ", output)
    assert "\nbare LF* " in output


def test_postfix_that_does_not_start(tmp_path: Path) -> None:
    """The embedded MTA takes its place, and the reason is told."""
    broken = (
        "import postfix\n"
        "def running(*_): raise AssertionError('no such user: postfix')\n"
        "postfix.running, postfix.available = running, lambda: True"
    )
    code, output = _run(tmp_path, prelude=broken)
    assert code == 0, output
    _expect_all(output)
    assert "(Postfix did not start here: no such user: postfix)" in output


TAMPERING = f"""\
#!/bin/sh
cd "$2"
sed -i 's/The offer/the offer/' *.eml
sed -i 's/<anna@/<inga@/' $(grep -l 'Subject: Dots' *.eml)
rm $(grep -l 'Subject: Undelivered' *.eml)
cp $(grep -l 'Subject: News' *.eml) ../import/1.1.copy.eml
echo nothing >../import/2.2.stray.eml
exec {Path(sys.executable).parent}/benno-milter2smtp "$@"
"""


def _forwarder(directory: Path, text: str) -> str:
    """A prelude that has this script run as benno-milter2smtp."""
    (directory / "benno-milter2smtp").write_text(text)
    (directory / "benno-milter2smtp").chmod(0o755)
    return f"import chain; chain.COMMANDS = {str(directory)!r}"


def test_it_sees_what_is_wrong(tmp_path: Path) -> None:
    """A forwarder that alters, loses and doubles mails is found out, each in its row."""
    code, output = _run(tmp_path, "--embedded", prelude=_forwarder(tmp_path, TAMPERING))
    assert code == 1, output
    verdicts = dict(
        re.findall(
            r"^(\S.*?)  .*  (same|DIFFERENT|ENVELOPE|MISSING|2 FILES)  +[\d-]", output, re.MULTILINE
        )
    )
    assert verdicts == {
        "BCC": "DIFFERENT",
        "attachment, 400 kB": "same",
        "8-bit headers": "same",
        "forged X-REAL-RCPTTO": "same",
        "bare LF": "same",
        "lines of dots": "ENVELOPE",
        "no sender": "MISSING",
        "list, 1000 recipients": "2 FILES",
    }
    assert "All 8 arrived" not in output
    assert "in the import directory, and no mail file: 2.2.stray.eml" in output


def test_a_forwarder_that_fails(tmp_path: Path) -> None:
    failing = _forwarder(tmp_path, "#!/bin/sh\necho no route >&2\nexit 75\n")
    code, output = _run(tmp_path, "--embedded", prelude=failing)
    assert code == 1
    assert output.count("MISSING") == 8
    assert output.count("\nleft in the spool: ") == 8
    assert "\nbenno-export2archive ended with 75:\nno route\n" in output


def test_a_program_that_does_not_start(tmp_path: Path) -> None:
    """Its log is shown, without a traceback."""
    code, output = _run(tmp_path, prelude="import daemon; daemon.COMMAND += ('--no-such-option',)")
    assert code == 1
    assert re.match(r"demo.sh: ended with 64: usage: benno-milter", output)


@pytest.mark.parametrize("with_postfix", [False, pytest.param(True, marks=pytest.mark.system)])
def test_keep(tmp_path: Path, *, with_postfix: bool) -> None:
    """What it says can be typed: a mail of one's own goes the whole way. It ends at a signal."""
    if with_postfix and not postfix.available():
        pytest.skip("needs root and postfix (apt install postfix)")
    options = [] if with_postfix else ["--embedded"]
    with _started(tmp_path, "--keep", *options) as (process, output):
        wait_for(lambda: "of the receiver" in output.read_text() or process.poll() is not None, "it")
        text = output.read_text()
        (send,) = re.findall(r"^  (\S+python\S* -c .*)$", text, re.MULTILINE)
        (forward,) = re.findall(r"^  (PATH=.*)$", text, re.MULTILINE)
        (inbox,) = re.findall(r"^  import directory +(.*)$", text, re.MULTILINE)
        before = set(Path(inbox).iterdir())
        subprocess.run(send, shell=True, check=True, timeout=30)
        subprocess.run(forward, shell=True, check=True, timeout=30, capture_output=True)
        (path,) = set(Path(inbox).iterdir()) - before
        sender, recipients, message = read(path)
        assert (sender, recipients) == (b"me@a.example", (b"you@b.example", b"bcc@b.example"))
        assert b"Subject: hello\r\n" in message
        assert message.endswith(b"\r\n\r\nhello\r\n")
        for _, named in re.findall(r"^  (\w[\w ]+\w) +(/.*)$", text, re.MULTILINE):
            assert Path(named).exists()
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    assert "Ended; everything is removed." in output.read_text()


# A signal comes when all is being removed.
IMPATIENT = """\
import os, signal, tempfile
class Directory(tempfile.TemporaryDirectory):
    def __exit__(self, *error):
        os.kill(os.getpid(), signal.SIGINT)
        return super().__exit__(*error)
tempfile.TemporaryDirectory = Directory
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """As Ctrl-C does, to all its processes; and again, as impatient people do."""
    with _started(tmp_path, "--embedded", prelude=IMPATIENT) as (process, output):
        wait_for(lambda: "embedded MTA" in output.read_text(), "the first lines")
        os.killpg(process.pid, number)
        process.wait(60)
    assert process.returncode == 128 + number
    assert "Traceback" not in output.read_text()


def test_interrupted_at_the_start(tmp_path: Path) -> None:
    """While the programs are being started: they are, and are ended."""
    early = "import os, signal, tempfile\nmake = tempfile.mkdtemp\n"
    early += "tempfile.mkdtemp = lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM) or make(*a, **k)"
    assert _run(tmp_path, "--embedded", prelude=early) == (128 + signal.SIGTERM, "")


def test_interrupted_at_the_end(tmp_path: Path) -> None:
    code, output = _run(tmp_path, "--embedded", prelude=IMPATIENT)
    assert code == 0
    _expect_all(output)


def test_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["demo.sh", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "usage: demo.sh [-h] [--keep] [--embedded]" in capsys.readouterr().out
