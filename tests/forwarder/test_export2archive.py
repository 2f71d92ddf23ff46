"""benno-export2archive: which spool and which hosts it hands to the forwarder, and when it refuses to.

The forwarder is a stub that shows its arguments.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CRON = Path(__file__).parents[2] / "cron"
SCRIPT = CRON / "benno-export2archive"
STUB = "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit ${STUB_EXIT-0}\n"
SHELLS = [[name] for name in ("dash", "bash") if shutil.which(name)]

HOST = "BENNOHOST=archive\n"
INBOX = "/srv/benno/inbox"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """$PATH with the stub before everything else."""
    directory = tmp_path / "bin"
    _place(directory)
    return f"{directory}:{os.environ['PATH']}"


def _place(directory: Path, text: str = STUB) -> None:
    directory.mkdir()
    (directory / "benno-milter2smtp").write_text(text)
    (directory / "benno-milter2smtp").chmod(0o755)


def _run(
    path: str, *arguments: str, script: Path = SCRIPT, shell: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*shell, str(script), *arguments],
        env={"PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def _settings(tmp_path: Path, text: str) -> str:
    file = tmp_path / "settings"
    file.write_bytes(text.encode("latin-1"))
    return str(file)


READINGS = [
    # the file, spool, hosts
    (f"SPOOLDIR=/spool\n{HOST}", "/spool", ["archive"]),
    (HOST, INBOX, ["archive"]),
    ("BENNOHOST=archive", INBOX, ["archive"]),
    (f"SPOOLDIR=\n{HOST}", INBOX, ["archive"]),
    ("BENNOHOST=a b:2525  [::1]:25\n", INBOX, ["a", "b:2525", "[::1]:25"]),
    ('BENNOHOST="a b"\n', INBOX, ["a", "b"]),
    ("BENNOHOST='a b'\n", INBOX, ["a", "b"]),
    ("BENNOHOST='a'\t# first\n", INBOX, ["a"]),
    ('BENNOHOST="a" # "b"\n', INBOX, ["a"]),
    ("BENNOHOST=a # first\n", INBOX, ["a"]),
    ("BENNOHOST=a#b\n", INBOX, ["a#b"]),
    ("export BENNOHOST=a\n", INBOX, ["a"]),
    ("  export\tBENNOHOST = a  \n", INBOX, ["a"]),
    ("BENNOHOST=a\r\nSPOOLDIR=/spool\r\n", "/spool", ["a"]),
    ("BENNOHOST=a\nBENNOHOST=b\n", INBOX, ["b"]),
    ("#BENNOHOST=a\n;BENNOHOST=b\n # BENNOHOST=c\nBENNOHOST=d\n", INBOX, ["d"]),
    ("OLDBENNOHOST=a\nBENNOHOSTS=b\nBENNOHOST=c\nBENNO.HOST=d\n", INBOX, ["c"]),
    ("SPOOLDIR=/with blank/inbox\nBENNOHOST=a\n", "/with blank/inbox", ["a"]),
    ("SPOOLDIR='/with # sign'\nBENNOHOST=a\n", "/with # sign", ["a"]),
    ("SPOOLDIR=/spo*\nBENNOHOST=*\n", "/spo*", ["*"]),
    ("SPOOLDIR=-n\nBENNOHOST=-e\n", "-n", ["-e"]),
    # \xe4 is no character in UTF-8
    ("# Gr\xfc\xdfe\nSPOOLDIR=/sp # \xe4\nBENNOHOST=a # \xfc\n", "/sp", ["a"]),
    # What systemd takes and a shell would run
    (f"MILTERARGS=-t -g gw1\n$(exit 1)\nexit 1\n{HOST}", INBOX, ["archive"]),
]


SECURITY = [
    # settings, the options that they become
    ("", []),
    ("BENNOPORT=587\n", ["--port=587"]),
    ("BENNO_TLS=verify\nBENNO_CAFILE=/a b.pem\n", ["--ca-file=/a b.pem", "--tls=verify"]),
    ("BENNO_TLS='off' # later\n", ["--tls=off"]),
    ('BENNO_TLS=\nBENNO_CAFILE=""\nBENNO_AUTH_FILE=\n', []),
    ("BENNO_TLS_IMPLICIT=yes\n", ["--tls-implicit"]),
    ("BENNO_TLS_IMPLICIT=no\n", []),
    ("BENNO_AUTH_FILE=-x\n", ["--auth-file=-x"]),
    ("BENNO_AUTH_FILE=/*\n", ["--auth-file=/*"]),
    ("BENNO_CERT_FILE=/c\nBENNO_KEY_FILE=/k\n", ["--key-file=/k", "--cert-file=/c"]),
    ("#BENNO_TLS=verify\nOLD_BENNO_TLS=off\n", []),
]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(("text", "given"), SECURITY)
def test_security(tmp_path: Path, path: str, shell: list[str], text: str, given: list[str]) -> None:
    """Before what was typed, which counts more then."""
    file = _settings(tmp_path, text + HOST)
    done = _run(path, "-c", file, "--tls", "required", shell=shell, BENNO_TLS="off", value="/other")
    assert (done.returncode, done.stderr) == (0, "")
    arguments = ["--spool", INBOX, *given, "--tls", "required", "--", "archive"]
    assert done.stdout.splitlines() == arguments


def test_the_password_goes_to_nobody(tmp_path: Path, path: str) -> None:
    """Neither as an argument nor in the environment of the forwarder."""
    secret = tmp_path / "auth"
    secret.write_text("user=me\npassword=secret\n")
    (tmp_path / "bin" / "benno-milter2smtp").write_text('#!/bin/sh\nenv\necho "$@"\n')
    done = _run(path, "-c", _settings(tmp_path, f"BENNO_AUTH_FILE={secret}\n{HOST}"))
    assert f"--auth-file={secret}" in done.stdout
    assert "secret" not in done.stdout.replace(str(secret), "")


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(("text", "spool", "hosts"), READINGS)
def test_reading(
    tmp_path: Path, path: str, shell: list[str], text: str, spool: str, hosts: list[str]
) -> None:
    done = _run(path, "-c", _settings(tmp_path, text), shell=shell, LC_ALL="C.UTF-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["--spool", spool, "--", *hosts]


REFUSED = [
    ("", "BENNOHOST is not set"),
    ("SPOOLDIR=/spool\n#BENNOHOST=archive\n", "BENNOHOST is not set"),
    ("BENNOHOST=\n", "BENNOHOST is not set"),
    ("BENNOHOST=a\nBENNOHOST=\n", "BENNOHOST is not set"),
    ("BENNOHOST= # later\n", "BENNOHOST is not set"),
    ('BENNOHOST=""\n', "BENNOHOST is not set"),
    ('BENNOHOST=" \t"\n', "BENNOHOST is not set"),
    ("BENNOHOST=$(cat /etc/mailname)\n", "BENNOHOST: write it plainly"),
    ("BENNOHOST=`hostname`\n", "BENNOHOST: write it plainly"),
    ('BENNOHOST="a\n', "BENNOHOST: write it plainly"),
    ("BENNOHOST='a\n", "BENNOHOST: write it plainly"),
    ('BENNOHOST="a"b\n', "BENNOHOST: write it plainly"),
    ("BENNOHOST='$HOST'\n", "BENNOHOST: write it plainly"),
    ("BENNOHOST=a \\\n b\n", "BENNOHOST: write it plainly"),
    (f"SPOOLDIR=$BASE/inbox\n{HOST}", "SPOOLDIR: write it plainly"),
    (f"SPOOLDIR=/with\\ blank\n{HOST}", "SPOOLDIR: write it plainly"),
    (f"BENNO_AUTH_FILE=$HOME/auth\n{HOST}", "BENNO_AUTH_FILE: write it plainly"),
    (f"BENNOPORT='25\n{HOST}", "BENNOPORT: write it plainly"),
    (f"BENNO_TLS_IMPLICIT=true\n{HOST}", "BENNO_TLS_IMPLICIT: write yes or no"),
]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused(tmp_path: Path, path: str, shell: list[str], text: str, message: str) -> None:
    """Nothing is sent, the exit code is 78, and one line says what to write."""
    file = _settings(tmp_path, text)
    done = _run(path, "-c", file, shell=shell)
    assert (done.returncode, done.stdout) == (78, "")
    assert re.fullmatch(rf"benno-export2archive: {file}: {message}: ?.*\n", done.stderr)


def test_environment_does_not_count(tmp_path: Path, path: str) -> None:
    """Neither for what the file sets nor for what it does not set."""
    for text, code, shown in [
        (HOST, 0, ["--spool", INBOX, "--", "archive"]),
        ("SPOOLDIR=/s\n", 78, []),
    ]:
        done = _run(
            path,
            "-c",
            _settings(tmp_path, text),
            BENNOHOST="other",
            SPOOLDIR="/other",
            settings="/other",
            previous="-c",
        )
        assert (done.returncode, done.stdout.splitlines()) == (code, shown)


ARGUMENTS = [
    (["-c", "FILE", "--quiet"], ["--quiet"]),
    (["--quiet", "-c", "FILE"], ["--quiet"]),
    (["--keep-sent", "/a b", "-c", "FILE", "", "*"], ["--keep-sent", "/a b", "", "*"]),
    (["-c", "/nowhere", "-c", "FILE"], []),
    (["-c", "FILE", "--connections", "2", "--timeout=30"], ["--connections", "2", "--timeout=30"]),
]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(("given", "passed"), ARGUMENTS)
def test_options_pass_through(
    tmp_path: Path, path: str, shell: list[str], given: list[str], passed: list[str]
) -> None:
    file = _settings(tmp_path, HOST)
    done = _run(path, *(file if argument == "FILE" else argument for argument in given), shell=shell)
    assert done.stdout.splitlines() == ["--spool", INBOX, *passed, "--", "archive"]


@pytest.mark.parametrize("code", [0, 65, 75, 78])
def test_exit_code_is_the_forwarders(tmp_path: Path, path: str, code: int) -> None:
    done = _run(path, "-c", _settings(tmp_path, HOST), STUB_EXIT=str(code))
    assert done.returncode == code


def test_help(path: str) -> None:
    for option in ("--help", "-h"):
        done = _run(path, "--quiet", option)
        assert done.returncode == 0
        assert "[-c FILE]" in done.stdout
        assert "/etc/default/benno-milter" in done.stdout


def test_usage(path: str) -> None:
    done = _run(path, "--quiet", "-c")
    assert (done.returncode, done.stdout) == (64, "")
    assert "-c: name a file" in done.stderr


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_no_settings_file(tmp_path: Path, path: str, kind: str) -> None:
    file = tmp_path / "settings"
    if kind == "directory":
        file.mkdir()
    done = _run(path, "-c", str(file))
    assert (done.returncode, done.stdout) == (78, "")
    assert f"{file}: no such file: write SPOOLDIR=DIRECTORY" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_settings_file(tmp_path: Path, path: str) -> None:
    file = Path(_settings(tmp_path, HOST))
    file.chmod(0)
    done = _run(path, "-c", str(file))
    assert (done.returncode, done.stdout) == (78, "")
    assert f"{file}: user " in done.stderr


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_settings_file_of_root_alone(tmp_path: Path) -> None:
    """What user benno meets who may not read the file."""
    file = tmp_path / "settings"
    file.write_text(HOST)
    file.chmod(0o600)
    for directory in (tmp_path, *tmp_path.parents):
        if str(directory).startswith("/tmp/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    command = ["setpriv", "--reuid=nobody", "--clear-groups", "sh", "-s", "--", "-c", str(file)]
    done = subprocess.run(command, stdin=SCRIPT.open(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"benno-export2archive: {file}: user nobody may not read it\n"


def test_the_forwarder_beside_it_is_taken(tmp_path: Path, path: str) -> None:
    _place(tmp_path / "sbin", "#!/bin/sh\necho beside\n")
    script = tmp_path / "sbin" / "benno-export2archive"
    shutil.copy(SCRIPT, script)
    assert _run(path, "-c", _settings(tmp_path, HOST), script=script).stdout == "beside\n"


@pytest.mark.skipif(Path("/usr/sbin/benno-milter2smtp").exists(), reason="one is installed")
def test_no_forwarder(tmp_path: Path) -> None:
    done = _run("/usr/bin:/bin", "-c", _settings(tmp_path, HOST))
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == "benno-export2archive: benno-milter2smtp: not found\n"


def test_cron_file() -> None:
    """As cron wants it: the job commented out, user and command there, a last line that ends."""
    file = CRON / "benno-milter"
    text = file.read_text()
    assert re.fullmatch(r"[A-Za-z0-9_-]+", file.name), "cron passes over other names"
    assert not stat.S_IMODE(file.stat().st_mode) & 0o133
    assert text.endswith("\n")
    job = "#*/15 * * * * benno test -x {0} && {0}".format("/usr/sbin/benno-export2archive")
    assert text.splitlines().count(job) == 1
    active = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [line.partition("=")[0] for line in active] == ["PATH"]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck (apt install shellcheck)")
def test_shellcheck() -> None:
    subprocess.run(["shellcheck", str(SCRIPT)], check=True)


def test_it_is_executable() -> None:
    assert os.access(SCRIPT, os.X_OK)
