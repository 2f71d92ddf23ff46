"""User and password for the archive host, out of a file that nobody but its owner may read.

    # a comment
    user = mailgw1
    password = "as it is"

Blanks around a name and a value do not count, nor one pair of quotes around a value; all else is taken
as it stands, octet for octet. What the file says is never told, not even in an error.

The file is opened once, and what was opened is looked at: it cannot be another one a moment later. A
link is not followed, for whoever could plant it would choose which file is read.
"""

from __future__ import annotations

import base64
import os
import pwd
import re
import shlex
import stat
from dataclasses import dataclass, field

from benno_common.service import Exit
from benno_milter2smtp.reply import Reply
from benno_milter2smtp.security import wrong

MOST = 4096  # octets

_LINE = re.compile(rb"[ \t]*(user|password)[ \t]*=[ \t]*(.*?)[ \t\r]*")
_QUOTED = re.compile(rb"([\"'])(.*)\1")
_ACCOUNT = "benno"


@dataclass(frozen=True)
class Credentials:
    """As they are, before any encoding."""

    user: bytes
    password: bytes = field(repr=False)

    def expunge(self, reply: Reply) -> Reply:
        """The reply without its text where that has the password: some servers repeat what they got."""
        plain = b"\0" + self.user + b"\0" + self.password  # RFC 4616 2
        forms = (self.password, base64.b64encode(self.password), base64.b64encode(plain))
        text = reply.text.encode("utf-8", "surrogateescape")
        if any(form in text for form in forms):
            return Reply(reply.code, f"{reply.status} (with the password in it)".lstrip())
        return reply


def read_credentials(path: str) -> Credentials:
    """Raises Exit where the file cannot be used, or could be read by others."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _wrong(f"{path}: no such file: write user=NAME and password=WORD into it") from error
    except PermissionError as error:
        raise _wrong(f"{path}: user {_name(os.geteuid())} may not read it: {_repair(path)}") from error
    except OSError as error:
        linked = os.path.islink(path)
        reason = "it is a symbolic link: name the file itself" if linked else str(error.strerror)
        raise _wrong(f"{path}: {reason}") from error
    try:
        _expect_private(file, path)
        content = os.read(file, MOST + 1)
    except OSError as error:
        raise _wrong(f"{path}: {error.strerror}") from error
    finally:
        os.close(file)
    return _parse(content, path)


def _expect_private(file: int, path: str) -> None:
    """Raises Exit where others may read it than its owner; access lists show in the group's rights."""
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise _wrong(f"{path}: it is no regular file")
    if status.st_uid not in {0, os.geteuid(), _account()}:
        raise _wrong(f"{path}: it belongs to user {_name(status.st_uid)}: {_repair(path)}")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise _wrong(f"{path}: others than its owner may use it (mode {mode:04o}): {_repair(path)}")


def _parse(content: bytes, path: str) -> Credentials:
    if len(content) > MOST:
        raise _wrong(f"{path}: it is longer than {MOST} octets")
    found: dict[bytes, bytes] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        match = _LINE.fullmatch(line)
        if not match or match[1] in found:
            raise _wrong(f"{path}: line {number}: write user=NAME and password=WORD, each once")
        quoted = _QUOTED.fullmatch(match[2])
        found[match[1]] = quoted[2] if quoted else match[2]
    for name in (b"user", b"password"):
        if not found.get(name):
            raise _wrong(f"{path}: {name.decode()} is missing: write {name.decode()}=...")
        if b"\0" in found[name]:
            raise _wrong(f"{path}: {name.decode()} has a NUL in it, which cannot be sent")
    return Credentials(found[b"user"], found[b"password"])


def _wrong(reason: str) -> Exit:
    return wrong("--auth-file", reason)


def _repair(path: str) -> str:
    """Who sends the mail must be able to read it, and nobody else."""
    user = _ACCOUNT if os.geteuid() == 0 else _name(os.geteuid())
    quoted = shlex.quote(path)
    return f"write: chown {user} {quoted} && chmod 600 {quoted}"


def _account() -> int | None:
    try:
        return pwd.getpwnam(_ACCOUNT).pw_uid
    except KeyError:
        return None


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
