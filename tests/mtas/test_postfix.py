"""A real Postfix in front: what it queues is what lies in the spool, with the envelope it was given."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dkim
import pytest

import daemon
import postfix
from corpus import Case, corpus
from smtp import Client, queue_id
from waiting import wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not postfix.available(), reason="needs root and postfix (apt install postfix)"),
]

# Ways to connect: socket option of the milter, chrooted smtpd.
WAYS = [("unix", False), ("unix", True), ("inet", True)]


@contextmanager
def _pair(
    tmp_path: Path, way: str = "unix", *, chroot: bool = False, extra: str = ""
) -> Iterator[tuple[postfix.Postfix, daemon.Daemon]]:
    """A milter and a Postfix that uses it, connected as the README says."""
    sockets = tmp_path / "mta" / "queue" / "b"  # short: a socket path has 107 octets at the most
    sockets.mkdir(parents=True)
    for parent in (*list(sockets.parents)[:3], sockets):
        parent.chmod(0o755)
    socket = f"unix:{sockets}/b.sock" if way == "unix" else "inet:0@127.0.0.1"
    with daemon.running(tmp_path / "spool", "-m", "666", socket=socket) as milter:
        address = "unix:b/b.sock"
        if way == "inet":
            address = "inet:127.0.0.1:{1}".format(*milter.address)
        with postfix.running(tmp_path / "mta", address, chroot=chroot, extra=extra) as mta:
            yield mta, milter


def _queued(mta: postfix.Postfix, queue_id: str) -> bytes:
    """What Postfix holds of a mail, with CRLF and without its own Received line."""
    command = ["postcat", "-c", str(mta.root / "etc"), "-hbq", queue_id]
    text = subprocess.run(command, check=True, capture_output=True, env=mta.environment).stdout
    received, end = re.match(rb"Received: .*\n(?:[ \t].*\n)*", text), b"\r\n"
    assert received, text[:200]
    return text[received.end() :].replace(b"\n", end)


def _archived(milter: daemon.Daemon) -> dict[str, tuple[bytes, tuple[bytes, ...], bytes]]:
    """What lies in the spool, by queue id."""
    lines = re.findall(r"(\S+): stored file=(\S+) .* answered=yes", milter.log)
    return {queue_id: daemon.read(milter.spool / name) for queue_id, name in lines}


HOLD = "smtpd_end_of_data_restrictions = check_client_access static:HOLD\n"


@pytest.mark.parametrize(("way", "chroot"), WAYS)
def test_corpus(tmp_path: Path, way: str, chroot: bool) -> None:
    cases = corpus(200)
    queued: dict[str, Case] = {}
    with _pair(tmp_path, way, chroot=chroot, extra=HOLD) as (mta, milter):
        with Client(mta.port) as client:
            for case in cases:
                reply = client.send(case.sender, case.recipients, case.message)
                assert reply.startswith("250"), (case.name, reply)
                queued[queue_id(reply)] = case
        wait_for(lambda: milter.log.count("stored file=") == len(cases), "a log line for each mail")
        archived = _archived(milter)
        assert archived.keys() == queued.keys()
        assert len(milter.files()) == len(cases)
        for identity, case in queued.items():
            sender, recipients, message = archived[identity]
            assert (sender, recipients) == (case.sender, case.recipients), case.name
            assert message == _queued(mta, identity), case.name


def test_octets_as_sent(tmp_path: Path) -> None:
    """Postfix itself changes nothing in a mail that is complete, so neither may the whole way."""
    cases = [case for case in corpus(200) if case.name.startswith("mixed")]
    with _pair(tmp_path) as (mta, milter):
        with Client(mta.port) as client:
            for case in cases:
                client.send(case.sender, case.recipients, case.message)
        assert milter.mails() == [(case.sender, case.recipients, case.message) for case in cases]


C, E = b"c@d.example", b"e@f.example"
SENDMAIL = [
    pytest.param(["-f", "a@b.example", "c@d.example"], b"a@b.example", [C], id="plain"),
    pytest.param(["-f", "", "c@d.example"], b"", [C], id="null-sender"),
    pytest.param(["-f", "a@b.example", "c@d.example", "e@f.example"], b"a@b.example", [C, E], id="two"),
    pytest.param(["-f", "a@b", "-t"], b"a@b", [b"to@x", b"cc@x", b"bcc@x"], id="headers"),
]


@pytest.mark.parametrize(("arguments", "sender", "recipients"), SENDMAIL)
def test_sendmail(tmp_path: Path, arguments: list[str], sender: bytes, recipients: list[bytes]) -> None:
    """Mail from cron and web applications comes without brackets, and from cleanup(8)."""
    message = (
        b"To: to@x\nCc: cc@x\nBcc: bcc@x\nFrom: a@b.example\nSubject: s\n\n.\n..\nGr\xfc\xdfe\nFrom x\n"
    )
    with _pair(tmp_path) as (mta, milter):
        done = mta.sendmail("-i", *arguments, message=message)
        assert done.returncode == 0, done.stderr
        wait_for(milter.files, "the mail in the spool")
        ((stored_sender, stored_recipients, stored),) = milter.mails()
        assert stored_sender == sender
        assert sorted(stored_recipients) == sorted(recipients)
        assert stored.endswith(b"\r\n\r\n.\r\n..\r\nGr\xfc\xdfe\r\nFrom x\r\n")
        assert b"Subject: s\r\n" in stored


def test_swaks(tmp_path: Path) -> None:
    if not shutil.which("swaks"):
        pytest.skip("needs swaks (apt install swaks)")
    with _pair(tmp_path) as (mta, milter):
        command = ["swaks", "--server", f"127.0.0.1:{mta.port}", "--from", "a@b.example"]
        command += ["--to", "c@d.example,bcc@d.example", "--body", "from swaks", "--attach", "-"]
        subprocess.run(command, input=b"\0\1\2", check=True, capture_output=True)
        ((sender, recipients, message),) = milter.mails()
        assert (sender, recipients) == (b"a@b.example", (b"c@d.example", b"bcc@d.example"))
        assert b"from swaks" in message


def test_many_sessions(tmp_path: Path) -> None:
    with _pair(tmp_path) as (mta, milter):
        load = [
            "smtp-source",
            "-s",
            "8",
            "-m",
            "300",
            "-l",
            "5000",
            "-f",
            "a@b.example",
            "-t",
            "c@d.example",
        ]
        subprocess.run([*load, f"127.0.0.1:{mta.port}"], check=True)
        assert len(milter.files()) == 300
        assert {mail[:2] for mail in milter.mails()} == {(b"a@b.example", (b"c@d.example",))}


def test_sessions_with_everything_between_the_mails(tmp_path: Path) -> None:
    """RSET, a refused recipient, an empty session, a client that hangs up: nothing of it is kept."""
    refuse = (
        "smtpd_recipient_restrictions = check_recipient_access inline:{no@x.example=REJECT}, permit\n"
    )
    message = b"Subject: kept\r\n\r\nkept\r\n"
    with _pair(tmp_path, extra=refuse) as (mta, milter):
        with Client(mta.port) as client:
            client.envelope(b"reset@x.example", [b"reset@y.example"])
            client.command(b"RSET")
            assert client.send(b"a@x.example", [b"one@y.example"], message).startswith("250")
            client.envelope(b"b@x.example", [b"no@x.example", b"two@y.example"])
            client.command(b"DATA")
            client.socket.sendall(message + b".\r\n")
            assert client.command(b"NOOP").startswith("250")
            client.envelope(b"gone@x.example", [b"gone@y.example"])
            client.command(b"DATA")
            client.socket.sendall(b"Subject: never ended\r\n\r\n")
        with Client(mta.port):
            pass
        wait_for(
            lambda: mta.log.count("disconnect from") + mta.log.count("lost connection") >= 3, "the ends"
        )
        envelopes = [mail[:2] for mail in milter.mails()]
        assert envelopes == [
            (b"a@x.example", (b"one@y.example",)),
            (b"b@x.example", (b"two@y.example",)),
        ]


def test_milter_down(tmp_path: Path) -> None:
    """Without the milter mail is deferred, not passed unarchived; when it is back, mail flows."""
    message = b"Subject: x\r\n\r\nx\r\n"
    with _pair(tmp_path) as (mta, milter):
        assert milter.stop() == 0
        with Client(mta.port) as client:
            assert client.send(b"a@b.example", [b"c@d.example"], message).startswith("451")
        assert mta.sendmail("-f", "a@b.example", "later@d.example", message=message).returncode == 0
        with daemon.running(milter.spool, "-m", "666", socket=milter.socket) as again:
            with Client(mta.port) as client:
                assert client.send(b"a@b.example", [b"c@d.example"], message).startswith("250")
            mta.flush()
            wait_for(lambda: len(again.files()) == 2, "both mails in the spool")
            assert {mail[1] for mail in again.mails()} == {(b"c@d.example",), (b"later@d.example",)}


def test_refusal_keeps_the_session_alive(tmp_path: Path) -> None:
    """A mail that cannot be stored gets 451; the next one of the same SMTP session is stored."""
    message = b"Subject: x\r\n\r\nx\r\n"
    with _pair(tmp_path) as (mta, milter), Client(mta.port) as client:
        assert client.send(b"a@b.example", [b"c@d.example"], message).startswith("250")
        aside = milter.spool.with_name("aside")
        milter.spool.rename(aside)
        assert client.send(b"a@b.example", [b"lost@d.example"], message).startswith("451 4.3.0")
        aside.rename(milter.spool)
        wait_for(
            lambda: client.send(b"a@b.example", [b"e@d.example"], message)[:3] == "250", "recovery"
        )
        assert [mail[1] for mail in milter.mails()] == [(b"c@d.example",), (b"e@d.example",)]


def test_dkim(tmp_path: Path) -> None:
    """A simple/simple signature, which forgives not one octet, verifies on what lies in the spool."""
    key = subprocess.run(
        ["openssl", "genrsa", "-traditional", "2048"], check=True, capture_output=True
    ).stdout
    public = subprocess.run(
        ["openssl", "rsa", "-pubout"], input=key, check=True, capture_output=True
    ).stdout
    record = b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])
    cases = [
        case for case in corpus(200) if not case.name.startswith(("bare", "nul", "long-line", "forged"))
    ]
    with _pair(tmp_path) as (mta, milter):
        with Client(mta.port) as client:
            for case in cases:
                signature = dkim.sign(
                    case.message, b"s", b"example.org", key, canonicalize=(b"simple", b"simple")
                )
                client.send(case.sender, case.recipients, signature + case.message)
        mails = milter.mails()
        assert len(mails) == len(cases)
        for case, (_, _, message) in zip(cases, mails, strict=True):
            assert dkim.verify(message, dnsfunc=lambda *_, **__: record), case.name
            assert not dkim.verify(
                message.replace(b"Date: ", b"Date:  ", 1), dnsfunc=lambda *_, **__: record
            ), case.name
