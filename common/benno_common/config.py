"""Configuration files: TOML, typed by a frozen dataclass, with errors that name file, line and key.

The dataclass is the documentation of the keys: its fields are the allowed keys, their annotations the
types, their defaults the defaults. `bool`, `int`, `str`, `tuple[str, ...]` (an array of strings),
`dict[str, str]` (a table of strings) and each of these with `| None` are understood.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
import types
import typing
from typing import Any, TypeVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Settings = TypeVar("_Settings")

_TYPES: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true"),
    int: ("a whole number", "2500"),
    str: ("a string", '"text"'),
    tuple[str, ...]: ("an array of strings", '["one", "two"]'),
    dict[str, str]: ("a table of strings", '{ "key" = "value" }'),
}


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names file, line, key and what to write."""


def load(path: str, settings: type[_Settings]) -> _Settings:
    """Read the TOML file at `path` into the frozen dataclass `settings`. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8: {error}"
        raise ConfigError(f"{path}: {reason}") from error
    return parse(text, path, settings)


def parse(text: str, path: str, settings: type[_Settings]) -> _Settings:
    """Read TOML text; `path` is named in errors. Raises ConfigError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f'{path}: {error}; strings stand in quotes: key = "value"') from error
    hints = typing.get_type_hints(settings)
    fields = {field.name: field for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        place = f"{path}:{_line_of(key, text)}: {key}"
        if key not in fields:
            raise ConfigError(f"{place}: unknown key{_suggest(key, fields)}")
        values[key] = _convert(value, hints[key], place, key)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            example = _TYPES[_without_none(hints[name])][1]
            raise ConfigError(f"{path}: {name} is missing; write: {name} = {example}")
    return settings(**values)


def _convert(value: object, kind: Any, place: str, key: str) -> object:
    kind = _without_none(kind)
    if kind == tuple[str, ...]:
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        value = tuple(value) if isinstance(value, list) else value
    elif kind == dict[str, str]:
        fits = isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    else:
        fits = type(value) is kind  # a bool is an int for isinstance
    if not fits:
        expected, example = _TYPES[kind]
        raise ConfigError(f"{place}: {_show(value)} is not {expected}; write: {key} = {example}")
    return value


def _without_none(kind: Any) -> Any:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _suggest(key: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"


def _line_of(key: str, text: str) -> int:
    """The line where a top-level key or table begins; 1 if it is written in an unusual way."""
    name = rf"(?:{re.escape(key)}|\"{re.escape(key)}\"|'{re.escape(key)}')"
    found = re.search(rf"^[ \t]*(?:{name}[ \t]*[=.]|\[+[ \t]*{name}[ \t]*[\].])", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1
