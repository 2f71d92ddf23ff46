"""Configuration files of the older benno-smtp: Java properties, `key = value` without quotes.

They are read as if each value stood in quotes, so that an upgrade needs no hand; the lines to write
are shown. Only single lines are looked at, above the first table: what is TOML already stays as it is,
and what is neither is left for the TOML parser to complain about. Octets outside ASCII are UTF-8, as
TOML wants it; a file that is not is read as Latin-1, as Java reads it, if it has something to convert.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass

from benno_common import config

# Key and value, with = or : or blanks between; the value does not go on in the next line.
_PROPERTY = re.compile(
    r"[ \t]*([A-Za-z_][A-Za-z0-9_-]*)(?:[ \t]*[=:][ \t]*|[ \t]+)((?:[^\\\n]|\\.)*?)[ \t\r]*\Z"
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)")
_LETTERS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


@dataclass(frozen=True)
class Converted:
    """text: the file as TOML. lines: those that changed, as they are to be written.

    utf8: whether the file was.
    """

    text: str
    lines: tuple[str, ...]
    utf8: bool = True


def read(path: str, settings: type) -> Converted:
    """The file at `path` as TOML. Raises ConfigError where it cannot be read."""
    try:
        return convert(config.read(path), settings)
    except config.EncodingError:
        converted = convert(config.read(path, "latin-1"), settings)
        if not converted.lines:
            raise
        return dataclasses.replace(converted, utf8=False)


def convert(text: str, settings: type) -> Converted:
    """Put what is missing of TOML into the lines of known keys. Text that is TOML stays as it is."""
    kinds = typing.get_type_hints(settings)
    known = {name.name: kinds[name.name] for name in dataclasses.fields(settings)}
    lines = list(_lines(text, known))
    changed = tuple(new for old, new in lines if new != old)
    return Converted("\n".join(new for _, new in lines), changed)


def _lines(text: str, known: dict[str, typing.Any]) -> Iterator[tuple[str, str]]:
    """Each line, and what it becomes. Inside a value of several lines nothing is touched."""
    pending, in_table = "", False
    for line in text.split("\n"):
        is_first = not pending
        pending += line + "\n"
        new = line
        if config.is_toml(pending):
            in_table = in_table or pending.lstrip().startswith("[")
            if not in_table and _is_bare_string(pending, known):
                new = _quote(line)
            pending = ""
        elif is_first and not in_table:
            new = _convert(line, known)
            if new != line:
                pending = ""
        yield line, new


def _convert(line: str, known: dict[str, typing.Any]) -> str:
    """A line that is no TOML, as TOML if it can be."""
    if line.lstrip().startswith("!"):  # a comment there
        return line.replace("!", "#", 1)
    found = _PROPERTY.match(line)
    if not found or found[1] not in known or found[2].startswith(("[", "{", '"', "'")):
        return line
    kind = known[found[1]]
    return _quote(line, string=kind is config.Size or _wants_string(kind))


def _is_bare_string(statement: str, known: dict[str, typing.Any]) -> bool:
    """Whether it is TOML of another type where a string belongs: `auth_pass = 12345`."""
    found = _PROPERTY.match(statement.rstrip("\n"))
    if not found or not _wants_string(known.get(found[1])):
        return False
    return not found[2].startswith(('"', "'"))


def _wants_string(kind: typing.Any) -> bool:
    return kind in (str, str | None)


def _quote(line: str, *, string: bool = True) -> str:
    """`key = value` as TOML. A value that is no string is only put behind an equals sign."""
    found = _PROPERTY.match(line)
    assert found
    value = found[2]
    if string:
        try:
            value = _unescaped(value)
        except UnicodeDecodeError:  # half a character
            return line
        value = json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")
    elif value.lower() in {"true", "false"}:
        value = value.lower()
    return f"{found[1]} = {value}"


def _unescaped(value: str) -> str:
    """Escapes are units of UTF-16, of which two may make a character."""
    octets = _ESCAPE.sub(_unescape, value).encode("utf-16-le", "surrogatepass")
    return octets.decode("utf-16-le")


def _unescape(found: re.Match[str]) -> str:
    escape = found[1]
    if len(escape) > 1:
        return chr(int(escape[1:], 16))
    return _LETTERS.get(escape, escape)
