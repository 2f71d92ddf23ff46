"""Configuration files: TOML, typed by a frozen dataclass, with errors that name file, line and key.

The dataclass is the documentation of the keys: its fields are the allowed keys, their annotations the
types, their defaults the defaults; what to write for one, if the type does not say it, its metadata
`example`. `bool`, `int`, `Size` (octets), `str`, `tuple[str, ...]` (an array of strings),
`dict[str, str]` (a table of strings) and each of these with `| None` are understood. What the types
cannot say, its `__post_init__` checks: a ValueError of `key: reason` is told with the line of that key.

No error shows a value, except a bare true or false: it may be a password.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, NewType, TypeVar

from benno_common.quantity import parse_size

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Settings = TypeVar("_Settings")

Size = NewType("Size", int)  # octets; a whole number, or a string like "500M"

_TYPES: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true"),
    int: ("a whole number", "2500"),
    Size: ("a size", '"500M"'),
    str: ("a string", '"text"'),
    tuple[str, ...]: ("an array of strings", '["one", "two"]'),
    dict[str, str]: ("a table of strings", '{ "key" = "value" }'),
}
_NAMES = {
    int: "a whole number",
    float: "a fraction",
    str: "a string",
    list: "an array",
    dict: "a table",
}

# What a parser appends to its message, and the beginning of a line that sets a key.
_POSITION = re.compile(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)$")
_ASSIGNMENT = re.compile(r"[ \t]*([A-Za-z0-9_-]+)[ \t]*=[ \t]*([\"'\[{]?)")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names file, line, key and what to write."""


class EncodingError(ConfigError):
    """A file that is not UTF-8."""


class _Key(NamedTuple):
    """What may stand behind a key. kind: its type. expected, example: for who has to correct it."""

    kind: Any
    expected: str
    example: str


def load(path: str, settings: type[_Settings]) -> _Settings:
    """Read the TOML file at `path` into the frozen dataclass `settings`. Raises ConfigError."""
    return parse(read(path), path, settings)


def read(path: str, encoding: str = "utf-8-sig") -> str:
    """The text of the file at `path`, without the mark that Windows editors put before it.

    Raises ConfigError, and EncodingError where it is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
        return data.decode(encoding)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise EncodingError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from error


def is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return True


def keys(text: str) -> set[str]:
    """The keys and tables of TOML text."""
    return set(tomllib.loads(text))


def parse(
    text: str, path: str, settings: type[_Settings], missing: Mapping[str, object] | None = None
) -> _Settings:
    """Read TOML text; `path` is named in errors. missing: values of keys that it does not have.

    Raises ConfigError.
    """
    known = _known(settings)
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # not only TOMLDecodeError: a number may have too many digits
        raise ConfigError(f"{path}:{_explain(str(error), text, known)}") from error
    values = {**(missing or {})}
    for key, value in table.items():
        place = f"{path}:{_line_of(key, text)}: {key}"
        if key not in known:
            raise ConfigError(f"{place}: unknown key{_suggest(key, known)}")
        values[key] = _convert(value, known[key], place, key)
    for name in _required(settings):
        if name not in values:
            raise ConfigError(f"{path}: {name} {_missing(name, known[name], table)}")
    try:
        return settings(**values)
    except ValueError as error:
        raise located(error, text, path) from error


def located(error: ValueError, text: str, path: str) -> ConfigError:
    """An error of `key: reason` with the line of that key, if it stands in the file."""
    key = str(error).partition(":")[0]
    line = f":{_line_of(key, text)}" if key in keys(text) else ""
    return ConfigError(f"{path}{line}: {error}")


def _known(settings: Any) -> dict[str, _Key]:
    hints = typing.get_type_hints(settings)
    known = {}
    for field in dataclasses.fields(settings):
        kind = _without_none(hints[field.name])
        expected, example = _TYPES[kind]
        known[field.name] = _Key(kind, expected, field.metadata.get("example", example))
    return known


def _required(settings: Any) -> list[str]:
    missing = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(settings)
        if field.default is missing and field.default_factory is missing
    ]


def _convert(value: object, known: _Key, place: str, key: str) -> object:
    kind = known.kind
    if kind == tuple[str, ...]:
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
    elif kind == dict[str, str]:
        fits = isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    elif kind is Size:
        fits = _octets(value) is not None
    else:
        fits = type(value) is kind  # a bool is an int for isinstance
    if not fits:
        wrong = f"{_describe(value)} is not {known.expected}"
        raise ConfigError(f"{place}: {wrong}; write: {key} = {known.example}")
    if kind is Size:
        return _octets(value)
    return tuple(value) if isinstance(value, list) else value


def _octets(value: object) -> int | None:
    """A size, if it is one."""
    if type(value) is int and value >= 0:
        return value
    try:
        return parse_size(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _without_none(kind: Any) -> Any:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _describe(value: object) -> str:
    """The type of a value, and of the first item in it that is no string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    others = [f" with {_describe(item)}" for item in items if not isinstance(item, str)]
    return "".join([_NAMES.get(type(value), "a date or time"), *others[:1]])


def _suggest(key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key.lower(), known, 1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"


def _missing(name: str, known: _Key, table: dict[str, Any]) -> str:
    """What to do about a missing key, which may stand where it belongs to a table."""
    for key, value in table.items():
        if isinstance(value, dict) and name in value:
            return f"stands in the table [{key}]; write it above [{key}]"
    return f"is missing; write: {name} = {known.example}"


def _explain(reason: str, text: str, known: Mapping[str, _Key]) -> str:
    """Line, key, reason and what to write, for text that is no TOML."""
    position = _POSITION.search(reason)
    lines = text.rstrip("\n").split("\n")
    number = int(position[1]) if position and position[1] else len(lines)
    reason = _POSITION.sub("", reason)
    assignment = _ASSIGNMENT.match(lines[number - 1])
    if not assignment:
        return f"{number}: {reason}"
    key, opening = assignment.groups()
    if reason.startswith("Cannot overwrite"):
        reason = "the key stands here a second time"
    elif not opening:  # text without quotes, most likely
        write = known.get(key, _Key(str, *_TYPES[str]))
        reason += f"; write {write.expected}: {key} = {write.example}"
    return f"{number}: {key}: {reason}"


def _line_of(key: str, text: str) -> int:
    """The line where a top-level key or table begins: each statement is given to the parser alone."""
    statement, begin, in_table = "", 1, False
    for number, line in enumerate(text.split("\n"), 1):
        statement += line + "\n"
        try:
            found = tomllib.loads(statement)
        except ValueError:
            continue  # the value goes on in the next line
        is_header = statement.lstrip().startswith("[")
        if key in found and (is_header or not in_table):
            return begin
        in_table = in_table or is_header
        statement, begin = "", number + 1
    return 1
