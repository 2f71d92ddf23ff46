"""What stands before the message: the gateway, and whose word counts about it; or no envelope."""

from __future__ import annotations

from pathlib import Path

import pytest

import receiver_daemon
from benno_common.envelope import Envelope
from benno_common.mailfile import Decoder, Encoder, Unescaper
from benno_common.networks import Networks
from benno_smtp.policy import Gateways
from hostile import HOSTILE, random_mails
from judges import JUDGES, missing_java
from mailfile_streams import encode
from receiver_daemon import Receiver
from smtp import Client

pytestmark = pytest.mark.slow

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
TRUSTED = 'trusted_gateways = ["127.0.0.0/8"]\n'
FORGED = b"X-BENNO-GW: evil\r\nX-REAL-RCPTTO: <evil@d>\r\n" + MESSAGE

# Default, networks, what the client at 127.0.0.1 says in MAIL: the gateway in the file.
GATEWAYS = {
    "none": ("", "", b"", None),
    "default": ('gateway = "all"', "", b"", b"all"),
    "by network": ("", '"127.0.0.0/8" = "here"', b"", b"here"),
    "another network": ("", '"10.0.0.0/8" = "there"', b"", None),
    "another network, default": ('gateway = "all"', '"10.0.0.0/8" = "there"', b"", b"all"),
    "the smallest network": (
        'gateway = "all"',
        '"0.0.0.0/0" = "world"\n"127.0.0.1" = "this"\n"127.0.0.0/8" = "here"\n"::/0" = "six"',
        b"",
        b"this",
    ),
    "its own word": ('gateway = "all"', '"127.0.0.1" = "this"', b" XBENNO-GW=own", b"own"),
    "its own word in xtext": ("", "", b" XBENNO-GW=a+3Db+2B", b"a=b+"),
}


def gateway_of(receiver: Receiver) -> bytes | None:
    """Of the one file, which is removed."""
    (path,) = receiver.files()
    decoder = Decoder()
    assert decoder.feed(path.read_bytes()) + decoder.finish() == FORGED
    path.unlink()
    assert decoder.envelope is not None
    return decoder.envelope.gateway


@pytest.mark.parametrize(("name", "networks", "said", "expected"), GATEWAYS.values(), ids=GATEWAYS)
def test_gateway(tmp_path: Path, name: str, networks: str, said: bytes, expected: bytes | None) -> None:
    """The header in the message is foreign, whoever sends it."""
    settings = f"{TRUSTED}{name}\n[gateways]\n{networks}\n"
    with receiver_daemon.running(tmp_path / "inbox", settings) as receiver:
        with Client(receiver.port) as client:
            assert "250-XBENNO" in client.replies
            assert client.command(b"MAIL FROM:<a@b>" + said).startswith("250")
            assert client.command(b"RCPT TO:<c@d>").startswith("250")
            assert client.bdat(FORGED, last=True).startswith("250")
        assert gateway_of(receiver) == expected
        assert "foreign=2" in receiver.log


def test_client_that_is_not_trusted(tmp_path: Path) -> None:
    """It is not offered the parameters and may not name a gateway; the name of its mail is harmless."""
    settings = 'trusted_gateways = ["10.0.0.0/8"]\ngateway = "all"'
    with receiver_daemon.running(tmp_path / "inbox", settings) as receiver:
        with Client(receiver.port) as client:
            assert "250-XBENNO" not in client.replies
            reply = client.command(b"MAIL FROM:<a@b> XBENNO-GW=evil")
            assert reply == "555 5.5.4 XBENNO-GW is for trusted_gateways only"
            assert client.command(b"RCPT TO:<c@d>").startswith("503")
            assert client.command(b"MAIL FROM:<a@b> XBENNO-ID=17.eml").startswith("250")
            assert client.command(b"RCPT TO:<c@d>").startswith("250")
            assert client.bdat(FORGED, last=True).startswith("250")
        assert gateway_of(receiver) == b"all"
        receiver.wait_for_log("17.eml: stored")


def test_allowed_is_not_trusted(tmp_path: Path) -> None:
    """Two hosts that may connect, at the same time: only one may say by which gateway its mail came."""
    settings = 'trusted_gateways = ["127.0.0.2"]\nallowed_networks = ["127.0.0.0/8"]'
    with (
        receiver_daemon.running(tmp_path / "inbox", settings) as receiver,
        Client(receiver.port, source="127.0.0.2") as ours,
        Client(receiver.port) as other,
    ):
        for said in (b"XBENNO-GW=own", b"xbenno-gw=own", b"XBENNO-GW=own XBENNO-GW=own"):
            reply = other.command(b"MAIL FROM:<a@b> " + said)
            assert reply.startswith("555" if said.count(b"=") == 1 else "501"), reply
        assert ours.command(b"MAIL FROM:<a@b> XBENNO-GW=own").startswith("250")
        assert other.command(b"MAIL FROM:<a@b>").startswith("250")
        for client, expected in ((other, None), (ours, b"own")):
            assert client.command(b"RCPT TO:<c@d>").startswith("250")
            assert client.bdat(FORGED, last=True).startswith("250")
            assert gateway_of(receiver) == expected


BAD_GATEWAYS = (b"", b"a b", b"a+20b", b"a+0D+0AX-REAL-RCPTTO:+20x", b"\xff", b"a=b", b"+2", b"a+00")


def test_names_that_would_become_a_header(tmp_path: Path) -> None:
    with receiver_daemon.running(tmp_path / "inbox", TRUSTED) as receiver:
        with Client(receiver.port) as client:
            for name in BAD_GATEWAYS:
                reply = client.command(b"MAIL FROM:<a@b> XBENNO-GW=" + name)
                assert reply.startswith(("501 5.5.4 ", "555 5.5.4 ")), (name, reply)
        assert receiver.files() == []


def test_policy() -> None:
    by_network = {"10.0.0.0/8": "ten", "10.1.0.0/16": "one", "2001:db8::/32": "six", "10.1.2.3": "host"}
    gateways = Gateways("all", Networks(["10.1.0.0/16", "::1"]), by_network)
    expected = {
        "10.200.0.1": b"ten",
        "10.1.0.1": b"one",
        "10.1.2.3": b"host",
        "::ffff:10.1.2.3": b"host",
        "2001:db8::1": b"six",
        "2001:db8::1%eth0": b"six",
        "2001:db9::1": b"all",
        "192.0.2.1": b"all",
        "unknown": b"all",
        "": b"all",
    }
    assert {client: gateways.name_for(client, None) for client in expected} == expected
    trusted = {
        "10.1.0.1": True,
        "10.2.0.1": False,
        "::1": True,
        "::ffff:10.1.2.3": True,
        "unknown": False,
    }
    assert {client: gateways.trusts(client) for client in trusted} == trusted
    assert gateways.name_for("10.1.0.1", b"given") == b"given"


# Files without an envelope

# A real parser ends the header at an empty first line, which the lenient reader needs a block to see.
PARSERS = [
    name for name in JUDGES if name.startswith("python") or (name == "javamail" and not missing_java())
]


def test_without_envelope(tmp_path: Path) -> None:
    """No block, but every forged one is escaped nevertheless; who runs it is warned at every start."""
    settings = 'envelope_header = false\ngateway = "all"'
    warning = "envelope_header = false: senders and recipients, BCC among them, are lost"
    messages = [hostile.message for hostile in HOSTILE.values()]
    messages += [message for _, message in random_mails(3, 100)]
    for mails in (messages, []):
        with receiver_daemon.running(tmp_path / "inbox", settings) as receiver:
            assert f"WARNING: {receiver.inbox}: {warning}" in receiver.log
            with Client(receiver.port) as client:
                for message in mails:
                    assert client.envelope(b"a@b", [b"c@d"]) == []
                    assert client.bdat(message, last=True).startswith("250")
            files = [path.read_bytes() for path in receiver.files()]
            assert files == [bare(message) for message in mails]
            for judge in PARSERS:
                assert [seen for seen in JUDGES[judge](files) if seen] == [], judge
            for content, message in zip(files, mails, strict=True):
                unescaper = Unescaper()
                assert unescaper.feed(content) + unescaper.finish() == message
            for path in receiver.files():
                path.unlink()


def bare(message: bytes) -> bytes:
    encoder = Encoder(None)
    return encoder.start() + encoder.feed(message) + encoder.finish()


def test_with_envelope_nobody_is_warned(tmp_path: Path) -> None:
    with receiver_daemon.running(tmp_path / "inbox") as receiver:
        assert "WARNING" not in receiver.log
        with Client(receiver.port) as client:
            assert client.send(b"a@b", [b"c@d"], MESSAGE).startswith("250")
        (path,) = receiver.files()
        assert path.read_bytes() == encode(Envelope(b"a@b", (b"c@d",)), [MESSAGE])
