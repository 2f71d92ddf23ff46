"""Sends mails from an MTA into an import directory, all on this machine, and shows what arrived.

`./demo.sh` starts it in an environment of its own. Exit codes: 0 if just the mails sent arrived, once,
unchanged and with their true envelopes; 1 if not; 128 and the signal's number if interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import chain
import report
from benno_common import VERSION
from benno_common.visible import printable
from samples import FORGED, Sample, samples

_DESCRIPTION = """\
Starts the whole way of the mail on loopback, in a temporary directory: an MTA, benno-milter, a spool,
benno-milter2smtp, benno-smtp and an import directory. Sends mails, and shows what was sent and what was
archived. The MTA is a Postfix of its own, where Postfix is installed and root starts this, else an
embedded one. A running mail server is not touched."""

_PAST_MTA = (
    "* given to benno-milter directly: Postfix turns a bare LF into CRLF before a milter sees the mail"
)

_ONE_MAIL = (
    'import smtplib; smtplib.SMTP("127.0.0.1", {port}).sendmail('
    '"me@a.example", ["you@b.example", "bcc@b.example"], "Subject: hello\\n\\nhello\\n")'
)


class Interrupted(BaseException):
    """By a signal, whose number is the argument. All that runs is ended on the way out."""


def main() -> int:
    """The command. Returns the exit code."""
    given = _parser().parse_args()
    os.environ.pop("PYTHONPATH", None)  # it led here; the programs are those that are installed
    try:
        with _running(with_postfix=not given.embedded) as running:
            arrived = _journey(running)
            if given.keep:
                _stay(running)
    except Interrupted as signalled:
        return 128 + int(signalled.args[0])
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"demo.sh: {error}\n")
        return 1
    return 0 if arrived else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("demo.sh", description=_DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--keep", action="store_true", help="stay up until Ctrl-C, to send mails of one's own")
    add("--embedded", action="store_true", help="take the embedded MTA also where there is a Postfix")
    return parser


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _on_signals(signal.SIG_IGN)  # what is being ended must not be left half ended
    raise Interrupted(number)


def _on_signals(action: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, action)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A signal waits for the end of this: what is half started cannot be ended."""
    received: list[int] = []
    _on_signals(lambda number, _frame: received.append(number))
    try:
        yield
    finally:
        _on_signals(signal.SIG_IGN if received else _interrupt)
        if received:
            raise Interrupted(received[0])


@contextlib.contextmanager
def _running(*, with_postfix: bool) -> Iterator[chain.Chain]:
    """The chain in a directory that is removed with all in it."""
    with contextlib.ExitStack() as stack:
        with _uninterrupted():
            root = stack.enter_context(tempfile.TemporaryDirectory(prefix="benno-demo-"))
            running = stack.enter_context(chain.running(Path(root), with_postfix=with_postfix))
        try:
            yield running
        finally:
            _on_signals(signal.SIG_IGN)


def _journey(running: chain.Chain) -> bool:
    """Send, forward, compare, and print; whether all is as it should be."""
    way = "benno-milter -> spool -> benno-milter2smtp -> benno-smtp -> import directory"
    _say(f"Benno gateway {VERSION} on loopback", "", f"  {running.mta.name} -> {way}", "")
    if running.mta.note:
        _say(f"({running.mta.note})", "")
    mails = samples()
    replies = [_send(running, mail) for mail in mails]
    waiting = len(running.milter.files())
    run = running.forward()

    archived, foreign = report.collect(running.receiver.inbox)
    rows = [
        report.Row(mail, reply, found, running.goes_past_mta(mail))
        for mail, reply, found in zip(mails, replies, report.match(mails, archived), strict=True)
    ]
    _say(*report.table(rows))
    if any(row.past_mta for row in rows):
        _say(_PAST_MTA)
    _say(
        "",
        f"{waiting} mails lay in the spool; benno-export2archive sent them on in {run.seconds:.1f} s.",
    )
    _show_forged(rows)
    faults = report.faults(rows, archived, foreign)
    faults += [f"left in the spool: {path.name}" for path in running.milter.files()]
    if run.code != 0:
        faults += [f"benno-export2archive ended with {run.code}:", *run.log.splitlines()]
    _say("", *(faults or [f"All {len(rows)} arrived once, unchanged, with their true envelopes."]))
    return not faults


def _send(running: chain.Chain, mail: Sample) -> str:
    """The MTA's reply."""
    try:
        return running.send(mail)
    except (OSError, EOFError) as error:
        return f"no reply: {error}"


def _show_forged(rows: list[report.Row]) -> None:
    """The first lines of a file: the envelope before the message, and the forged line defused."""
    for row in rows:
        if row.sample.title == FORGED and row.found:
            begin = row.found[0].path.read_bytes().split(b"\r\n")[:4]
            _say(f"The file of the mail with a {FORGED} begins so:", "")
            _say(*(f"  {printable(line.decode('latin-1'))}" for line in begin), "  ...")


def _stay(running: chain.Chain) -> None:
    """Say how to go on by hand, and wait for a signal."""
    port = running.mta.port
    python = shlex.quote(sys.executable)
    forward = (
        f"PATH={shlex.quote(chain.COMMANDS)}:$PATH {chain.EXPORT} -c {running.settings} --log stderr"
    )
    lines = [
        "",
        f"Staying up until Ctrl-C. In another terminal send a mail to port {port} of 127.0.0.1,",
        "",
        f"  {python} -c {shlex.quote(_ONE_MAIL.format(port=port))}",
    ]
    if shutil.which("swaks"):
        lines.append(f"  swaks --server 127.0.0.1:{port} --from me@a.example --to you@b.example")
    lines += [
        "",
        "send on what lies in the spool,",
        "",
        f"  {forward}",
        "",
        "and look at the files:",
        "",
    ]
    lines += [f"  {what:17} {path}" for what, path in _places(running)]
    with contextlib.suppress(Interrupted):
        _say(*lines)
        while True:
            signal.pause()
    _say("", "Ended; everything is removed.")


def _places(running: chain.Chain) -> list[tuple[str, Path]]:
    places = [
        ("spool", running.milter.spool),
        ("import directory", running.receiver.inbox),
        ("settings", running.settings),
        ("log of the milter", running.root / "spool.log"),
        ("of the forwarder", running.root / "forwarder.log"),
        ("of the receiver", running.root / "import.log"),
    ]
    if (maillog := running.root / "postfix" / "log" / "maillog").exists():
        places.append(("of Postfix", maillog))
    return places


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
