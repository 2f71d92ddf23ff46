"""The way of a mail through several programs, and what each of them holds or has logged of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dkim

import daemon
import forwarding
import postfix
from benno_common.envelope import Envelope
from benno_common.mailfile import Decoder
from directories import contents
from forwarding import Run

# main.cf: mail that was accepted stays in the queue, where it can be looked at.
HOLD = "smtpd_end_of_data_restrictions = check_client_access static:HOLD\n"


@contextmanager
def front(
    root: Path, *options: str, extra: str = ""
) -> Iterator[tuple[postfix.Postfix, daemon.Daemon]]:
    """A Postfix and a milter that it uses. options: of the milter; extra: lines of main.cf."""
    sockets = root / "mta" / "queue" / "b"  # short: a socket path has 107 octets at the most
    sockets.mkdir(parents=True)
    for parent in (*list(sockets.parents)[:3], sockets):
        parent.chmod(0o755)
    with (
        daemon.running(
            root / "spool", "-m", "666", *options, socket=f"unix:{sockets}/b.sock"
        ) as milter,
        postfix.running(root / "mta", "unix:b/b.sock", extra=extra) as mta,
    ):
        yield mta, milter


def relay(mta: postfix.Postfix, port: int) -> None:
    """From now on it delivers all mail by SMTP to this port of loopback."""
    etc = str(mta.root / "etc")
    for change in (
        ["-M", "-e", "smtp/unix=smtp unix - - n - 20 smtp"],
        ["-e", "default_transport=smtp:", f"relayhost=[127.0.0.1]:{port}"],
    ):
        subprocess.run(["postconf", "-c", etc, *change], check=True, env=mta.environment)
    subprocess.run(
        ["postfix", "-c", etc, "reload"], check=True, env=mta.environment, capture_output=True
    )


def forward(spool: Path, port: int) -> Run:
    """Run benno-milter2smtp to the end, in a process of its own."""
    command = forwarding.command(spool, f"127.0.0.1:{port}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return Run(done.returncode, done.stdout, done.stderr)


def read(path: Path) -> tuple[Envelope, bytes]:
    """Envelope and message of a mail file. Raises MailFileError."""
    decoder = Decoder()
    message = decoder.feed(path.read_bytes()) + decoder.finish()
    assert decoder.envelope is not None
    return decoder.envelope, message


def mails(directory: Path) -> dict[str, tuple[Envelope, bytes]]:
    """All that lie in a directory, by file name. Raises MailFileError for what is none."""
    return {path.name: read(path) for path in contents(directory)}


@dataclass(frozen=True)
class Queued:
    """A mail as Postfix holds it: addresses without quotes, message without its own Received line."""

    sender: bytes
    recipients: list[bytes]
    message: bytes


_QUEUED = re.compile(
    rb"\*\*\* ENVELOPE RECORDS \w+/(?P<id>\w+) \*\*\*\n(?P<envelope>.*?)"
    rb"^\*\*\* MESSAGE CONTENTS \w+/(?P=id) \*\*\*\n(?P<message>.*?)"
    rb"^\*\*\* HEADER EXTRACTED \w+/(?P=id) \*\*\*\n",
    re.DOTALL | re.MULTILINE,
)


def queued(mta: postfix.Postfix, queue_ids: Iterable[str]) -> dict[str, Queued]:
    """These mails in its queue, by queue id. The message has CRLF."""
    command = ["postcat", "-c", str(mta.root / "etc"), "-q", *queue_ids]
    text = subprocess.run(command, check=True, capture_output=True, env=mta.environment).stdout
    found = {}
    for mail in _QUEUED.finditer(text):
        (sender,) = re.findall(rb"^sender: (.*)$", mail["envelope"], re.MULTILINE)
        recipients = re.findall(rb"^recipient: (.*)$", mail["envelope"], re.MULTILINE)
        message = without_received(mail["message"].replace(b"\n", b"\r\n"))
        found[mail["id"].decode()] = Queued(sender, recipients, message)
    return found


def without_received(message: bytes) -> bytes:
    """Less the Received line that the last server wrote before it."""
    received = re.match(rb"Received: .*\r\n(?:[ \t].*\r\n)*", message)
    assert received, message[:200]
    return message[received.end() :]


def queued_envelope(mta: postfix.Postfix, queue_id: str) -> tuple[bytes, list[bytes]]:
    """Sender and recipients as Postfix holds them: without quotes."""
    text = _postcat(mta, "-eq", queue_id)
    (sender,) = re.findall(rb"^sender: (.*)$", text, re.MULTILINE)
    return sender, re.findall(rb"^recipient: (.*)$", text, re.MULTILINE)


def _postcat(mta: postfix.Postfix, flags: str, queue_id: str) -> bytes:
    command = ["postcat", "-c", str(mta.root / "etc"), flags, queue_id]
    return subprocess.run(command, check=True, capture_output=True, env=mta.environment).stdout


def stored(log: str) -> dict[str, tuple[str, str]]:
    """What a milter or receiver has logged: the sender's name of each mail → file, SHA-256."""
    lines = re.findall(r"(\S+): stored file=(\S+) .* sha256=(\w+) .*answered=yes", log)
    return {ident: (file, sha256) for ident, file, sha256 in lines}


def sent(log: str) -> dict[str, tuple[str, str]]:
    """What a forwarder has logged: file → SHA-256, reply."""
    lines = re.findall(r"(\S+): sent .* sha256=(\w+) .*reply=\"(.*)\"", log)
    return {file: (sha256, reply) for file, sha256, reply in lines}


def reasons(log: str) -> dict[str, str]:
    """File → why a forwarder kept or held it."""
    return dict(re.findall(r"(\S+): (?:kept|held) .*reason=\"(.*)\"", log))


@dataclass(frozen=True)
class Signer:
    """DKIM of kind simple/simple, which forgives not one octet. record: public key, as in the DNS."""

    key: bytes
    record: bytes

    @classmethod
    def new(cls) -> Signer:
        key = _openssl(["genrsa", "-traditional", "1024"])
        public = _openssl(["rsa", "-pubout"], key).splitlines()[1:-1]
        return cls(key, b"v=DKIM1; k=rsa; p=" + b"".join(public))

    def sign(self, message: bytes) -> bytes:
        """The message with a signature before it."""
        simple = (b"simple", b"simple")
        signature = dkim.sign(message, b"s", b"example.org", self.key, canonicalize=simple)
        return bytes(signature) + message

    def verifies(self, message: bytes) -> bool:
        return bool(dkim.verify(message, dnsfunc=lambda *_, **__: self.record))


def _openssl(arguments: list[str], stdin: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *arguments], input=stdin, check=True, capture_output=True)
    return done.stdout
