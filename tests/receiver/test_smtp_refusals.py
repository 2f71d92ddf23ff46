"""What is about the session is no refusal of a mail: benno-milter2smtp keeps all mail and comes again.

Each is provoked with the real process, and its reply is judged as the forwarder judges it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import receiver_daemon
from benno_milter2smtp.outcome import Outcome, Permanent, Phase, SessionTrouble, Temporary, judge
from benno_milter2smtp.reply import Reply
from benno_smtp.limits import COMMAND, CONTENT, IDLE
from benno_smtp.watch import TIMED_OUT
from certificates import Authority, Issued
from smtp import Client
from smtp_tls import NAME, TlsClient

pytestmark = pytest.mark.slow

AUTH = 'auth_user = "archive"\nauth_pass = "s3cret"\n'
OPEN = f"{AUTH}auth_without_tls = true\n"
RIGHT = b"AUTH PLAIN " + base64.b64encode(b"\0archive\0s3cret")
WRONG = b"AUTH PLAIN " + base64.b64encode(b"\0archive\0wrong")


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Issued]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return authority, authority.issue(NAME)


def reply_of(line: str) -> Reply:
    return Reply(int(line[:3]), line[4:])


class Case:
    """settings: of the receiver, with {cert}, {key} and {ca}. phase: where the reply comes.

    say: gets a client that has read the greeting only, and returns the reply.
    """

    def __init__(
        self, phase: Phase, settings: str, say: Callable[[Client], str], *, prelude: str = ""
    ) -> None:
        self.phase = phase
        self.settings = settings
        self.say = say
        self.prelude = prelude


TLS = 'tls_enabled = true\ncert_file = "{cert}"\nkey_file = "{key}"\n'
NO_EXEMPTION = "import benno_smtp.settings; benno_smtp.settings._LOOPBACK = ()"
SMALL_MEMORY = "import benno_smtp.limits as l; l.Memory.__init__.__defaults__ = (100,)"
NO_PATIENCE = "import benno_smtp.guard as g; g.FIRST_SECONDS = 0.1; g.PATIENCE_SECONDS = 0"
QUICK = "import benno_smtp.guard as g; g.FIRST_SECONDS = 0.01"


def greeting(client: Client) -> str:
    return client.replies[0]


def then(*lines: bytes) -> Callable[[Client], str]:
    """The reply to the last of these lines, behind EHLO."""

    def say(client: Client) -> str:
        client.command(b"EHLO forwarder.test")
        return [client.command(line) for line in lines][-1]

    return say


def under_tls(*lines: bytes) -> Callable[[Client], str]:
    def say(client: Client) -> str:
        assert isinstance(client, TlsClient)
        client.ehlo()
        client.starttls()
        return then(*lines)(client)

    return say


def silent(*lines: bytes) -> Callable[[Client], str]:
    """What is said in the end to a client that does nothing any more."""

    def say(client: Client) -> str:
        if lines:
            then(*lines)(client)
        return client.read()

    return say


def crowded(client: Client) -> str:
    with Client(client.socket.getpeername()[1], greeting=b"") as other:
        return other.replies[0]


MAIL = (b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>")
LONG = b"x" * 60_000
CASES = {
    "network not allowed": Case(Phase.GREETING, 'allowed_networks = ["192.0.2.1"]\n', greeting),
    "no place": Case(Phase.GREETING, "max_connections = 1\n", crowded),
    "no place for this address": Case(
        Phase.GREETING,
        "max_connections_per_address = 1\ntrusted_gateways = []\n",
        crowded,
        prelude=NO_EXEMPTION,
    ),
    "TLS required": Case(Phase.MAIL, f"{TLS}tls_required = true\n", then(MAIL[0])),
    "TLS required, recipient": Case(Phase.RCPT, f"{TLS}tls_required = true\n", then(*MAIL)),
    "TLS required, DATA": Case(Phase.DATA, f"{TLS}tls_required = true\n", then(*MAIL, b"DATA")),
    "TLS required, BDAT": Case(
        Phase.CHUNK, f"{TLS}tls_required = true\n", then(*MAIL, b"BDAT 3 LAST\r\nx")
    ),
    "no certificate": Case(
        Phase.MAIL, f'{TLS}tls_required = true\nclient_ca_file = "{{ca}}"\n', under_tls(MAIL[0])
    ),
    "no certificate, recipient": Case(
        Phase.RCPT, f'{TLS}tls_required = true\nclient_ca_file = "{{ca}}"\n', under_tls(*MAIL)
    ),
    "AUTH required": Case(Phase.MAIL, OPEN, then(MAIL[0])),
    "AUTH required, recipient": Case(Phase.RCPT, OPEN, then(*MAIL)),
    "AUTH required, DATA": Case(Phase.DATA, OPEN, then(*MAIL, b"DATA")),
    "AUTH required, BDAT": Case(Phase.CHUNK, OPEN, then(*MAIL, b"BDAT 3 LAST\r\nx")),
    "AUTH in plain text": Case(Phase.AUTH, TLS + AUTH, then(RIGHT)),
    "AUTH not offered": Case(Phase.AUTH, "", then(RIGHT)),
    "wrong password": Case(Phase.AUTH, OPEN, then(WRONG)),
    "three wrong passwords": Case(Phase.AUTH, OPEN, then(WRONG, WRONG, WRONG), prelude=QUICK),
    "too many failures": Case(Phase.AUTH, OPEN, then(WRONG, RIGHT), prelude=NO_PATIENCE),
    "AUTH cancelled": Case(Phase.AUTH, OPEN, then(b"AUTH PLAIN", b"*")),
    "AUTH, no base64": Case(Phase.AUTH, OPEN, then(b"AUTH PLAIN !")),
    "AUTH, too long": Case(Phase.AUTH, OPEN, then(b"AUTH PLAIN", b"A" * 20_000)),
    "another mechanism": Case(Phase.AUTH, OPEN, then(b"AUTH CRAM-MD5")),
    "plain text behind STARTTLS": Case(Phase.STARTTLS, TLS, then(b"STARTTLS\r\nNOOP")),
    "STARTTLS not offered": Case(Phase.STARTTLS, "", then(b"STARTTLS")),
    "silent at the beginning": Case(Phase.HELLO, "command_timeout = 1\n", silent()),
    "silent before MAIL": Case(Phase.MAIL, "command_timeout = 1\n", silent(b"NOOP")),
    "silent before RCPT": Case(Phase.RCPT, "command_timeout = 1\n", silent(MAIL[0])),
    "silent before DATA": Case(Phase.DATA, "command_timeout = 1\n", silent(*MAIL)),
    "no mail for long": Case(Phase.MAIL, "idle_timeout = 1\n", silent(b"NOOP")),
    "slow content": Case(Phase.END, "content_timeout = 1\n", silent(*MAIL, b"DATA")),
    "recipients of all sessions": Case(
        Phase.RCPT, "", then(MAIL[0], *[b"RCPT TO:<" + LONG + b">"] * 2), prelude=SMALL_MEMORY
    ),
    "recipients of all sessions, DATA": Case(
        Phase.DATA,
        "",
        then(MAIL[0], *[b"RCPT TO:<" + LONG + b">"] * 2, b"DATA"),
        prelude=SMALL_MEMORY,
    ),
    "recipients of all sessions, end": Case(
        Phase.END,
        "",
        then(MAIL[0], *[b"RCPT TO:<" + LONG + b">"] * 2, b"BDAT 3 LAST\r\nx"),
        prelude=SMALL_MEMORY,
    ),
}


@contextmanager
def client_of(case: Case, issued: tuple[Authority, Issued], directory: Path) -> Iterator[Client]:
    authority, own = issued
    settings = case.settings.format(cert=own.cert, key=own.key, ca=authority.cert)
    with receiver_daemon.running(directory / "inbox", settings, prelude=case.prelude) as receiver:
        secured = "tls_enabled" in settings
        opened = (
            TlsClient(receiver.port, authority.cert) if secured else Client(receiver.port, greeting=b"")
        )
        with opened as client:
            yield client
        assert receiver.files() == []
        assert "unexpected" not in receiver.log
        assert "s3cret" not in receiver.log


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_mail_is_held_for_it(case: Case, issued: tuple[Authority, Issued], tmp_path: Path) -> None:
    with client_of(case, issued, tmp_path) as client:
        line = case.say(client)
    outcome: Outcome | None = judge(case.phase, reply_of(line))
    assert isinstance(outcome, SessionTrouble | Temporary), f"{line}: {outcome}"
    if isinstance(outcome, Temporary):
        assert outcome.general, f"{line}: other mails have to wait too"
    assert not isinstance(outcome, SessionTrouble) or not outcome.doubtful


def test_time_is_up_in_any_phase() -> None:
    """Whenever it comes, the mail is sent again, over another connection."""
    assert set(TIMED_OUT) == {COMMAND, CONTENT, IDLE}
    for line in TIMED_OUT.values():
        for phase in Phase:
            outcome = judge(phase, reply_of(line))
            assert isinstance(outcome, Temporary)
            assert outcome.broken


def test_what_is_about_a_mail() -> None:
    """The test itself: it would see a refusal of the mail."""
    assert isinstance(judge(Phase.RCPT, reply_of("550 5.1.1 No")), Permanent)
