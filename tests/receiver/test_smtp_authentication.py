"""AUTH PLAIN and LOGIN: what is said until user and password are known, without a connection."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benno_smtp import authentication
from benno_smtp.authentication import AuthError, Credentials, Exchange


def b64(text: bytes) -> bytes:
    return base64.b64encode(text)


USERNAME = f"334 {b64(b'Username:').decode()}"
PASSWORD = f"334 {b64(b'Password:').decode()}"
PLAIN = b64(b"\0archive\0s3cret")

# Argument of AUTH, what the client answers, what it was asked each time, what is known in the end.
UNDERSTOOD: dict[str, tuple[bytes, list[bytes], list[str], Credentials]] = {
    "PLAIN": (b"PLAIN", [PLAIN], ["334 "], Credentials(b"archive", b"s3cret")),
    "PLAIN at once": (b"PLAIN " + PLAIN, [], [], Credentials(b"archive", b"s3cret")),
    "lower case": (b"plain " + PLAIN, [], [], Credentials(b"archive", b"s3cret")),
    "a blank behind it": (b"PLAIN " + PLAIN + b" ", [], [], Credentials(b"archive", b"s3cret")),
    "its own identity": (b"PLAIN " + b64(b"u\0u\0p"), [], [], Credentials(b"u", b"p")),
    "another's identity": (b"PLAIN " + b64(b"other\0u\0p"), [], [], Credentials(b"u", b"\0")),
    "nothing in it": (b"PLAIN " + b64(b"\0\0"), [], [], Credentials(b"", b"")),
    "any octets": (b"PLAIN " + b64(b"\0\xff\n\0\xc3\xa4"), [], [], Credentials(b"\xff\n", b"\xc3\xa4")),
    "LOGIN": (
        b"LOGIN",
        [b64(b"archive"), b64(b"s3cret")],
        [USERNAME, PASSWORD],
        Credentials(b"archive", b"s3cret"),
    ),
    "LOGIN, the user at once": (
        b"login " + b64(b"archive"),
        [b64(b"s3cret")],
        [PASSWORD],
        Credentials(b"archive", b"s3cret"),
    ),
    "LOGIN, nobody at once": (b"LOGIN =", [b64(b"p")], [PASSWORD], Credentials(b"", b"p")),
    "LOGIN, empty lines": (b"LOGIN", [b"", b""], [USERNAME, PASSWORD], Credentials(b"", b"")),
    "LOGIN, a NUL": (
        b"LOGIN",
        [b64(b"u"), b64(b"p\0q")],
        [USERNAME, PASSWORD],
        Credentials(b"u", b"p\0q"),
    ),
    "as long as may be": (
        b"LOGIN",
        [b64(b"u"), b64(b"x" * 9213)],
        [USERNAME, PASSWORD],
        Credentials(b"u", b"x" * 9213),
    ),
}


def play(argument: bytes, responses: list[bytes | None]) -> tuple[list[str], Credentials | None]:
    asked = []
    exchange = Exchange(argument)
    for response in responses:
        assert exchange.challenge is not None
        asked.append(exchange.challenge)
        exchange.respond(response)
    return asked, exchange.credentials


@pytest.mark.parametrize("case", UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_understood(case: tuple[bytes, list[bytes], list[str], Credentials]) -> None:
    argument, responses, asked, known = case
    assert play(argument, [*responses]) == (asked, known)


REFUSED: dict[str, tuple[bytes, list[bytes | None], str]] = {
    "nothing": (b"", [], authentication.SYNTAX),
    "blanks": (b"  ", [], authentication.SYNTAX),
    "three words": (b"PLAIN " + PLAIN + b" x", [], authentication.SYNTAX),
    "two blanks": (b"PLAIN  " + PLAIN, [], authentication.SYNTAX),
    "a TAB": (b"PLAIN\t" + PLAIN, [], authentication.UNKNOWN),
    "another": (b"CRAM-MD5", [], authentication.UNKNOWN),
    "two in one": (b"PLAINLOGIN", [], authentication.UNKNOWN),
    "not ASCII": (b"PL\xc4IN", [], authentication.UNKNOWN),
    "no base64 at once": (b"PLAIN x", [], authentication.NO_BASE64),
    "base64 without its end": (b"PLAIN " + PLAIN.rstrip(b"=")[:-1], [], authentication.NO_BASE64),
    "base64 with an end within": (b"PLAIN QQ==QQ==", [], authentication.NO_BASE64),
    "base64 with a blank": (b"PLAIN", [b" " + PLAIN], authentication.NO_BASE64),
    "base64 for the web": (b"PLAIN", [b"__--"], authentication.NO_BASE64),
    "a line end within": (b"PLAIN", [PLAIN + b"\r"], authentication.NO_BASE64),
    "= is empty at the beginning only": (b"PLAIN", [b"="], authentication.NO_BASE64),
    "PLAIN, empty": (b"PLAIN =", [], authentication.NO_PLAIN),
    "PLAIN, an empty line": (b"PLAIN", [b""], authentication.NO_PLAIN),
    "PLAIN, one NUL": (b"PLAIN " + b64(b"u\0p"), [], authentication.NO_PLAIN),
    "PLAIN, three": (b"PLAIN " + b64(b"\0u\0p\0"), [], authentication.NO_PLAIN),
    "PLAIN, cancelled": (b"PLAIN", [b"*"], authentication.CANCELLED),
    "LOGIN, cancelled": (b"LOGIN", [b"*"], authentication.CANCELLED),
    "LOGIN, cancelled later": (b"LOGIN", [b64(b"u"), b"*"], authentication.CANCELLED),
    "LOGIN, no base64 later": (b"LOGIN", [b64(b"u"), b"!"], authentication.NO_BASE64),
    "too long": (b"LOGIN", [b"x" * 12_288], authentication.TOO_LONG),
    "too long by its end": (b"LOGIN", [b"x" * 12_287], authentication.TOO_LONG),
    "too long to be read": (b"LOGIN", [b64(b"u"), None], authentication.TOO_LONG),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refused(case: tuple[bytes, list[bytes | None], str]) -> None:
    argument, responses, reply = case
    with pytest.raises(AuthError) as caught:
        play(argument, responses)
    assert caught.value.reply == reply


@given(st.binary(), st.binary())
def test_any_user_and_password(user: bytes, password: bytes) -> None:
    """By LOGIN whatever they are, by PLAIN without NUL."""
    known = Credentials(user, password)
    assert play(b"LOGIN", [b64(user), b64(password)])[1] == known
    if b"\0" not in user + password:
        assert play(b"PLAIN " + b64(b"\0" + user + b"\0" + password), [])[1] == known


@given(st.binary(), st.lists(st.one_of(st.binary(), st.none()), max_size=3))
def test_anything_else(argument: bytes, responses: list[bytes | None]) -> None:
    """It is refused, and nothing worse."""
    with contextlib.suppress(AuthError, AssertionError):
        play(argument, responses)


def test_a_password_is_not_shown() -> None:
    known = play(b"PLAIN " + PLAIN, [])[1]
    assert "s3cret" not in f"{known} {known!r} {known!s} {[known]}"
