"""A spool full of mail files, as benno-milter would have left them, and the run that empties it."""

from __future__ import annotations

import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.place import clear
from bench.process import Calls, add_calls
from bench.rounds import Sample
from bench.setting import command, environment

_BLOCK = b"X-REAL-MAILFROM: <sender@example.org>\r\nX-REAL-RCPTTO: <recipient@example.net>\r\n"
_HEADER = b"".join(b"X-Header-%d: as long as they are, mostly; some more\r\n" % n for n in range(11))
_LINE = b"JVBERi0xLjcKJeLjz9MKNCAwIG9iago8PC9GaWx0ZXIvRmxhdGVEZWNvZGUvTGVuZ3RoIDEyMzQ+\r\n"

# How many names a file may have: ext4 takes 65,000.
_NAMES = 50_000

_HWM = re.compile(r"VmHWM:\s*(\d+) kB")


def refill(spool: Path, count: int, size: int) -> None:
    """Make the spool anew with so many mails of so many octets, each a file of its own."""
    content = _content(size)
    clear(spool)
    for name in _names(count, len(content)):
        (spool / name).write_bytes(content)
    subprocess.run(["sync", "-f", str(spool)], check=True)


def refill_with_links(spool: Path, count: int, size: int) -> None:
    """The same, but these are few files with many names: where it counts how many names there are."""
    content = _content(size)
    clear(spool)
    directory = os.open(spool, os.O_RDONLY | os.O_DIRECTORY)
    try:
        first = ""
        for number, name in enumerate(_names(count, len(content))):
            if number % _NAMES == 0:
                first = name
                (spool / name).write_bytes(content)
            else:
                os.link(first, name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.close(directory)


def forwarder(spool: Path, port: int, *, connections: int) -> list[str]:
    """The command that sends it to a port of loopback."""
    options = ["--spool", str(spool), "--connections", str(connections), "--log", "stderr"]
    return [*command("benno_milter2smtp"), *options, f"127.0.0.1:{port}"]


def forward(spool: Path, port: int, mails: int, *, connections: int, log: Path) -> Sample:
    """Empty it, with all that the process takes from its start to its end. Raises RuntimeError."""
    words = forwarder(spool, port, connections=connections)
    size = sum(entry.stat().st_size for entry in os.scandir(spool))
    with log.open("wb") as stream:
        sample = timed(words, stream.fileno(), mails, size)
    if left := sum(1 for _ in spool.glob("*.eml*")):
        raise RuntimeError(f"{left} mails are left: {log.read_text(errors='replace')[-2000:]}")
    return sample


def timed(words: Sequence[str], log: int, mails: int, octets: int | None = None) -> Sample:
    """What a command takes that handles so many mails and ends by itself. log: a descriptor."""
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=log, stderr=log, env=environment())
    peak = _peak_until_its_end(process.pid)
    seconds = time.monotonic() - began
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it must not be waited for again
    return Sample(
        mails,
        seconds,
        cpu_seconds=used.ru_utime + used.ru_stime,
        switches=used.ru_nvcsw + used.ru_nivcsw,
        peak=peak,
        octets=octets,
    )


def _peak_until_its_end(pid: int) -> int:
    """Octets of memory (VmHWM). ru_maxrss would be that of this process, where that has more."""
    peak = 0
    ended = os.pidfd_open(pid)
    try:
        while not select.select([ended], [], [], 0.02)[0]:
            told = Path(f"/proc/{pid}/status").read_text()
            peak = max([peak, *(int(kilobytes) * 1024 for kilobytes in _HWM.findall(told))])
    finally:
        os.close(ended)
    return peak


def traced(words: Sequence[str]) -> Calls:
    """The system calls of a command that ends by itself, its threads and children."""
    calls = Calls()
    with tempfile.TemporaryDirectory() as directory:
        trace = Path(directory) / "trace"
        strace = ["strace", "-f", "-s", "0", "-o", str(trace)]
        subprocess.run([*strace, *words], check=True, capture_output=True, env=environment())
        with trace.open(errors="replace") as lines:
            add_calls(calls, lines)
    return calls


def _content(size: int) -> bytes:
    """A mail file whose message has so many octets."""
    message = _HEADER + b"Subject: x\r\n\r\n"
    message += _LINE * ((size - len(message)) // len(_LINE) + 1)
    return _BLOCK + message[: size - 2].removesuffix(b"\r") + b"\r\n"


def _names(count: int, size: int) -> list[str]:
    """Oldest first, a thousand of a second."""
    return [
        f"{1_700_000_000 + number // 1000}.{number % 1000:06d}.bench.S={size}.eml"
        for number in range(count)
    ]
