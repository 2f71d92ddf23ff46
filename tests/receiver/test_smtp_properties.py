"""Files of the older program, TOML, and both in one: what is read, and what is printed."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benno_common import config
from benno_smtp import program
from benno_smtp.properties import convert
from benno_smtp.settings import EVERYWHERE, Settings

pytestmark = pytest.mark.slow

INBOX = 'import_directory = "/srv/benno/inbox"\n'


def parse(text: str) -> Settings:
    return config.parse(convert(text, Settings).text, "benno-smtp.conf", Settings)


# As it was installed, with its comments.
SHIPPED = """\
# Server port
port = 2500
# save eml files in import directory
import_directory = /srv/benno/inbox
# write envelope information as X-REAL-* header
envelope_header = true
# enables SMTP AUTH if auth_user && auth_pass is set
#auth_user = user
#auth_pass = secret
# Enable TLS
#tls_enabled = true
"""


def test_file_of_the_older_program() -> None:
    converted = convert(SHIPPED, Settings)
    assert converted.lines == ('import_directory = "/srv/benno/inbox"',)
    assert converted.text == SHIPPED.replace("/srv/benno/inbox", '"/srv/benno/inbox"')
    assert parse(SHIPPED) == Settings("/srv/benno/inbox")


# A line of a properties file, and the same in TOML.
LINES = {
    "no blanks": ("import_directory=/a", 'import_directory = "/a"'),
    "blanks around": ("  import_directory   =   /a  ", 'import_directory = "/a"'),
    "tabs": ("\timport_directory\t=\t/a\t", 'import_directory = "/a"'),
    "blanks within": ("import_directory = /a b/c", 'import_directory = "/a b/c"'),
    "colon": ("import_directory: /a", 'import_directory = "/a"'),
    "only a blank": ("import_directory /a", 'import_directory = "/a"'),
    "Windows line end": ("import_directory = /a\r", 'import_directory = "/a"'),
    "escapes": (r"import_directory = C\:\\mail\tx", r'import_directory = "C:\\mail\tx"'),
    "escaped blank": (r"import_directory = /a\ b", 'import_directory = "/a b"'),
    "code": (r"import_directory = /\u00e4", 'import_directory = "/ä"'),
    "code of two units": (r"import_directory = /\ud83d\ude00", 'import_directory = "/😀"'),
    "code that TOML must escape": (r"import_directory = /\u007f", r'import_directory = "/\u007f"'),
    "UTF-8": ("import_directory = /ä", 'import_directory = "/ä"'),
    "quotes within": ('import_directory = /a"b', r'import_directory = "/a\"b"'),
    "number sign within": ("import_directory = /a # b", 'import_directory = "/a # b"'),
    "equals sign within": ("import_directory = /a=b", 'import_directory = "/a=b"'),
    "number where text belongs": ("keystore_pass = 12345", 'keystore_pass = "12345"'),
    "date where text belongs": ("key_pass = 2024-01-01", 'key_pass = "2024-01-01"'),
    "true where text belongs": ("key_pass = true", 'key_pass = "true"'),
    "number with a colon": ("port: 2500", "port = 2500"),
    "size": ("max_message_size = 50M", 'max_message_size = "50M"'),
    "upper case": ("envelope_header = TRUE", "envelope_header = true"),
    "comment": ("! port = 1", "# port = 1"),
    "indented comment": ("  ! port = 1", "  # port = 1"),
}


@pytest.mark.parametrize(("line", "toml"), LINES.values(), ids=LINES)
def test_line(line: str, toml: str) -> None:
    assert convert(line, Settings).text == toml
    assert convert(f"# x\n{line}\nport = 1\n", Settings).text == f"# x\n{toml}\nport = 1\n"


UNTOUCHED = {
    "empty": "",
    "TOML": INBOX + 'port = 25 # smtp\nlisten = ["127.0.0.1", "::1"]\nhostname = \'a.example\'\n',
    "windows": INBOX.replace("\n", "\r\n") + "port = 25\r\n",
    "array of several lines": 'listen = [\n  "a",\n  ! no\n]\n',
    "array with what looks like a property": 'listen = [\n  "a",\nport = 1\n]\nport = 2',
    "text of several lines": 'gateway = """\n! x\nport: 5\nimport_directory = /a\n"""\n',
    "table": INBOX + '[gateways]\n"10.0.0.0/8" = "ten"\nhostname = 5\nport: 5\n',
    "no value": "import_directory\n",
    "goes on in the next line": "import_directory = /a\\\n",
    "half a character": "import_directory = /\\ud800\n",
    "unknown key": "import_dir = /a\n",
    "unfinished quotes": 'import_directory = "/a\n',
    "array without quotes": "listen = 127.0.0.1\n",
}


@pytest.mark.parametrize("text", UNTOUCHED.values(), ids=UNTOUCHED)
def test_untouched(text: str) -> None:
    """What is TOML, and what nobody can tell."""
    assert convert(text, Settings) == convert(text, Settings).__class__(text, ())


def test_both_in_one_file() -> None:
    old = "import_directory = /a\nport: 1\nmax_message_size = 2M\n"
    read = parse(f'listen = [\n "::1",\n]\n{old}[gateways]\n"::1" = "x"\n')
    assert read == Settings(
        "/a", port=1, listen=("::1",), max_message_size=config.Size(2 << 20), gateways={"::1": "x"}
    )


VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029"))


@settings(deadline=None)
@given(
    value=VALUES.map(str.strip).filter(bool), separator=st.sampled_from([" = ", "=", ":", " ", "\t: "])
)
def test_any_value(value: str, separator: str) -> None:
    """Written as Java would write it, it is read as it was; and what was converted is not again."""
    escaped = "".join("\\" + letter if letter in "\\=:#! \"'[{" else letter for letter in value)
    text = f"{INBOX}key_pass{separator}{escaped}\n"
    assert parse(text).key_pass == value
    once = convert(text, Settings).text
    assert convert(once, Settings).text == once


@settings(deadline=None)
@given(text=st.text(st.sampled_from("port=: \n\"'[]#!\\u12a"), max_size=40))
def test_what_was_converted_once_is_not_again(text: str) -> None:
    once = convert(text, Settings).text
    if config.is_toml(once):
        assert convert(once, Settings).text == once
    if config.is_toml(text) and "port" not in text:
        assert once == text


@settings(deadline=None)
@given(
    values=st.fixed_dictionaries(
        {"import_directory": st.text("ab/ \\\"'#=é").map("/".__add__)},
        optional={
            "port": st.integers(0, 65535),
            "listen": st.lists(st.sampled_from(["::1", "127.0.0.1"])),
            "envelope_header": st.booleans(),
            "gateway": st.text("abc#=", min_size=1),
            "min_free": st.sampled_from([0, 5, "1M"]),
            "trusted_gateways": st.lists(st.sampled_from(["::1", "10.0.0.0/8"])),
        },
    )
)
def test_toml_stays(values: dict[str, object]) -> None:
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    assert convert(text, Settings).text == text
    assert parse(text).import_directory == values["import_directory"]


# --check-config

CHECKED = {
    "shipped": SHIPPED,
    "toml": UNTOUCHED["TOML"],
    "windows": SHIPPED.replace("\n", "\r\n"),
    "umlauts": "import_directory = /srv/böße/\\u00e4\nport: 1\n",
}


@pytest.mark.parametrize("text", CHECKED.values(), ids=CHECKED)
def test_check_config(
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """What it prints says the same, and is printed again as it is.

    Of the older program's files it says too that everybody may connect.
    """
    file = tmp_path / "benno-smtp.conf"
    printed = text
    for _ in range(2):
        file.write_bytes(printed.encode())
        monkeypatch.setattr("sys.argv", ["benno-smtp", "-c", str(file), "--check-config"])
        assert program.main() == os.EX_OK
        out, err = capfdbinary.readouterr()
        assert err == b""
        expected = parse(text)
        if convert(text, Settings).lines:
            expected = dataclasses.replace(expected, allowed_networks=EVERYWHERE)
        assert parse(out.decode()) == expected
        if text is not printed:
            assert out.decode() == printed
        printed = out.decode()
    assert config.is_toml(printed)


# Java reads a file as Latin-1.
LATIN = """\
# Prüfen
! Größe
import_directory = /srv/Böße
port = 2500
"""


def test_latin_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """It is printed in UTF-8, and says the same."""
    file = tmp_path / "benno-smtp.conf"
    file.write_bytes(LATIN.encode("latin-1"))
    monkeypatch.setattr("sys.argv", ["benno-smtp", "-c", str(file), "--check-config"])
    assert program.main() == os.EX_OK
    out, err = capfdbinary.readouterr()
    assert err == b""
    expected = LATIN.replace("!", "#").replace("/srv/Böße", '"/srv/Böße"')
    assert out.decode().endswith(f"\n{expected}")
    assert parse(out.decode()).import_directory == "/srv/Böße"


@pytest.mark.parametrize(
    "text", ['# Prüfen\nport = 1\nimport_directory = "/a"\n', "# Prüfen\nport = 1\n"]
)
def test_latin_1_is_no_toml(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what the older program may have read is read as it read it."""
    file = tmp_path / "benno-smtp.conf"
    file.write_bytes(text.encode("latin-1"))
    monkeypatch.setattr("sys.argv", ["benno-smtp", "-c", str(file), "--check-config"])
    assert program.main() == os.EX_CONFIG
    assert capsys.readouterr().err == f"benno-smtp: {file}:1: not UTF-8; save the file as UTF-8\n"


def test_check_config_complains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "benno-smtp.conf"
    file.write_text("port = 2500\nprot = 1\n")
    monkeypatch.setattr("sys.argv", ["benno-smtp", "-c", str(file), "--check-config"])
    assert program.main() == os.EX_CONFIG
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"benno-smtp: {file}:2: prot: unknown key; did you mean port?\n"
