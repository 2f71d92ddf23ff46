"""Configuration files: what is read, and what an administrator is told about what cannot be.

The tables are pairs of a file and the settings, or of a file and the whole error message. Its line must
be that of the real key, whatever stands in comments, strings and tables before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import pytest

from benno_common.config import ConfigError, load, parse


@dataclass(frozen=True)
class Settings:
    """One key of each type; those with a default may be missing."""

    spool: str
    port: int = 2500
    tls: bool = False
    note: str | None = None
    limit: int | None = None
    old: Optional[bool] = None  # noqa: UP045 - the older way to write it
    networks: tuple[str, ...] = ("127.0.0.0/8",)
    names: tuple[str, ...] | None = None
    users: dict[str, str] = field(default_factory=dict)
    gateways: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError(f"port: {self.port} is no port; write: port = 2500")
        if self.limit == 0:
            raise ValueError("limit and port do not go together")
        if len(self.networks) > 2:
            raise ValueError("networks: two at the most")


@dataclass(frozen=True)
class Needy:
    """All keys must be given."""

    flag: bool
    number: int
    text: str
    array: tuple[str, ...]
    table: dict[str, str]


def error(text: str, settings: type = Settings) -> str:
    """The whole message, of which the file's name is taken off."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "benno.conf", settings)
    message = str(caught.value)
    assert message.startswith("benno.conf:")
    return message.removeprefix("benno.conf:")


def case(name: str, *values: object) -> object:
    return pytest.param(*values, id=name)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        case("defaults", "", Settings("/srv")),
        case("whole number", "port = 25", Settings("/srv", port=25)),
        case("octal, underlined", "port = 0o62\nlimit = 1_000", Settings("/srv", port=50, limit=1000)),
        case("true", "tls = true", Settings("/srv", tls=True)),
        case("string or none", 'note = ""', Settings("/srv", note="")),
        case("number or none", "limit = 1", Settings("/srv", limit=1)),
        case("optional", "old = false", Settings("/srv", old=False)),
        case("array", 'networks = ["10.0.0.0/8"]', Settings("/srv", networks=("10.0.0.0/8",))),
        case("empty array", "networks = []", Settings("/srv", networks=())),
        case("array or none", "names = ['a',\n  'b', # c\n]", Settings("/srv", names=("a", "b"))),
        case("inline table", 'users = { a = "x" }', Settings("/srv", users={"a": "x"})),
        case("table", '[users]\na = "x"\n"b c" = "y"', Settings("/srv", users={"a": "x", "b c": "y"})),
        case("dotted", 'users.a = "x"\nusers.b = "y"', Settings("/srv", users={"a": "x", "b": "y"})),
        case("empty table", "[users]", Settings("/srv")),
        case("table or none", '[gateways]\na = "x"', Settings("/srv", gateways={"a": "x"})),
        case("keys of tables are free", '[users]\nport = "x"', Settings("/srv", users={"port": "x"})),
        case("quoted keys", "\"port\" = 1\n'tls' = true", Settings("/srv", port=1, tls=True)),
        case("comments and blanks", "\n# port = 1\n  tls = true # yes\n", Settings("/srv", tls=True)),
        case("CRLF", "tls = true\r\nport = 1\r\n\r\n", Settings("/srv", tls=True, port=1)),
        case("any language", 'note = "Prüfung ✓"', Settings("/srv", note="Prüfung ✓")),
        case("lines", 'note = """\na\nb"""', Settings("/srv", note="a\nb")),
    ],
)
def test_settings(text: str, settings: Settings) -> None:
    assert parse(f'spool = "/srv"\n{text}', "benno.conf", Settings) == settings


STRING = 'a string; write: {} = "text"'
NUMBER = "a whole number; write: {} = 2500"
FLAG = "true or false; write: {} = true"
ARRAY = 'an array of strings; write: {} = ["one", "two"]'
TABLE = 'a table of strings; write: {} = {{ "key" = "value" }}'


@pytest.mark.parametrize(
    ("line", "found", "expected"),
    [
        ("spool = 12345", "a whole number", STRING),
        ("spool = true", "true", STRING),
        ("spool = []", "an array", STRING),
        ("spool = {}", "a table", STRING),
        ("spool = 1979-05-27", "a date or time", STRING),
        ("spool = 07:32:00", "a date or time", STRING),
        ("port = true", "true", NUMBER),
        ("port = false", "false", NUMBER),
        ("port = '25'", "a string", NUMBER),
        ("port = 25.0", "a fraction", NUMBER),
        ("port = nan", "a fraction", NUMBER),
        ("port = [25]", "an array with a whole number", NUMBER),
        ("tls = 1", "a whole number", FLAG),
        ("tls = 0", "a whole number", FLAG),
        ("tls = 'yes'", "a string", FLAG),
        ("networks = '10.0.0.0/8'", "a string", ARRAY),
        ("networks = { a = 'b' }", "a table", ARRAY),
        ("networks = ['a', 1]", "an array with a whole number", ARRAY),
        ("networks = [true, 1]", "an array with true", ARRAY),
        ("networks = [[]]", "an array with an array", ARRAY),
        ("users = ['a']", "an array", TABLE),
        ("users = 'a:b'", "a string", TABLE),
        ("users = { a = 1 }", "a table with a whole number", TABLE),
        ("users.a.b = 'x'", "a table with a table", TABLE),
        ("[users]\na = false", "a table with false", TABLE),
        ("[[users]]\na = 'x'", "an array with a table", TABLE),
        ("note = 1", "a whole number", STRING),
        ("limit = true", "true", NUMBER),
        ("old = 1", "a whole number", FLAG),
        ("names = 'a'", "a string", ARRAY),
        ("gateways = 1", "a whole number", TABLE),
    ],
)
def test_wrong_type(line: str, found: str, expected: str) -> None:
    key = re.findall("[a-z]+", line)[0]
    told = f"{key}: {found} is not {expected.format(key)}"
    assert error(f"# the second line is wrong\n{line}") == f"2: {told}"


KNOWN = "known are gateways, limit, names, networks, note, old, port, spool, tls, users"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        case("letter too few", 'spol = "/srv"', "spol: unknown key; did you mean spool?"),
        case("capital", 'Spool = "/srv"', "Spool: unknown key; did you mean spool?"),
        case("capitals", "PORT = 25", "PORT: unknown key; did you mean port?"),
        case("nothing like it", "colour = 1", f"colour: unknown key; {KNOWN}"),
        case("table", "[user]", "user: unknown key; did you mean users?"),
        case("dotted", 'net.work = "x"', f"net: unknown key; {KNOWN}"),
        case("value of a wrong type", "ports = []", "ports: unknown key; did you mean port?"),
    ],
)
def test_unknown_key(line: str, told: str) -> None:
    assert error(f'spool = "/srv"\n\n{line}\n') == f"3: {told}"


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("flag", "flag is missing; write: flag = true"),
        ("number", "number is missing; write: number = 2500"),
        ("text", 'text is missing; write: text = "text"'),
        ("array", 'array is missing; write: array = ["one", "two"]'),
        ("table", 'table is missing; write: table = { "key" = "value" }'),
    ],
)
def test_missing_key(missing: str, told: str) -> None:
    lines = ["flag = false", "number = 1", 'text = ""', "array = []", "table = {}"]
    assert error("\n".join(line for line in lines if missing not in line), Needy) == f" {told}"


@pytest.mark.parametrize("text", ["", "\n", "# nothing but a comment", "\r\n\r\n", " \t\n"])
def test_empty_file(text: str) -> None:
    assert error(text) == ' spool is missing; write: spool = "text"'


def test_key_that_slipped_into_a_table() -> None:
    told = error('[users]\na = "x"\n\nspool = "/srv"\n')
    assert told == " spool stands in the table [users]; write it above [users]"


TWICE = "the key stands here a second time"
INVALID = "Invalid value; write"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        case(
            "path without quotes, as in the older configuration",
            "# Server port\nport = 2500\n# save eml files\nspool = /srv/benno/inbox\ntls = true\n",
            f'4: spool: {INVALID} a string: spool = "text"',
        ),
        case("word for a number", "port = none", f"1: port: {INVALID} a whole number: port = 2500"),
        case("not as in Python", "tls = True", f"1: tls: {INVALID} true or false: tls = true"),
        case("nothing", "\nnote =\n", f'2: note: {INVALID} a string: note = "text"'),
        case("unknown key", "key_file = /k", f'1: key_file: {INVALID} a string: key_file = "text"'),
        case(
            "begins with a number",
            "\n\nnote = 7zip\n",
            "3: note: Expected newline or end of document after a statement; "
            'write a string: note = "text"',
        ),
        case("quote not closed", 'spool = "/srv\nport = 1', r"1: spool: Illegal character '\n'"),
        case("quote not closed at the end", 'port = 1\nspool = "/srv', "2: spool: Unterminated string"),
        case("backslash", 'spool = "C:\\mail"', "1: spool: Unescaped '\\' in a string"),
        case("array not closed", 'port = 1\nnetworks = ["a"\n\n', "2: networks: Unclosed array"),
        case("no value", "tls", "1: Expected '=' after a key in a key/value pair"),
        case("no key", "tls = true\n= 1", "2: Invalid statement"),
        case("key with blanks", "port number = 1", "1: Expected '=' after a key in a key/value pair"),
        case("key twice", 'spool = "a"\nport = 1\nspool = "b"\n', f"3: spool: {TWICE}"),
        case("key twice, CRLF", "port = 1\r\nport = 2\r\n", f"2: port: {TWICE}"),
        case("key twice, at the end", "port = 1\n\nport = 1", f"3: port: {TWICE}"),
        case("control character", 'spool = "a\0b"', r"1: spool: Illegal character '\x00'"),
    ],
)
def test_no_toml(text: str, told: str) -> None:
    assert error(text) == told


def test_lines_of_an_old_mac() -> None:
    assert error("port = 1\rtls = true").startswith("1: port: ")


def test_table_twice() -> None:
    assert error('[users]\na = "x"\n[users]\n').startswith("3: Cannot declare")


def test_number_with_too_many_digits() -> None:
    assert error(f"tls = true\nlimit = {'9' * 5000}").startswith("2: limit: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        case("first", "port = 'x'", 1),
        case("indented", "tls = true\n \t port='x'", 2),
        case("in a comment before", "# port = 1\n#port = 2\n\nport = 'x'", 4),
        case("in a comment behind a value", "tls = true # port = 1\nport = 'x'", 2),
        case("in a string of many lines", 'note = """\nport = 1\n\n"""\nport = "x"', 5),
        case("in a literal of many lines", "note = '''\nport = 1'''\nport = 'x'", 3),
        case("in a string that looks closed", 'note = """a\\"""\nport = 1\n"""\nport = "x"', 4),
        case("in an array of many lines", 'networks = [\n"port = 1",\n# port = 2\n]\nport = "x"', 5),
        case("in a dotted key", "users.port = 'a'\nport = 'x'", 2),
        case("in an inline table", "users = { port = 'a' }\nport = 'x'", 2),
        case("in a table before a table", "[users]\nport = 'a'\n\n[port]\n", 4),
        case("beginning of another key", "ports = 1\nport = 'x'", 1),
        case("value of many lines", "tls = true\nport = '''\n\n\n'''", 2),
        case("quoted", "tls = true\n\"port\" = 'x'", 2),
        case("single quotes", "tls = true\n'port' = 'x'", 2),
        case("escaped", 'tls = true\n"p\\u006frt" = "x"', 2),
        case("dotted", "tls = true\nport.a.b = 'x'", 2),
        case("blanks around a dot", "tls = true\nport . a = 'x'", 2),
        case("table", "tls = true\n\n[ port ] # port\n", 3),
        case("table in a table", "tls = true\n[port.number]\n", 2),
        case("array of tables", "tls = true\n[[port]]\n", 2),
        case("CRLF", "tls = true\r\n# port = 1\r\n\r\nport = 'x'\r\n", 4),
        case("separator of no line", "note = 'a\u2028\u0085b'\nport = 'x'", 2),
    ],
)
def test_line_of_the_real_key(text: str, line: int) -> None:
    assert error(text).startswith(f"{line}: port")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        case("named", "\nport = 70000", "3: port: 70000 is no port; write: port = 2500"),
        case("many lines", "networks = [\n'a',\n'b',\n'c']", "2: networks: two at the most"),
        case("several keys", "limit = 0", " limit and port do not go together"),
    ],
)
def test_value_that_the_settings_refuse(text: str, told: str) -> None:
    assert error(f'spool = "/srv"\n{text}') == told


def test_default_that_the_settings_refuse() -> None:
    @dataclass(frozen=True)
    class Strange:
        port: int = 0

        def __post_init__(self) -> None:
            raise ValueError("port: 0 is no port")

    assert error("", Strange) == " port: 0 is no port"


@pytest.mark.parametrize(
    "text",
    [
        "spool = SECRET",
        "spool = 5ECRET",
        'spool = "a"\nusers = "SECRET"',
        "users = { alice = 5555, bob = 'SECRET' }",
        "users.alice = 5555",
        "[users]\nalice = SECRET",
        'spool = "a"\nnote = 5555',
        "spool = 'SECRET'\nspool = 'SECRET'",
        "spool = 'SECRET",
        "port = 'SECRET'",
        "networks = ['SECRET', 5555]",
    ],
)
def test_no_value_is_shown(text: str) -> None:
    """A password may stand there."""
    message = error(text)
    assert "ECRET" not in message
    assert "5555" not in message


# Files


def load_error(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(str(path), Settings)
    return str(caught.value)


def test_file(tmp_path: Path) -> None:
    file = tmp_path / "benno.conf"
    file.write_bytes('spool = "/srv/grün"\r\n'.encode())
    assert load(str(file), Settings) == Settings("/srv/grün")


def test_file_of_a_windows_editor(tmp_path: Path) -> None:
    file = tmp_path / "benno.conf"
    file.write_bytes(b'\xef\xbb\xbfspool = "/srv"\r\nport = "x"\r\n')
    assert load_error(file) == f"{file}:2: port: a string is not {NUMBER.format('port')}"
    file.write_bytes(b'\xef\xbb\xbfspool = "/srv"\r\n')
    assert load(str(file), Settings) == Settings("/srv")


@pytest.mark.parametrize(
    ("data", "line"),
    [
        case("Latin-1", 'spool = "/srv"\n\nnote = "grün"\n'.encode("latin-1"), 3),
        case("with a mark", b'\xef\xbb\xbfspool = "/srv"\nnote = "\xff"\n', 2),
        case("UTF-16", 'spool = "/srv"\n'.encode("utf-16"), 1),
        case("cut short", b'spool = "/srv"\nnote = "\xc3', 2),
        case("surrogate", b'note = "\xed\xa0\x80"', 1),
    ],
)
def test_not_utf_8(tmp_path: Path, data: bytes, line: int) -> None:
    file = tmp_path / "benno.conf"
    file.write_bytes(data)
    assert load_error(file) == f"{file}:{line}: not UTF-8; save the file as UTF-8"


def test_missing_file(tmp_path: Path) -> None:
    assert load_error(tmp_path / "benno.conf") == f"{tmp_path}/benno.conf: No such file or directory"


def test_directory(tmp_path: Path) -> None:
    assert load_error(tmp_path) == f"{tmp_path}: Is a directory"
