"""benno-milter --check-postfix with a real Postfix: what it says is what Postfix does.

The tables are read by the real postconf(1); nothing runs. Then mail is sent through a running Postfix:
it is archived if and only if nothing was found, and once the line that was told has been written.
"""

from __future__ import annotations

import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import daemon
import postfix
from benno_milter import postconf
from benno_milter.finding import Finding
from benno_milter.judgement import judge
from benno_milter.postfix import Socket
from waiting import wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not postfix.available(), reason="needs root and postfix (apt install postfix)"),
]

PLAIN = "unix:benno-milter/benno-milter.sock"
OURS = f"{{ {PLAIN}, default_action=tempfail }}"
MAIN = f"""\
compatibility_level = 3.6
myhostname = mx.test
queue_directory = /var/spool/postfix
enable_long_queue_ids = yes
internal_mail_filter_classes = bounce
smtpd_milters = {OURS}
non_smtpd_milters = $smtpd_milters
"""
MASTER = """\
pickup    unix  n - y 60 1 pickup
cleanup   unix  n - y - 0 cleanup
"""
SMTP = "smtp inet n - y - - smtpd\n"
AMAVIS = "content_filter = smtp-amavis:[127.0.0.1]:10024\n"
BACK = """\
127.0.0.1:10025 inet n - - - - smtpd
  -o content_filter=
  -o mynetworks=127.0.0.0/8,[::1]/128
"""
_ASKING = "-o smtpd_milters=inet:127.0.0.1:22500 -o milter_default_action=tempfail"
UNIVENTION = "".join(
    f"{name} inet n - n - - smtpd {_ASKING}\n" for name in ("smtp", "submission", "smtps")
)

# More of main.cf, master.cf → headline, services.
READ: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "as in the guide": ("", SMTP, []),
    "a list over lines, by $name and ${name?value}": (
        f"ours = {OURS}\ndkim = inet:127.0.0.1:8891,\nsmtpd_milters = $dkim\n  ${{dkim?$ours}}\n",
        SMTP,
        [],
    ),
    "a list by $name in master.cf": (
        f"mua_milters = inet:127.0.0.1:8891 {OURS}\n",
        SMTP + "submission inet n - n - - smtpd -o smtpd_milters=$mua_milters\n",
        [],
    ),
    "a list by $name, empty": (
        "",
        SMTP + "submission inet n - n - - smtpd -o smtpd_milters=$mua_milters\n",
        [("Loses mail", "submission inet")],
    ),
    "braces in master.cf, blanks in them": (
        "smtpd_milters =\nnon_smtpd_milters = " + OURS,
        f"smtp inet n - n - - smtpd -v\n  -o {{ smtpd_milters = inet:127.0.0.1:8891, {OURS} }}\n",
        [],
    ),
    "an action by another setting of the service": (
        f"smtpd_milters = {PLAIN}\nnon_smtpd_milters = {OURS}\nmilter_default_action=$a\na=tempfail\n",
        SMTP + "smtps inet n - n - - smtpd -o a=accept\n",
        [("Loses mail", "smtps inet")],
    ),
    "chroot: the default of today": (
        "milter_default_action = tempfail\nsmtpd_milters = unix:/benno-milter/benno-milter.sock\n",
        "smtp inet n - - - - smtpd\n",
        [("Stops mail", "smtp inet")],
    ),
    "chroot: the default of old": (
        (
            "milter_default_action = tempfail\ncompatibility_level = 0\n"
            "smtpd_milters = unix:/benno-milter/benno-milter.sock\n"
        ),
        "smtp inet n - - - - smtpd\n",
        [],
    ),
    "-o without a blank": (
        "",
        "smtp inet n - n - - smtpd -oreceive_override_options=no_milters\n",
        [("Worth knowing", "")],
    ),
    "Amavis after the queue, as its guide says": (
        AMAVIS,
        SMTP + BACK,
        [("Archives mail twice", "127.0.0.1:10025 inet")],
    ),
    "Amavis after the queue, switched off": (AMAVIS, f"{SMTP}{BACK}  -o smtpd_milters=\n", []),
    "Amavis before the queue": (
        "",
        "smtp inet n - y - - smtpd -o smtpd_proxy_filter=127.0.0.1:10024\n" + BACK,
        [],
    ),
    "Amavis before the queue, switched off": (
        "",
        f"smtp inet n - y - - smtpd -o smtpd_proxy_filter=127.0.0.1:10024\n{BACK}  -o smtpd_milters=\n",
        [("Loses mail", "127.0.0.1:10025 inet")],
    ),
    "Univention": (
        f"{AMAVIS}smtpd_milters =\nnon_smtpd_milters =\n",
        UNIVENTION + BACK,
        [("Loses mail", "pickup unix")],
    ),
}


def configuration(directory: Path, main: str, master: str) -> str:
    (directory / "main.cf").write_text(MAIN + main)
    (directory / "master.cf").write_text(master + MASTER)
    return str(directory)


@pytest.mark.parametrize(("main", "master", "expected"), READ.values(), ids=READ)
def test_read(tmp_path: Path, main: str, master: str, expected: list[tuple[str, str]]) -> None:
    socket = Socket(path="/var/spool/postfix/benno-milter/benno-milter.sock")
    found, _ = judge(postconf.read(configuration(tmp_path, main, master)), socket)
    brief = [(one.problem.severity.value, ", ".join(one.services)) for one in found]
    assert brief == expected


@pytest.mark.parametrize(
    ("main", "code", "said"),
    [
        ("", 0, "Nothing here loses or doubles mail."),
        ("smtpd_milters =", 1, f"      smtpd_milters = {OURS}\n"),
        (None, 69, "postconf failed: postconf: fatal: open "),
    ],
)
def test_command(tmp_path: Path, main: str | None, code: int, said: str) -> None:
    if main is not None:
        configuration(tmp_path, main, SMTP)
    socket = "unix:/var/spool/postfix/benno-milter/benno-milter.sock"
    command = [*daemon.COMMAND, "--check-postfix", "--postfix-config", str(tmp_path), "-p", socket]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done


@pytest.fixture
def root() -> Iterator[Path]:
    """A short path that Postfix can reach: one of a Unix socket has 107 octets at the most."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pf") as name:
        path = Path(name)
        path.chmod(0o711)
        (path / "spool").mkdir()
        (path / "spool").chmod(0o2770)
        (path / "p" / "queue" / "benno-milter").mkdir(parents=True)
        yield path


def archived(mta: postfix.Postfix, milter: daemon.Daemon) -> bool:
    """Send a mail; whether it was archived. It is, if and only if it was accepted."""
    before = len(milter.files())
    message = b"Subject: x\r\n\r\nx\r\n"
    with smtplib.SMTP("127.0.0.1", mta.port, timeout=60) as client:
        try:
            client.sendmail("a@example.org", ["b@example.net"], message)
        except smtplib.SMTPSenderRefused as error:
            assert error.smtp_code == 451
    return len(milter.files()) > before


def found(mta: postfix.Postfix, path: Path) -> list[Finding]:
    findings, _ = judge(postconf.read(str(mta.root / "etc")), Socket(path=str(path)))
    service = f"127.0.0.1:{mta.port} inet"
    return [one for one in findings if service in one.services]


@pytest.mark.parametrize("chroot", [True, False], ids=["chroot", "no chroot"])
@pytest.mark.parametrize(
    "form", ["unix:benno-milter/s", "unix:/benno-milter/s", "local:{queue}/benno-milter/s"]
)
def test_path_and_chroot(root: Path, form: str, chroot: bool) -> None:
    queue = root / "p" / "queue"
    path = queue / "benno-milter" / "s"
    with (
        daemon.running(root / "spool", "-m", "666", socket=f"unix:{path}") as milter,
        postfix.running(root / "p", form.format(queue=queue), chroot=chroot) as mta,
    ):
        findings = found(mta, path)
        assert archived(mta, milter) == (not findings), (findings, mta.log)
        for finding in findings:
            write(mta, "main.cf", finding.lines[0])
            wait_for(lambda: archived(mta, milter), f"archived with {finding.lines[0]}")


def test_a_list_to_write_in_master_cf(root: Path) -> None:
    path = root / "p" / "queue" / "benno-milter" / "s"
    with (
        daemon.running(root / "spool", "-m", "666", socket=f"unix:{path}") as milter,
        postfix.running(root / "p", "unix:benno-milter/s") as mta,
    ):
        master = mta.root / "etc" / "master.cf"
        first, rest = master.read_text().split("\n", 1)
        master.write_text(f"{first} -o smtpd_milters=\n{rest}")
        reload(mta)
        wait_for(lambda: not archived(mta, milter), "nothing is archived")
        (finding,) = found(mta, path)
        assert finding.file == "master.cf"
        master.write_text(f"{first}\n      {finding.lines[0]}\n{rest}")
        reload(mta)
        assert not found(mta, path)
        wait_for(lambda: archived(mta, milter), f"archived with {finding.lines[0]}")


def write(mta: postfix.Postfix, name: str, line: str) -> None:
    with (mta.root / "etc" / name).open("a") as file:
        file.write(f"{line}\n")
    reload(mta)


def reload(mta: postfix.Postfix) -> None:
    """An smtpd that is idle may still take one mail with the old settings."""
    before = mta.log.count("reload --")
    subprocess.run(
        ["postfix", "-c", str(mta.root / "etc"), "reload"],
        env=mta.environment, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    wait_for(lambda: mta.log.count("reload --") > before, "Postfix has read its settings again")
