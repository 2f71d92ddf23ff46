"""User and password for the archive host: sent once, under TLS only, and told to nobody else."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from certificates import Authority, Issued
from forwarding import COMMAND, Run, command, forward, names, put
from scripted import CLOSE, EVERYTHING, STALL, Action, Secured, Server, Then, serving
from waiting import wait_for

pytestmark = pytest.mark.slow

USERS = {b"me": b"secret word"}
PLAIN = base64.b64encode(b"\0me\0secret word").decode()
SECRETS = ("secret", PLAIN, base64.b64encode(b"secret word").decode())
OFFERS = (*EVERYTHING, "STARTTLS")


def by(password: Path, mode: str = "required", *more: str) -> list[str]:
    return ["--tls", mode, "--auth-file", str(password), *more]


def secured(issued: Issued, mechanisms: str = "AUTH PLAIN LOGIN", *, implicit: bool = False) -> Secured:
    offers = (*EVERYTHING, mechanisms) if mechanisms else EVERYTHING
    return Secured(issued.server(), implicit=implicit, offers=offers, users=USERS)


def attempts(server: Server) -> list[str]:
    return [line for said in server.dialogues for line in said if line.startswith("C: AUTH")]


def refused(run: Run, spool: Path, *stored: str) -> None:
    """Nothing is held, one error names the host, and nobody hears the password."""
    assert (run.code, names(spool)) == (75, sorted(stored)), run.log
    assert len(re.findall(r"ERROR: \S+ takes no mail: ", run.log)) == 1, run.log
    assert not [secret for secret in SECRETS if secret in run.log + run.output]
    assert "unexpected" not in run.log


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("offered", "said"),
    [
        ("AUTH PLAIN LOGIN", [f"C: AUTH PLAIN {PLAIN}", "S: 235 2.7.0 welcome"]),
        ("AUTH LOGIN PLAIN", [f"C: AUTH PLAIN {PLAIN}", "S: 235 2.7.0 welcome"]),
        ("AUTH CRAM-MD5 PLAIN", [f"C: AUTH PLAIN {PLAIN}", "S: 235 2.7.0 welcome"]),
        ("auth=plain", [f"C: AUTH PLAIN {PLAIN}", "S: 235 2.7.0 welcome"]),
        (
            "AUTH CRAM-MD5 LOGIN",
            [
                "C: AUTH LOGIN bWU=",
                "S: 334 UGFzc3dvcmQ6",
                "C: c2VjcmV0IHdvcmQ=",
                "S: 235 2.7.0 welcome",
            ],
        ),
    ],
)
def test_by_what_is_offered(
    spool: Path, password: Path, issued: Issued, offered: str, said: list[str], implicit: bool
) -> None:
    put(spool)
    with serving(offers=OFFERS, secured=secured(issued, offered, implicit=implicit)) as server:
        more = ["--tls-implicit"] if implicit else []
        run = forward(spool, server.port, options=by(password, "required", *more))
    assert (run.code, len(server.mails)) == (0, 1), run.log
    dialogue = server.dialogue()
    start = [line[:7] for line in dialogue].index("C: AUTH")
    assert dialogue[start : start + len(said)] == said
    assert dialogue.index("TLS") < start < [line[:7] for line in dialogue].index("C: MAIL")
    assert f"auth_file={password}" in run.log
    assert not [secret for secret in SECRETS if secret in run.log]


def test_each_connection_says_it(
    spool: Path, password: Path, authority: Authority, issued: Issued
) -> None:
    for _ in range(100):
        put(spool)
    with serving(offers=OFFERS, secured=secured(issued)) as server:
        run = forward(
            spool, server.port, options=by(password, "verify", "--ca-file", str(authority.cert))
        )
    assert (run.code, len(server.mails), len(attempts(server))) == (0, 100, 4), run.log


@pytest.mark.parametrize("offered", ["AUTH PLAIN LOGIN", "AUTH LOGIN"])
def test_a_wrong_password_is_tried_once(
    spool: Path, password: Path, issued: Issued, offered: str
) -> None:
    """Not for each of a thousand mails, and not by each mechanism: hosts count the attempts."""
    password.write_text("user=me\npassword=secret guess\n")
    stored = [put(spool) for _ in range(1000)]
    with serving(offers=OFFERS, secured=secured(issued, offered)) as server:
        run = forward(spool, server.port, options=by(password))
    refused(run, spool, *stored)
    assert len(attempts(server)) == len(server.dialogues) == 1
    assert (
        "takes no mail: 535 5.7.8 who are you? (to AUTH): it does not accept user name and password: "
        "see BENNO_AUTH_FILE" in run.log
    )
    assert run.summary == "sent=0 kept=1000 held=0"


def test_a_wrong_password_is_not_tried_at_each_address(
    spool: Path, password: Path, issued: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    password.write_text("user=me\npassword=secret guess\n")
    name = put(spool)
    with serving(offers=OFFERS, secured=secured(issued)) as server:

        async def many(*_: object, **__: object) -> list[tuple[object, ...]]:
            where = ("127.0.0.1", server.port)  # names make three of it
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, name, where) for name in "abc"]

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", many)
        run = forward(spool, "many.example", options=by(password))
    refused(run, spool, name)
    assert len(attempts(server)) == 1


def test_the_next_host_may_take_it(spool: Path, password: Path, issued: Issued) -> None:
    put(spool)
    other = Secured(issued.server(), offers=("AUTH PLAIN",), users={b"me": b"other"})
    with (
        serving(offers=OFFERS, secured=other) as first,
        serving(offers=OFFERS, secured=secured(issued)) as second,
    ):
        run = forward(spool, first.port, second.port, options=by(password))
    assert (run.code, len(second.mails)) == (0, 1), run.log
    assert "takes no mail: 535" in run.log


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("535 no", "535 no (to AUTH): it does not accept user name and password"),
        ("530 5.5.1 no", "530 5.5.1 no (to AUTH): it demands authentication or TLS"),
        ("534 5.7.9 no", "534 5.7.9 no (to AUTH): it demands a stronger authentication"),
        ("538 no", "538 no (to AUTH): it demands TLS"),
        ("550 5.7.1 no", "550 5.7.1 no (to AUTH): allow this client there"),
        ("501 5.5.4 no", "501 5.5.4 no (to AUTH): see the log there"),
        ("454 4.7.0 later", "454 4.7.0 later (to AUTH)"),
        ("334 more", "out of step: 334 more (to AUTH)"),
        ("250 ok", "out of step: 250 ok (to AUTH)"),
        (Then("421 4.7.0 slow down"), "421 4.7.0 slow down (to AUTH)"),
        (CLOSE, "before it answered AUTH: "),
        (STALL, "it did not answer AUTH for 1 s"),
    ],
)
def test_refusals(spool: Path, password: Path, issued: Issued, action: Action, reason: str) -> None:
    stored = [put(spool), put(spool)]
    with serving(offers=OFFERS, secured=secured(issued), script={"AUTH": [action]}) as server:
        run = forward(spool, server.port, options=by(password, "required", "--timeout", "1"))
    refused(run, spool, *stored)
    assert reason in run.log
    assert len(server.dialogues) == 1


@pytest.mark.parametrize("offered", ["", "AUTH", "AUTH CRAM-MD5 GSSAPI"])
def test_no_mechanism_of_ours(spool: Path, password: Path, issued: Issued, offered: str) -> None:
    """No mail goes without the password that somebody wrote down."""
    name = put(spool)
    with serving(offers=OFFERS, secured=secured(issued, offered)) as server:
        run = forward(spool, server.port, options=by(password))
    refused(run, spool, name)
    assert "it offers neither AUTH PLAIN nor AUTH LOGIN" in run.log
    assert attempts(server) == []


def test_what_was_offered_in_plain_text_does_not_count(
    spool: Path, password: Path, issued: Issued
) -> None:
    name = put(spool)
    with serving(offers=(*OFFERS, "AUTH PLAIN"), secured=secured(issued, "")) as server:
        refused(forward(spool, server.port, options=by(password)), spool, name)
    assert attempts(server) == []


@pytest.mark.parametrize("echo", ["AUTH PLAIN {plain}", "password {word}", "{login}", "x{plain}y"])
def test_a_reply_that_repeats_the_password(
    spool: Path, password: Path, issued: Issued, echo: str
) -> None:
    """As some servers do with a command that they do not know."""
    name = put(spool)
    word, login = "secret word", SECRETS[2]
    said = "500 5.5.1 Command unrecognized: " + echo.format(plain=PLAIN, word=word, login=login)
    with serving(offers=OFFERS, secured=secured(issued), script={"AUTH": [said]}) as server:
        run = forward(spool, server.port, options=by(password))
    refused(run, spool, name)
    assert "500 5.5.1 (with the password in it) (to AUTH)" in run.log


# Never in plain text, nor to whom it is not meant


@pytest.mark.parametrize("mode", ["off", "opportunistic"])
def test_not_without_tls(spool: Path, password: Path, mode: str) -> None:
    name = put(spool)
    with serving(offers=("AUTH PLAIN LOGIN",)) as server:
        run = forward(spool, server.port, options=by(password, mode))
    assert (run.code, names(spool), server.dialogues) == (78, [name], [])
    assert "--auth-file (BENNO_AUTH_FILE): a password is never sent in plain text" in run.log


@pytest.mark.parametrize("mode", ["required", "verify"])
@pytest.mark.parametrize("starttls", [None, "454 4.7.0 no", CLOSE, Then("220 go on")])
def test_not_where_tls_does_not_begin(
    spool: Path, password: Path, issued: Issued, mode: str, starttls: Action | None
) -> None:
    name = put(spool)
    offers = (*EVERYTHING, "AUTH PLAIN LOGIN", *(["STARTTLS"] if starttls else []))
    script = {"STARTTLS": [starttls]} if starttls else {}
    with serving(offers=offers, secured=secured(issued), script=script) as server:
        refused(forward(spool, server.port, options=by(password, mode)), spool, name)
    assert attempts(server) == []
    assert not [octets for octets in server.received if b"AUTH" in octets]


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("kind", ["another name", "another authority"])
def test_not_to_a_host_with_a_wrong_certificate(
    spool: Path, tmp_path: Path, password: Path, authority: Authority, kind: str, implicit: bool
) -> None:
    name = put(spool)
    issuer = authority if kind == "another name" else Authority(tmp_path, "other")
    shown = issuer.issue("other.example" if kind == "another name" else "127.0.0.1")
    more = ["--ca-file", str(authority.cert), *(["--tls-implicit"] if implicit else [])]
    with serving(offers=OFFERS, secured=secured(shown, implicit=implicit)) as server:
        refused(forward(spool, server.port, options=by(password, "verify", *more)), spool, name)
    assert attempts(server) == []


def test_nobody_sees_it_in_the_list_of_processes(spool: Path, password: Path, issued: Issued) -> None:
    put(spool)
    with serving(offers=OFFERS, secured=secured(issued), script={"MAIL": [STALL]}) as server:
        process = subprocess.Popen(
            [*command(spool), *by(password), f"127.0.0.1:{server.port}"], stderr=subprocess.PIPE
        )
        try:
            wait_for(lambda: server.count("MAIL") or process.poll() is not None, "MAIL")
            seen = b"".join(
                Path(f"/proc/{process.pid}/{file}").read_bytes() for file in ("cmdline", "environ")
            )
        finally:
            process.terminate()
            _, log = process.communicate(timeout=60)
    assert attempts(server) != []
    for secret in SECRETS:
        assert secret.encode() not in seen + log


def test_nor_does_a_traceback_show_it(
    spool: Path, password: Path, issued: Issued, tmp_path: Path
) -> None:
    """A fault of the library in the middle of it."""
    name = put(spool)
    prelude = (
        "import aiosmtplib\n"
        "async def auth_plain(self, user, password, **_):\n"
        "    raise RuntimeError('a fault')\n"
        "aiosmtplib.SMTP.auth_plain = auth_plain\n"
    )
    with serving(offers=OFFERS, secured=secured(issued)) as server:
        arguments = [*command(spool), *by(password), f"127.0.0.1:{server.port}"]
        arguments[2] = prelude + COMMAND[2]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, names(spool)) == (75, [name]), done.stderr
    assert "unexpected RuntimeError: a fault" in done.stderr
    assert not [secret for secret in SECRETS if secret in done.stderr]


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_user_benno_reads_what_belongs_to_it(tmp_path: Path) -> None:
    """And is told what to write where it does not."""
    file = tmp_path / "auth"
    file.write_text("user=me\npassword=secret\n")
    file.chmod(0o600)
    for directory in (tmp_path, *tmp_path.parents):
        if str(directory).startswith("/tmp/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    program = (
        "import os, sys\n"
        "from benno_common.service import Exit\n"
        "from benno_milter2smtp.credentials import read_credentials\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n    print(read_credentials(sys.argv[1]))\n"
        "except Exit as error:\n    print(error.code, error.reason)\n"
    )
    read = [sys.executable, "-c", program, str(file)]
    told = subprocess.run(read, capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.startswith(f"78 --auth-file (BENNO_AUTH_FILE): {file}: user nobody may not read it: ")
    line = re.findall(r"write: (.*)", told)[0]
    assert line == f"chown nobody {file} && chmod 600 {file}"
    subprocess.run(["sh", "-ec", line], check=True)
    told = subprocess.run(read, capture_output=True, text=True, check=True, timeout=60).stdout
    assert told == "Credentials(user=b'me')\n"
