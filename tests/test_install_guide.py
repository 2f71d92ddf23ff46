"""The installation guide, English and German: what it tells to type, and shows, is what there is.

That it works as a whole was tried on booted machines; here is seen what changes in the programs and is
forgotten in the guide, and whether benno-milter finds nothing wrong with what Postfix is to be told.
"""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benno_common import config
from benno_milter import options, postconf
from benno_milter.finding import report
from benno_milter.judgement import judge
from benno_milter.postfix import Socket
from benno_milter2smtp.route import parse_host
from benno_smtp.settings import Settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
ENGLISH = ROOT / "docs" / "install.md"
GERMAN = ROOT / "docs" / "de" / "installation.md"
GUIDES = pytest.mark.parametrize("guide", [ENGLISH, GERMAN], ids=["English", "German"])

# Which module has the options of a command.
COMMANDS = {
    "benno-milter": "benno_milter.program",
    "benno-milter2smtp": "benno_milter2smtp.program",
    "benno-smtp": "benno_smtp.program",
    "benno-export2archive": "benno_milter2smtp.program",  # it hands its options on, but -c
}
_TYPED = re.compile(rf"(?:^|-- |&& |; |benno |/)({'|'.join(COMMANDS)})( +-[^;&|>\n]*)", re.MULTILINE)


def _blocks(guide: Path) -> list[tuple[str, str]]:
    """Language and text of each block of code, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", guide.read_text(), re.MULTILINE | re.DOTALL)


def _text(language: str) -> str:
    return "".join(text for kind, text in _blocks(ENGLISH) if kind == language)


def _prose(guide: Path) -> str:
    return re.sub(r"^```.*?^```$", "", guide.read_text(), flags=re.MULTILINE | re.DOTALL)


def _outline(guide: Path) -> list[str]:
    """Depth of headings, and the blocks below them."""
    found = re.findall(r"^(#+) |^```\w*\n(.*?)^```$", guide.read_text(), re.MULTILINE | re.DOTALL)
    return [heading or block for heading, block in found]


def test_both_have_the_same_blocks() -> None:
    """In the same order, under the same headings."""
    assert _outline(ENGLISH) == _outline(GERMAN)


def _anchors(guide: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _prose(guide), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@GUIDES
def test_links_lead_somewhere(guide: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", guide.read_text()):
        name, _, anchor = target.partition("#")
        file = (guide.parent / name).resolve() if name else guide
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


@functools.cache
def _help(module: str) -> str:
    command = [sys.executable, "-c", f"from {module} import main; main()", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_options_exist() -> None:
    """In commands, in cron's lines and in sentences."""
    lines = _text("sh").replace("\\\n", " ") + _text("")
    lines += "\n".join(re.findall(r"`([^`]+)`", _prose(ENGLISH)))
    seen = set()
    for name, arguments in _TYPED.findall(lines):
        known = _help(COMMANDS[name])
        for option in re.findall(r"(?<= )-[\w-]*\w", arguments):
            seen.add(option)
            own = name == "benno-export2archive" and option == "-c"
            assert own or re.search(rf"(?<![\w-]){option}(?![\w-])", known), (name, option)
    assert {"--check", "--check-postfix", "--check-config", "--dry-run", "--keep-sent", "-c"} <= seen


def test_settings_of_the_mail_server() -> None:
    """Those of /etc/default/benno-milter are read by the unit or by the forwarder's script."""
    readers = "".join(
        (ROOT / file).read_text()
        for file in ("milter/benno-milter.service", "cron/benno-export2archive")
    )
    found = re.findall(r"^([A-Z_]+)=(.*)$", _text("sh"), re.MULTILINE)
    assert {name for name, _ in found} == {
        "BENNOHOST",
        "SPOOLDIR",
        "SOCKET_TYPE",
        "SOCKET",
        "MILTERARGS",
        "BENNO_TLS",
        "BENNO_CAFILE",
        "BENNO_AUTH_FILE",
    }
    for name, value in found:
        assert re.search(rf"\b{name}\b", readers), name
        if name == "MILTERARGS":
            options.parse(["-p", "inet:22500", "-o", "/", *shlex.split(shlex.split(value)[0])])
        if name == "BENNOHOST":
            assert all(parse_host(host) for host in value.strip('"').split())


def test_settings_of_the_archive_host() -> None:
    """They are keys of benno-smtp.conf, with right values."""
    for language, text in _blocks(ENGLISH):
        if language == "toml":
            elsewhere = {"import_directory": "/", "auth_without_tls": True}
            config.parse(text, "the guide", Settings, elsewhere)


def test_units_and_files_exist() -> None:
    text = ENGLISH.read_text()
    for unit in re.findall(r"\bbenno-\w+\.(?:service|path|timer)\b", text):
        assert list(ROOT.glob(f"*/{unit}")), unit
    for path in re.findall(r"(?<![\w/.-])((?:milter|cron|smtp_receiver|debian)/[\w*.-]+)", text):
        assert list(ROOT.glob(path)), path


# What the programs say in the guide, each piece as it stands in the code.
SAID = [
    "takes no mail, all is refused until it does: ",
    "takes mail again",
    " octets free, ",
    " are kept in reserve",
    "452 4.3.1 The mail archive is short of space",
    "451 4.3.0 The mail archive could not store this mail",
    "another instance answers there",
    "the archiver could not read them; chmod g+s ",
    "to allow it too, start with --allow ",
    "BENNOHOST is not set: write BENNOHOST=HOST, the name of the archive host",
    " takes no mail: ",
    "before it greeted us or answered EHLO: ",
    "554 5.7.1 The mail archive does not take mail from your address",
    " octets: it was torn or changed",
    ": unknown key",
    "; did you mean ",
    "passwords come under TLS only; write: tls_enabled = true, with key_file and ",
    "Nothing here loses or doubles mail. ",
    "Mail is archived where it comes in, and again when the filter gives it back",
    "A filter before the queue, and benno-milter is not asked where the mail comes back",
    "there is no Postfix here; listening on TCP port 22500, see ",
    "; see --help",
    "X-Benno-Foreign-",
    "if it is the right one, let BENNO_CAFILE name a file with it, or with that of its CA",
    "write a name that stands in it into BENNOHOST, or renew it there",
    "it does not offer STARTTLS: turn TLS on there, or see BENNO_TLS and BENNO_TLS_IMPLICIT",
    "it does not accept user name and password: see BENNO_AUTH_FILE",
]


@functools.cache
def _code() -> str:
    """Of all programs; strings that go on in the next line are joined."""
    sources = [*ROOT.glob("[cms]*/benno_*/**/*.py"), ROOT / "cron" / "benno-export2archive"]
    sources += ROOT.glob("debian/*.postinst")
    return re.sub(r'"\s*\n\s*f?"', "", "".join(path.read_text() for path in sources))


@pytest.mark.parametrize("said", SAID)
def test_messages_are_those_of_the_programs(said: str) -> None:
    assert said in _code(), "no program says so"
    assert said.strip() in re.sub(r"\s+", " ", ENGLISH.read_text()), "it is not in the guide"


MAIN = """\
compatibility_level = 3.6
myhostname = mail.example.org
queue_directory = /var/spool/postfix
enable_long_queue_ids = yes
internal_mail_filter_classes = bounce
"""
LOCAL = "pickup unix n - y 60 1 pickup\ncleanup unix n - y - 0 cleanup\n"
SMTP = "smtp inet n - y - - smtpd\n"
FILTER = "content_filter = smtp-amavis:[127.0.0.1]:10024\n"


def _block(begin: str, number: int = 1) -> str:
    """The number-th block without a language that begins so."""
    found = [text for language, text in _blocks(ENGLISH) if not language and text.startswith(begin)]
    return found[number - 1]


def _arrangements() -> dict[str, tuple[str, str]]:
    """main.cf and master.cf of each that the guide describes."""
    socket = _block("smtpd_milters = { unix:")
    back = "127.0.0.1:10025 "
    return {
        "socket": (socket, SMTP),
        "other milters": (_block("smtpd_milters = inet:127"), SMTP),
        "TCP": (_block("smtpd_milters = { inet:"), SMTP),
        "master.cf": (_block("non_smtpd_milters = { unix:"), _block("smtp      inet")),
        "after the queue": (socket + FILTER, SMTP + _block("smtp-amavis ")),
        "after the queue, at the way back": (_block("smtpd_milters =\n") + FILTER, SMTP + _block(back)),
        "before the queue": (socket, _block("smtp      inet", 2)),
        "Univention": (
            _block("non_smtpd_milters = inet:"),
            _block("smtp       inet").replace(" …", ""),
        ),
    }


@pytest.mark.system
@pytest.mark.skipif(not shutil.which("postconf"), reason="needs postfix (apt install postfix)")
@pytest.mark.parametrize("name", _arrangements())
def test_nothing_is_wrong_with_it(tmp_path: Path, name: str) -> None:
    """benno-milter --check-postfix has not even a note."""
    main, master = _arrangements()[name]
    (tmp_path / "main.cf").write_text(MAIN + main)
    (tmp_path / "master.cf").write_text(master + LOCAL)
    socket = Socket(path="/var/spool/postfix/benno-milter/benno-milter.sock")
    if "archive.example.org" in main:
        socket = Socket(host="archive.example.org", port="22500")
    found, checked = judge(postconf.read(str(tmp_path)), socket)
    assert not found, report(found, checked)
