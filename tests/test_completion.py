"""Shell completion: every option that --help knows is offered, and none that it does not know."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benno_milter2smtp.security import SETTINGS

ROOT = Path(__file__).parent.parent
COMPLETIONS = {
    "benno-milter": "milter/benno-milter.bash",
    "benno-milter2smtp": "milter2smtp/benno-milter2smtp.bash",
    "benno-export2archive": "cron/benno-export2archive.bash",
    "benno-smtp": "smtp_receiver/benno-smtp.bash",
}
PROGRAMS = {
    "benno-milter": "benno_milter",
    "benno-milter2smtp": "benno_milter2smtp",
    "benno-smtp": "benno_smtp",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed"),
]

# compopt works only where readline asks. The function is what `complete -F` names.
_ASK = """\
compopt() { :; }
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
completion=$(complete -p "$1")
completion=${completion#complete -F }
${completion% *}
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(command: str, *words: str) -> list[str]:
    """What is offered for the last word."""
    done = subprocess.run(
        ["bash", "-euc", _ASK, "bash", str(ROOT / COMPLETIONS[command]), command, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def options(command: str) -> set[str]:
    """The options in --help."""
    if command == "benno-export2archive":
        # What it does not know itself goes to benno-milter2smtp; its settings file says these.
        return (options("benno-milter2smtp") | {"-c"}) - {"--spool", "--version", *SETTINGS}
    program = f"import sys; from {PROGRAMS[command]}.program import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    described = done.stdout.partition("\noptions:\n")[2]
    assert described, done.stdout
    lines = re.findall(r"^  (-\S.*)", described, re.MULTILINE)
    return {option for line in lines for option in re.findall(r"(?:^|, )(--?[a-z][a-z0-9-]*)", line)}


@pytest.mark.parametrize("command", COMPLETIONS)
def test_all_options(command: str) -> None:
    known = options(command)
    assert {"-h", "--help", "--log"} <= known
    assert sorted(complete(command, "-")) == sorted(known)
    assert sorted(complete(command, "--")) == sorted(name for name in known if name.startswith("--"))


@pytest.mark.parametrize("command", COMPLETIONS)
def test_where_to_log_to(command: str) -> None:
    assert complete(command, "--log", "") == ["auto", "journal", "stderr", "syslog"]


DIRECTORIES = {
    "benno-milter": ("-o", "--output", "--postfix-config"),
    "benno-milter2smtp": ("--spool", "--keep-sent"),
    "benno-export2archive": ("--keep-sent",),
    "benno-smtp": ("-d", "--directory"),
}
FILES = {
    "benno-milter": ("-l", "--pidfile", "--pending"),
    "benno-milter2smtp": ("--ca-file", "--cert-file", "--key-file", "--auth-file"),
    "benno-export2archive": ("-c",),
    "benno-smtp": ("-c", "--config"),
}


@pytest.mark.parametrize("command", COMPLETIONS)
def test_paths(command: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").touch()
    one, two = f"{tmp_path}/one", f"{tmp_path}/two"
    for option in DIRECTORIES.get(command, ()):
        assert complete(command, option, f"{tmp_path}/") == [one], option
    for option in FILES.get(command, ()):
        assert sorted(complete(command, option, f"{tmp_path}/")) == [one, two], option


@pytest.mark.parametrize("word", ["unix:", "local:"])
def test_path_of_a_socket(word: str, tmp_path: Path) -> None:
    """A colon is a word of its own for bash."""
    assert complete("benno-milter", "-p", word[:-2]) == [word]
    words = ("-p", word[:-1], ":", f"{tmp_path.parent}/{tmp_path.name[:-1]}")
    assert str(tmp_path) in complete("benno-milter", *words)
