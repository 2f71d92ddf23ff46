"""Who may log in: users of a file with bcrypt hashes, or one of the configuration."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import bcrypt
import pytest

from benno_smtp.credentials import CredentialsError, Users

# As `htpasswd -nbB` of Apache 2.4.71 and `mkpasswd -m bcrypt` of Debian 12 write them.
MADE = """\
# who sends
archive:$2y$05$wlsAvHrAcrlw/BauMZVBPO8TmDBoeRD6wVfXsgywgeZzA0rSdgvdu

eighty:$2y$05$7qP9HFR7Q/eZSUqozJu9aumgb38c/pK/rfhkROpQ4Vvi702KGtv1q
  mkpasswd:$2b$05$UF21u0W18Ure8CO.1ixb8emOmhP7cTkag9xhH.EHKhtzQDI6Y3TAi
"""
HASH = "$2y$05$wlsAvHrAcrlw/BauMZVBPO8TmDBoeRD6wVfXsgywgeZzA0rSdgvdu"


def users(tmp_path: Path, text: str = MADE) -> Users:
    file = tmp_path / "users"
    file.write_bytes(text.encode())
    return Users.of_file(str(file))


# User, password, whether they may.
TRIED = {
    "right": (b"archive", b"secret", True),
    "wrong password": (b"archive", b"secreT", False),
    "no password": (b"archive", b"", False),
    "unknown": (b"archiv", b"secret", False),
    "nobody": (b"", b"secret", False),
    "another's password": (b"mkpasswd", b"secret", False),
    "of mkpasswd": (b"mkpasswd", b"foo", True),
    "a NUL behind it": (b"archive", b"secret\0", False),
    "a NUL within": (b"archive", b"sec\0ret", False),
    "80 octets": (b"eighty", b"x" * 80, True),
    "72 octets, and others": (b"eighty", b"x" * 72 + b"y", True),
    "71 octets": (b"eighty", b"x" * 71, False),
    "megabytes": (b"archive", b"x" * 9_000, False),
    "upper case": (b"ARCHIVE", b"secret", False),
    "not UTF-8": (b"\xff", b"\xff", False),
}


@pytest.mark.parametrize(("user", "password", "may"), TRIED.values(), ids=TRIED)
def test_file(tmp_path: Path, user: bytes, password: bytes, may: bool) -> None:
    assert users(tmp_path).check(user, password) is may


ONE = {
    "right": (b"\xc3\xa4rchive", b"s3cret", True),
    "wrong user": (b"archive", b"s3cret", False),
    "wrong password": (b"\xc3\xa4rchive", b"s3cre", False),
    "longer": (b"\xc3\xa4rchive", b"s3cret\0", False),
    "nothing": (b"", b"", False),
    "PLAIN for another": (b"\xc3\xa4rchive", b"\0", False),
}


@pytest.mark.parametrize(("user", "password", "may"), ONE.values(), ids=ONE)
def test_one(user: bytes, password: bytes, may: bool) -> None:
    assert Users.one("ärchive", "s3cret").check(user, password) is may


def test_an_unknown_user_takes_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is tried, one hash is computed: the user's, or always the same one of another's."""
    asked: list[tuple[bytes, bytes]] = []

    def checkpw(password: bytes, wanted: bytes) -> bool:
        asked.append((password, wanted))
        return True  # as if it were right: an unknown user is still nobody

    two = users(tmp_path, f"a:{HASH}\nb:{HASH.replace('$05$', '$06$')}\n")
    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    names = [b"%d" % number for number in range(50)]
    assert not any(two.check(name, b"x") for name in names)
    first = list(asked)
    assert not any(two.check(name, b"x") for name in names)
    assert asked == first * 2
    assert {wanted[4:6] for _, wanted in asked} == {b"05", b"06"}  # of both kinds
    assert two.check(b"a", b"x")
    assert not two.check(b"a", b"x\0")
    assert len(asked) == 102


def test_one_compares_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password, both, in constant time."""
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(len(one) == len(other))
        return one == other

    known = Users.one("archive", "s3cret")
    monkeypatch.setattr("hmac.compare_digest", compare)
    for tried in ((b"archive", b"s3cret"), (b"x", b"s3cret"), (b"archive", b"x"), (b"", b"")):
        known.check(*tried)
    assert compared == [True] * 8


WRONG = {
    "": " has no users, and nobody could log in; make the line with: htpasswd -nB",
    "# archive:x\n": " has no users",
    "archive\n": ":1: no user with a bcrypt hash; make the line with: htpasswd -nB NAME",
    f"\n{HASH}\n": ":2: no user with a bcrypt hash",
    f":{HASH}\n": ":1: no user with a bcrypt hash",
    "archive:s3cret\n": ":1: no user with a bcrypt hash",
    "archive:$apr1$k4s3cret$9iEUZ0QKSmDnrqJyVSHTI0\n": ":1: no user with a bcrypt hash",
    "archive:{SHA}s3cretE0pZJgwZzzXbKYPjFWH3nY=\n": ":1: no user with a bcrypt hash",
    f"archive:{HASH[:-1]}\n": ":1: no user with a bcrypt hash",
    f"archive:{HASH}x\n": ":1: no user with a bcrypt hash",
    f"archive:{HASH}:more\n": ":1: no user with a bcrypt hash",
    f"archive:{HASH.replace('2y', '2x')}\n": ":1: no user with a bcrypt hash",
    f"a:{HASH.replace('05', '03')}\n": ":1: a bcrypt cost is 4 to 16; make the line with: htpasswd",
    f"a:{HASH.replace('05', '17')}\n": ":1: a bcrypt cost is 4 to 16",
    f"archive:{HASH}\nb:{HASH}\narchive:{HASH}\n": ":3: this user stands there twice",
}


@pytest.mark.parametrize(("text", "complaint"), WRONG.items(), ids=range(len(WRONG)))
def test_complaint(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(CredentialsError) as caught:
        users(tmp_path, text)
    said = str(caught.value)
    assert said.startswith(f"auth_file: {tmp_path}/users{complaint}"), said
    assert "s3cret" not in said
    assert "$2" not in said


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"^auth_file: .*/none: No such file or directory$"):
        Users.of_file(str(tmp_path / "none"))


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    file = tmp_path / "users"
    monkeypatch.setattr("builtins.open", forbidden)
    with pytest.raises(CredentialsError) as caught:
        Users.of_file(str(file))
    rights = f"as root: chgrp benno {file} && chmod 640 {file}"
    assert str(caught.value) == f"auth_file: {file}: Permission denied; {rights}"


def test_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(CredentialsError, match="as root: apt-get install python3-bcrypt"):
        users(tmp_path)
    assert Users.one("archive", "s3cret").check(b"archive", b"s3cret")  # needs none


def test_read_again(tmp_path: Path) -> None:
    """What cannot be read changes nothing."""
    known = users(tmp_path)
    (tmp_path / "users").write_text(f"new:{HASH}\n")
    known.renew()
    assert known.check(b"new", b"secret")
    assert not known.check(b"archive", b"secret")
    (tmp_path / "users").write_text("")
    with pytest.raises(CredentialsError):
        known.renew()
    assert known.check(b"new", b"secret")
    Users.one("a", "b").renew()
