"""Readers of mail files, strict and lenient: which trusted headers does each of them see?

A judge takes mail files and tells for each what it saw: name -> values, in the file's order, without
the blanks around. `lenient` is meant to see more than any real reader; `javamail` is the archiver's.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterable
from email import policy
from email.parser import BytesParser
from email.policy import Policy
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benno_common.envelope import Envelope
from mailfile_reference import TRUSTED

Seen = dict[bytes, list[bytes]]
Judge = Callable[[list[bytes]], list[Seen]]

BLANKS = bytes(range(0x21))
JAVA_PROGRAM = Path(__file__).parent / "java" / "Judge.java"
JARS = "/usr/share/java/javax.mail.jar:/usr/share/java/javax.activation.jar"


def collect(fields: Iterable[tuple[bytes, bytes]], names: frozenset[bytes] = TRUSTED) -> Seen:
    seen: Seen = {}
    for field, value in fields:
        name = field.upper()
        if name in names:
            seen.setdefault(name, []).append(value.strip(BLANKS))
    return seen


def block_of(envelope: Envelope) -> Seen:
    """What a judge sees of a file with this envelope whom nothing else in it fools."""
    seen: Seen = {b"X-REAL-MAILFROM": [b"<%b>" % envelope.sender]}
    if envelope.recipients:
        seen[b"X-REAL-RCPTTO"] = [b"<%b>" % recipient for recipient in envelope.recipients]
    if envelope.gateway:
        seen[b"X-BENNO-GW"] = [envelope.gateway]
    return seen


def lenient_view(file: bytes, names: frozenset[bytes] = TRUSTED) -> Seen:
    """What a reader sees who makes a trusted header of all that looks like one.

    The header ends at CRLFCRLF only. A line that begins with a blank continues the field before it,
    and is read as a field of its own as well. A name needs no colon.
    """
    section = file.partition(b"\r\n\r\n")[0]
    fields: list[bytes] = []
    loose: list[bytes] = []
    for line in filter(None, re.split(rb"\r\n|\r|\n", section)):
        if line[0] <= 0x20:
            loose.append(line)
            if fields:
                fields[-1] += b"\n" + line
        else:
            fields.append(line)
    return collect(map(lenient_field, fields + loose), names)


def lenient_field(text: bytes) -> tuple[bytes, bytes]:
    first, _, continued = text.partition(b"\n")
    name, _, value = first.partition(b":")
    name = name.replace(b"\xc4\xb0", b"i").replace(b"\xc4\xb1", b"i").strip(BLANKS)
    return name, (value + b"\n" + continued if continued else value)


def lenient(files: list[bytes]) -> list[Seen]:
    return [lenient_view(file) for file in files]


def python_view(file: bytes, rules: Policy) -> Seen:
    """What Python's parser takes for headers. (`raw_items`: as they stand, 8-bit octets included.)"""
    parsed = BytesParser(policy=rules).parse(io.BytesIO(file), headersonly=True)
    return collect((octets(name), octets(value)) for name, value in parsed.raw_items())


def octets(text: str) -> bytes:
    return text.encode("ascii", "surrogateescape")


def python(rules: Policy, files: list[bytes]) -> list[Seen]:
    return [python_view(file, rules) for file in files]


def missing_java() -> str | None:
    """What to install before JavaMail can be asked, if anything."""
    if not shutil.which("javac"):
        return "no Java compiler: install default-jdk-headless"
    if not all(map(os.path.exists, JARS.split(":"))):
        return "no JavaMail: install libmail-java"
    return None


@cache
def java_classes() -> TemporaryDirectory[str]:
    """tests/java/Judge.java, compiled; it goes with the process."""
    directory = TemporaryDirectory(prefix="judge-")
    subprocess.run(
        ["javac", "-J-XX:TieredStopAtLevel=1", "-cp", JARS, "-d", directory.name, str(JAVA_PROGRAM)],
        check=True,
    )
    return directory


def javamail(allow_utf8: str, files: list[bytes]) -> list[Seen]:
    """All files in one run of JavaMail. `allow_utf8`: its mail.mime.allowutf8."""
    names = [name.decode() for name in sorted(TRUSTED)]
    lines = subprocess.run(
        ["java", "-cp", f"{JARS}:{java_classes().name}", "Judge", allow_utf8, *names],
        input=b"".join(len(file).to_bytes(4, "big") + file for file in files),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout.splitlines()
    assert len(lines) == len(files), f"{len(files)} files, {len(lines)} answers"
    return [collect(map(java_field, line.split())) for line in lines]


def java_field(word: bytes) -> tuple[bytes, bytes]:
    name, _, value = word.partition(b"=")
    return name, b64decode(value)


JUDGES: dict[str, Judge] = {
    "lenient": lenient,
    "python-compat32": partial(python, policy.compat32),
    "python-default": partial(python, policy.default),
    "javamail": partial(javamail, "false"),
    "javamail-utf8": partial(javamail, "true"),
}
