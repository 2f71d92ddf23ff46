"""Who may log in: one user of the configuration, or those of a file that `htpasswd -nB` writes.

    user:$2y$05$...        a line each; `mkpasswd -m bcrypt` makes such hashes too

bcrypt, because Debian has both its library and programs that make a hash. The library is imported only
where there is a file. It looks at 72 octets of a password and at none behind a NUL, and its versions
differ in what they do about the rest; so it is said here: octets behind the 72nd do not count, as with
htpasswd, and a password with a NUL is nobody's.

How long a check takes tells nothing about who is known: an unknown user's password is held against the
hash of one who is known, always the same one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from types import ModuleType

_HASH = re.compile(rb"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_COST = range(4, 17)  # 16 takes seconds
_PASSWORD_OCTETS = 72

HASH = "make the line with: htpasswd -nB NAME (of the package apache2-utils)"


class CredentialsError(ValueError):
    """The users cannot be read: `key: reason`, of a key of the configuration."""


class Users:
    """check(user, password): whether they are right. It takes its time: not on an event loop."""

    def __init__(self, check: Callable[[bytes, bytes], bool], path: str | None = None) -> None:
        self._check = check
        self._path = path

    @classmethod
    def one(cls, user: str, password: str) -> Users:
        return cls(_one(user.encode(), password.encode()))

    @classmethod
    def of_file(cls, path: str) -> Users:
        """Raises CredentialsError."""
        return cls(_of_file(path), path)

    def check(self, user: bytes, password: bytes) -> bool:
        return self._check(user, password)

    def renew(self) -> None:
        """Read the file again. Raises CredentialsError, and then nothing has changed."""
        if self._path is not None:
            self._check = _of_file(self._path)


def _one(user: bytes, password: bytes) -> Callable[[bytes, bytes], bool]:
    wanted = _digest(user), _digest(password)

    def check(user: bytes, password: bytes) -> bool:
        same_user = hmac.compare_digest(_digest(user), wanted[0])
        same_password = hmac.compare_digest(_digest(password), wanted[1])
        return same_user & same_password

    return check


def _digest(text: bytes) -> bytes:
    """Of the same length whatever the text's."""
    return hashlib.sha256(text).digest()


def _of_file(path: str) -> Callable[[bytes, bytes], bool]:
    bcrypt = _library(path)
    try:
        with open(path, "rb") as file:
            hashes = _read(path, file.read())
    except PermissionError as error:
        rights = f"as root: chgrp benno {path} && chmod 640 {path}"
        raise CredentialsError(f"auth_file: {path}: {error.strerror}; {rights}") from error
    except OSError as error:
        raise CredentialsError(f"auth_file: {path}: {error.strerror}") from error
    pepper = secrets.token_bytes(32)
    in_place = list(hashes.values())

    def check(user: bytes, password: bytes) -> bool:
        chosen = hmac.digest(pepper, user, "sha256")
        wanted = hashes.get(user, in_place[int.from_bytes(chosen, "big") % len(in_place)])
        allowed = (user in hashes) & (b"\0" not in password)
        octets = password.replace(b"\0", b"")[:_PASSWORD_OCTETS]
        same: bool = bcrypt.checkpw(octets, wanted)
        return same & allowed

    return check


def _library(path: str) -> ModuleType:
    try:
        import bcrypt  # noqa: PLC0415 - seldom needed
    except ImportError as error:
        raise CredentialsError(
            f"auth_file: {path} needs python3-bcrypt, which is not installed; "
            "as root: apt-get install python3-bcrypt"
        ) from error
    return bcrypt


def _read(path: str, data: bytes) -> Mapping[bytes, bytes]:
    """Users and hashes. No error shows what stands in a line."""
    hashes: dict[bytes, bytes] = {}
    for number, line in enumerate(data.splitlines(), 1):
        line = line.strip()  # noqa: PLW2901 - of blanks
        if not line or line.startswith(b"#"):
            continue
        user, _, text = line.partition(b":")
        found = _HASH.fullmatch(text)
        if not user or not found:
            raise CredentialsError(f"auth_file: {path}:{number}: no user with a bcrypt hash; {HASH}")
        if int(found[1]) not in _COST:
            cost = f"a bcrypt cost is {_COST.start} to {_COST.stop - 1}"
            raise CredentialsError(f"auth_file: {path}:{number}: {cost}; {HASH}")
        if user in hashes:
            raise CredentialsError(f"auth_file: {path}:{number}: this user stands there twice")
        hashes[user] = text
    if not hashes:
        raise CredentialsError(f"auth_file: {path} has no users, and nobody could log in; {HASH}")
    return hashes
