"""AUTH with the real process: who may send mail, what is said to others, and what is never told."""

from __future__ import annotations

import base64
import os
import re
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

import receiver_daemon
from certificates import Authority, Issued
from receiver_daemon import Receiver
from smtp import Client
from smtp_tls import NAME, TlsClient
from waiting import wait_for

pytestmark = pytest.mark.slow

PASSWORD = "s3cret-Passw0rd"
USER = f'auth_user = "archive"\nauth_pass = "{PASSWORD}"\n'

# Delays of a hundredth, so that nobody waits for them.
QUICK = "import benno_smtp.guard; benno_smtp.guard.FIRST_SECONDS = 0.01"


def b64(text: bytes | str) -> bytes:
    return base64.b64encode(text.encode() if isinstance(text, str) else text)


PLAIN = b"AUTH PLAIN " + b64(f"\0archive\0{PASSWORD}")
WRONG = b"AUTH PLAIN " + b64("\0archive\0guessed")


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Issued]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return authority, authority.issue(NAME)


def secured(issued: tuple[Authority, Issued], more: str = USER) -> str:
    own = issued[1]
    return f'tls_enabled = true\ncert_file = "{own.cert}"\nkey_file = "{own.key}"\n{more}'


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One without TLS."""
    inbox = tmp_path_factory.mktemp("login") / "inbox"
    wanted = f"{USER}auth_without_tls = true\n"
    with receiver_daemon.running(inbox, wanted, prelude=QUICK) as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "unexpected" not in receiver.log
        assert not leaks(receiver)


@pytest.fixture(scope="module")
def under_tls(
    issued: tuple[Authority, Issued], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Receiver]:
    """One that offers TLS, and AUTH under it."""
    inbox = tmp_path_factory.mktemp("under") / "inbox"
    with receiver_daemon.running(inbox, secured(issued), prelude=QUICK) as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "unexpected" not in receiver.log
        assert not leaks(receiver)


@pytest.fixture(scope="module")
def both(
    issued: tuple[Authority, Issued], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Receiver]:
    """One that offers TLS, and AUTH before it too."""
    inbox = tmp_path_factory.mktemp("both") / "inbox"
    wanted = secured(issued, f"{USER}auth_without_tls = true\n")
    with receiver_daemon.running(inbox, wanted, prelude=QUICK) as receiver:
        yield receiver
        assert receiver.stop() == 0
        assert "unexpected" not in receiver.log


def leaks(receiver: Receiver) -> list[str]:
    """What of the password is in the log: in clear, as base64 in any place, in part."""
    forms = [PASSWORD, PASSWORD[:8], "guessed"]
    forms += [b64(b"x" * shift + PASSWORD.encode()).decode()[4:-4] for shift in range(3)]
    return [form for form in forms if form in receiver.log]


# Each: what is sent, and how the reply begins.
STORY = list[tuple[bytes, str]]

FIRST_NEEDED = "530 5.7.0 AUTH comes first"
MAIL: STORY = [
    (b"MAIL FROM:<a@b>", "250 2.1.0"),
    (b"RCPT TO:<c@d>", "250 2.1.5"),
    (b"BDAT 3 LAST\r\nx", "250 2.0.0 Stored"),
]
ASKED_USER, ASKED_PASSWORD = (f"334 {b64(text).decode()}" for text in ("Username:", "Password:"))

STORIES: dict[str, STORY] = {
    "PLAIN": [(b"AUTH PLAIN", "334"), (PLAIN[11:], "235 2.7.0"), *MAIL],
    "PLAIN at once": [(PLAIN, "235 2.7.0 Logged in"), *MAIL],
    "lower case": [(b"auth plain " + PLAIN[11:], "235 2.7.0"), *MAIL],
    "LOGIN": [
        (b"AUTH LOGIN", ASKED_USER),
        (b64("archive"), ASKED_PASSWORD),
        (b64(PASSWORD), "235 2.7.0"),
        *MAIL,
    ],
    "LOGIN, the user at once": [
        (b"AUTH LOGIN " + b64("archive"), ASKED_PASSWORD),
        (b64(PASSWORD), "235 2.7.0"),
        *MAIL,
    ],
    "a mail after the other": [(PLAIN, "235"), *MAIL, *MAIL],
    "AUTH parameter of MAIL": [
        (PLAIN, "235"),
        (b"MAIL FROM:<a@b> AUTH=<>", "250 2.1.0"),
        *MAIL[1:],
    ],
    "RSET and EHLO leave it": [
        (PLAIN, "235"),
        (b"RSET", "250"),
        (b"EHLO again", "250"),
        (b"HELO again", "250"),
        *MAIL,
    ],
    "only once": [(PLAIN, "235"), (PLAIN, "503 5.5.1 You are logged in"), *MAIL],
    "not in a mail": [
        (PLAIN, "235"),
        MAIL[0],
        (PLAIN, "503 5.5.1 There is a mail under way"),
        *MAIL[1:],
    ],
    "cancelled": [
        (b"AUTH PLAIN", "334"),
        (b"*", "501 5.5.0"),
        (b"MAIL FROM:<a@b>", FIRST_NEEDED),
        (PLAIN, "235"),
        *MAIL,
    ],
    "cancelled at the password": [
        (b"AUTH LOGIN", ASKED_USER),
        (b64("archive"), ASKED_PASSWORD),
        (b"*", "501 5.5.0"),
        (PLAIN, "235"),
    ],
    "no base64": [
        (b"AUTH PLAIN", "334"),
        (b"BDAT 3 LAST", "501 5.5.2"),
        (b"AUTH PLAIN !", "501 5.5.2"),
        (b"AUTH LOGIN", ASKED_USER),
        (b"MAIL FROM:<a@b>", "501 5.5.2"),
        (b"MAIL FROM:<a@b>", FIRST_NEEDED),
    ],
    "base64 that looks like a command": [
        (b"AUTH LOGIN", ASKED_USER),
        (b"BDAT", ASKED_PASSWORD),
        (b"QUIT", "535 5.7.8"),
        (b"NOOP", "250"),
    ],
    "as long as may be": [
        (b"AUTH LOGIN", ASKED_USER),
        (b64(b"x" * 9213), ASKED_PASSWORD),
        (b64(b"x" * 9213), "535 5.7.8"),
    ],
    "too long": [
        (b"AUTH PLAIN", "334"),
        (b"A" * 12_288, "501 5.5.6"),
        (b"AUTH PLAIN", "334"),
        (b"A" * 70_000, "501 5.5.6"),
        (b"AUTH LOGIN", ASKED_USER),
        (b"A" * 1_000_000, "501 5.5.6"),
        (b"AUTH PLAIN " + b"A" * 12_276, "501 5.5.6"),
        (b"AUTH PLAIN " + b"A" * 70_000, "500 5.5.2"),
        (PLAIN, "235"),
    ],
    "syntax": [
        (b"AUTH", "501 5.5.4"),
        (b"AUTH PLAIN x y", "501 5.5.4"),
        (b"AUTH CRAM-MD5", "504 5.5.4"),
        (b"AUTH PLAIN =", "501 5.5.2"),
        (b"AUTH PLAIN " + b64("archive"), "501 5.5.2"),
        (b"NOOP", "250"),
    ],
    "wrong, then right": [(WRONG, "535 5.7.8"), (WRONG, "535 5.7.8"), (PLAIN, "235"), *MAIL],
    "for another": [
        (b"AUTH PLAIN " + b64(f"other\0archive\0{PASSWORD}"), "535 5.7.8"),
        (b"AUTH PLAIN " + b64(f"archive\0archive\0{PASSWORD}"), "235 2.7.0"),
    ],
    "what is refused before it": [
        (b"MAIL FROM:<a@b>", FIRST_NEEDED),
        (b"RCPT TO:<c@d>", FIRST_NEEDED),
        (b"DATA", FIRST_NEEDED),
        (b"VRFY c@d", FIRST_NEEDED),
        (b"EXPN c@d", FIRST_NEEDED),
        (b"BDAT 17 LAST\r\nMAIL FROM:<a@b>", FIRST_NEEDED),
        (b"RSET", "250"),
        (b"NOOP", "250"),
        (b"HELO client.test", "250"),
        (b"MAIL FROM:<a@b>", FIRST_NEEDED),
        (PLAIN, "503 5.5.1 EHLO comes first"),
        (b"EHLO client.test", "250"),
        (PLAIN, "235"),
        *MAIL,
    ],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_story(receiver: Receiver, story: STORY) -> None:
    """Step by step, and then in one write, where the server finds what comes next behind each line."""
    mails = len(receiver.files()) + sum(reply.endswith("Stored") for _, reply in story)
    with Client(receiver.port) as client:
        assert "250-AUTH PLAIN LOGIN" in client.replies
        for sent, reply in story:
            assert client.command(sent).startswith(reply), client.replies
    assert len(receiver.files()) == mails
    with Client(receiver.port) as client:
        client.socket.sendall(b"".join(sent + b"\r\n" for sent, _ in story))
        for sent, reply in story:
            said = client.read()
            assert said.startswith(reply) or (sent.startswith(b"EHLO") and said.startswith("250"))


def test_before_ehlo(receiver: Receiver) -> None:
    with Client(receiver.port, greeting=b"") as client:
        assert client.command(PLAIN) == "503 5.5.1 EHLO comes first"
        assert client.command(b"MAIL FROM:<a@b>") == FIRST_NEEDED


def test_who_sent_it_is_logged(receiver: Receiver) -> None:
    with Client(receiver.port) as client:
        client.command(PLAIN)
        name = client.send(b"a@b", [b"c@d"], b"x\r\n").rpartition(" ")[2]
    assert re.search(rf" stored file={name} client=127.0.0.1 user=archive from=<a@b> ", receiver.log)


def test_three_failures_end_the_session(receiver: Receiver) -> None:
    """Each is in the log, with the name that was tried, made safe; an unknown one is told the same."""
    logged = len(receiver.log)
    with Client(receiver.port) as client:
        first = client.command(WRONG)
        assert client.command(b"AUTH PLAIN " + b64("\0no body\n\0x")) == first
        last = client.command(WRONG)
        assert last == f"{first}; closing, as it was the third time"
        assert client.hung_up()
    said = receiver.log[logged:]
    assert re.findall(r"WARNING: login from 127.0.0.1 failed: user=(\S+) failures=\d+\n", said) == [
        "archive",
        r"no\x20body\x0a",
        "archive",
    ]


def test_one_password_for_all_is_not_in_the_log(receiver: Receiver) -> None:
    with Client(receiver.port) as client:
        client.command(PLAIN)
    assert leaks(receiver) == []
    assert "auth_user=archive auth_pass=***" in receiver.wait_for_log("started .*")


# Under TLS


def test_not_in_plain_text(under_tls: Receiver, issued: tuple[Authority, Issued]) -> None:
    """It is not offered there, and a password that comes all the same is not looked at."""
    with TlsClient(under_tls.port, issued[0].cert) as client:
        assert not [line for line in client.ehlo() if line.startswith("AUTH")]
        assert client.command(b"MAIL FROM:<a@b>") == FIRST_NEEDED
        assert client.command(PLAIN) == "538 5.7.11 AUTH needs TLS; STARTTLS comes first"
        assert client.command(b"MAIL FROM:<a@b>") == FIRST_NEEDED
        client.starttls()
        assert "AUTH PLAIN LOGIN" in client.ehlo()
        assert client.command(b"MAIL FROM:<a@b>") == FIRST_NEEDED
        assert client.command(PLAIN).startswith("235")
        name = client.send(b"a@b", [b"c@d"], b"x\r\n").rpartition(" ")[2]
    assert re.search(rf"file={name} client=127.0.0.1 tls=TLSv1.3 user=archive from=", under_tls.log)


def test_it_is_forgotten_at_starttls(both: Receiver, issued: tuple[Authority, Issued]) -> None:
    """Like all that was said in plain text."""
    with TlsClient(both.port, issued[0].cert) as client:
        client.ehlo()
        assert client.command(PLAIN).startswith("235")
        client.starttls()
        client.ehlo()
        assert client.command(b"MAIL FROM:<a@b>") == FIRST_NEEDED
        assert client.command(PLAIN).startswith("235")
        name = client.send(b"a@b", [b"c@d"], b"x\r\n").rpartition(" ")[2]
    assert re.search(rf"file={name} client=127.0.0.1 tls=TLSv1.3 user=archive from=", both.log)


def test_failures_are_not_forgotten_at_starttls(
    both: Receiver, issued: tuple[Authority, Issued]
) -> None:
    with TlsClient(both.port, issued[0].cert) as client:
        client.ehlo()
        assert client.command(WRONG) == client.command(WRONG)
        client.starttls()
        client.ehlo()
        assert client.command(WRONG).endswith("closing, as it was the third time")


@pytest.mark.parametrize("injected", [PLAIN, b"AUTH LOGIN", WRONG])
def test_auth_behind_starttls(both: Receiver, injected: bytes) -> None:
    """What somebody put behind the command is not executed."""
    logged = len(both.log)
    with Client(both.port) as client:
        reply = client.raw(b"STARTTLS\r\n" + injected + b"\r\n")
        assert reply == "501 5.5.4 Nothing may follow STARTTLS; closing"
        assert client.hung_up()
    assert "login" not in both.log[logged:]


def test_an_exchange_is_no_place_for_starttls(both: Receiver, issued: tuple[Authority, Issued]) -> None:
    """What stands there is a response: TLS does not begin."""
    with TlsClient(both.port, issued[0].cert) as client:
        client.ehlo()
        assert client.command(b"AUTH LOGIN") == ASKED_USER
        assert client.command(b"STARTTLS") == ASKED_PASSWORD  # base64, as it happens
        assert client.command(b"*").startswith("501")
        client.starttls()


def test_tls_required(issued: tuple[Authority, Issued], tmp_path: Path) -> None:
    """First TLS, then AUTH, then mail."""
    wanted = secured(issued, f"{USER}tls_required = true\nauth_without_tls = true\n")
    with (
        receiver_daemon.running(tmp_path / "inbox", wanted) as receiver,
        TlsClient(receiver.port, issued[0].cert) as client,
    ):
        client.ehlo()
        assert client.command(PLAIN) == "530 5.7.0 STARTTLS comes first"
        client.starttls()
        client.ehlo()
        assert client.command(b"MAIL FROM:<a@b>") == FIRST_NEEDED
        assert client.command(PLAIN).startswith("235")
        assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")


# Files


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def plain(user: str, password: str) -> bytes:
    return b"AUTH PLAIN " + b64(f"\0{user}\0{password}")


def test_file(tmp_path: Path) -> None:
    """It is read again at SIGHUP; what cannot be read changes nothing, and sessions go on."""
    file = tmp_path / "users"
    file.write_text(f"one:{hashed('first')}\n")
    file.chmod(0o640)
    wanted = f'auth_file = "{file}"\nauth_without_tls = true\n'
    with receiver_daemon.running(tmp_path / "inbox", wanted, prelude=QUICK) as receiver:
        with Client(receiver.port) as client:
            assert client.command(plain("one", "first")).startswith("235")
            file.write_text(f"two:{hashed('second')}\n")
            os.kill(receiver.pid, signal.SIGHUP)
            receiver.wait_for_log("users read again")
            assert client.send(b"a@b", [b"c@d"], b"x\r\n").startswith("250")
        file.write_text("one:first\n")
        os.kill(receiver.pid, signal.SIGHUP)
        said = receiver.wait_for_log("ERROR: .*")
        assert f"what is known of users in use is kept: auth_file: {file}:1: no user with" in said
        with Client(receiver.port) as client:
            assert client.command(plain("one", "first")).startswith("535")
            assert client.command(plain("two", "second")).startswith("235")
        assert "WARNING: /" not in receiver.log, "nobody else can read it"


def test_others_do_not_wait_for_a_check(tmp_path: Path) -> None:
    """A hash that takes half a second and more: meanwhile the loop answers others."""
    file = tmp_path / "users"
    file.write_text(f"slow:{hashed('x', 14)}\n")
    wanted = f'auth_file = "{file}"\nauth_without_tls = true\n'
    with (
        receiver_daemon.running(tmp_path / "inbox", wanted) as receiver,
        Client(receiver.port) as slow,
        Client(receiver.port) as other,
    ):
        slow.socket.sendall(plain("slow", "x") + b"\r\n")
        for _ in range(20):
            assert other.command(b"NOOP").startswith("250")
        assert select.select([slow.socket], [], [], 0)[0] == [], "it was checked before the others"
        assert slow.read().startswith("235")


def test_a_client_that_does_not_wait(tmp_path: Path) -> None:
    """It goes while its password is looked at, or while it has to wait: nothing is left of it."""
    file = tmp_path / "users"
    file.write_text(f"slow:{hashed('x', 13)}\n")
    wanted = f'auth_file = "{file}"\nauth_without_tls = true\n'
    with receiver_daemon.running(tmp_path / "inbox", wanted) as receiver:
        for sent in (plain("slow", "x"), plain("slow", "y"), plain("slow", "y"), plain("slow", "x")):
            with Client(receiver.port) as client:
                client.socket.sendall(sent + b"\r\n")
        with Client(receiver.port) as client:
            client.socket.sendall(plain("slow", "y") + b"\r\n")
            assert client.read().startswith("535")
            client.socket.sendall(plain("slow", "y") + b"\r\n")
            os.kill(receiver.pid, signal.SIGTERM)
            assert client.read().startswith("421 4.3.2")
        assert receiver.process.wait(60) == 0
        assert "ERROR" not in receiver.log


def test_who_fails_waits(tmp_path: Path) -> None:
    """All its connections in line, and those that would wait too long not at all."""
    patience = f"{QUICK}; benno_smtp.guard.FIRST_SECONDS = 0.2; benno_smtp.guard.PATIENCE_SECONDS = 0.5"
    wanted = f"{USER}auth_without_tls = true\n"
    with receiver_daemon.running(tmp_path / "inbox", wanted, prelude=patience) as receiver:
        with Client(receiver.port) as failing:
            assert failing.command(WRONG).startswith("535")
        clients = [Client(receiver.port) for _ in range(4)]
        for client in clients:
            client.socket.sendall(PLAIN + b"\r\n")
        replies = sorted(client.read() for client in clients)
        assert [reply[:9] for reply in replies] == ["235 2.7.0"] * 2 + ["421 4.7.0"] * 2
        assert replies[3].endswith("Too many logins from your address have failed; come again later")
        assert sum(client.hung_up() for client in clients if client.replies[-1] == replies[3]) == 2
        for client in clients:
            client.close()
        warning = "login from 127.0.0.1 refused: too many have failed, and wait for their answer"
        assert receiver.log.count(warning) == 1, "one line in a minute"


def test_files_that_all_can_read(tmp_path: Path) -> None:
    """A warning, and what to do; the password is not in it."""
    file = tmp_path / "users"
    file.write_text(f"one:{hashed('first')}\n")
    file.chmod(0o644)
    inbox = tmp_path / "inbox"
    rights = "as root: chgrp benno {0} && chmod 640 {0}"
    with receiver_daemon.running(inbox, f'auth_file = "{file}"\nauth_without_tls = true\n') as receiver:
        expected = f"{file}: everybody on this host can read auth_file; {rights.format(file)}"
        wait_for(lambda: expected in receiver.log, "the warning")
        assert "inbox.conf: everybody" not in receiver.log, "there is no password in it"
    with receiver_daemon.running(inbox, f"{USER}auth_without_tls = true\n") as receiver:
        config = tmp_path / "inbox.conf"
        expected = f"{config}: everybody on this host can read auth_pass; {rights.format(config)}"
        wait_for(lambda: expected in receiver.log, "the warning")
        assert not leaks(receiver)
