"""Text from outside made fit for a log line or a message: visible, on one line, of bounded length."""

from __future__ import annotations

import re

# Of one text; journald breaks lines of 48 KiB (LineMax=), and what follows could be a forged one.
MAX_SHOWN = 1000

_WORD = re.compile(rb"[\x21-\x5b\x5d-\x7e]{0,%d}" % MAX_SHOWN)  # is safe as it is; nearly all are


def safe(text: bytes | str) -> str:
    """Text from outside as one visible word: other octets than printable ASCII as \\xNN."""
    octets = _octets(text) if isinstance(text, str) else text
    if _WORD.fullmatch(octets):
        return octets.decode("ascii")
    shown = "".join(
        chr(octet) if 0x20 < octet < 0x7F and octet != 0x5C else f"\\x{octet:02x}"
        for octet in octets[:MAX_SHOWN]
    )
    return shown + _rest(octets)


def printable(text: str) -> str:
    if len(text) <= MAX_SHOWN and text.isprintable():
        return text
    shown = "".join(letter if letter.isprintable() else _escaped(letter) for letter in text[:MAX_SHOWN])
    return shown + _rest(text)


def _octets(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")  # a file name may be any octets
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace")


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # an octet of a file name that is no UTF-8
        return f"\\x{ord(letter) & 0xFF:02x}"
    return letter.encode("unicode_escape").decode()


def _rest(text: bytes | str) -> str:
    return f"...({len(text)})" if len(text) > MAX_SHOWN else ""


def quoted(text: str) -> str:
    text = printable(text)
    return '"' + text.replace('"', "'") + '"' if " " in text or not text else text
