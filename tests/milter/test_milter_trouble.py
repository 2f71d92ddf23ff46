"""A connection in trouble: faults of our own, strangers, and the end of the daemon. Driven by hand."""

from __future__ import annotations

import pytest

from benno_common.maildrop import SMALLEST_PIECE
from benno_common.networks import Networks
from benno_milter.event import Content, EndOfMessage, Event, Mail, Rcpt
from benno_milter.message import Assembly, Step
from milter_hand import CONTENT, ENVELOPE, NOT_STORED, WHOLE, Address, C, Hand, hand
from milter_packets import ABORT, END, body, macros, mail
from mta import packet

# Faults of our own


@pytest.mark.parametrize("where", ["begin", "write", "flush", "commit"])
def test_fault_of_the_drop(mta: Hand, log: list[str], where: str) -> None:
    """It is logged with the queue id, the mail is refused for the time being, the next one is taken."""
    mta.drop.faults[where] = RuntimeError("planted")
    mta.send(ENVELOPE + body(b"x" * SMALLEST_PIECE if where == "flush" else b"x") + body(b"y") + END)
    assert mta.replies() == [C, NOT_STORED]
    assert log[0] == "ERROR QID: unexpected RuntimeError: planted"
    assert all(kept.aborted for kept in mta.drop.mails)
    mta.deliver_another()


def test_fault_of_the_drop_at_the_end_of_an_empty_mail(mta: Hand, log: list[str]) -> None:
    mta.drop.faults["begin"] = RuntimeError("planted")
    mta.send(ENVELOPE + END)
    assert mta.replies() == [C, NOT_STORED]
    assert log[0] == "ERROR QID: unexpected RuntimeError: planted"
    mta.deliver_another()


@pytest.mark.parametrize("kind", [Mail, Rcpt, Content, EndOfMessage])
def test_fault_of_the_assembly(
    mta: Hand, log: list[str], monkeypatch: pytest.MonkeyPatch, kind: type[Event]
) -> None:
    handle, planted = Assembly.handle, [RuntimeError("planted")]

    def fail_once(self: Assembly, event: Event) -> list[Step]:
        if isinstance(event, kind) and planted:
            raise planted.pop()
        return handle(self, event)

    monkeypatch.setattr(Assembly, "handle", fail_once)
    mta.send(macros(b"M", b"i", b"QID") + WHOLE)
    assert mta.replies() == [C, NOT_STORED]
    assert log[0] == "ERROR QID: unexpected RuntimeError: planted"
    mta.deliver_another()


def test_fault_that_has_no_answer(mta: Hand, log: list[str]) -> None:
    """At MAIL, the MTA takes a lost connection for a temporary failure."""
    mta.drop.faults["refusal"] = RuntimeError("planted")
    mta.send(WHOLE)
    assert mta.replies() == []
    assert mta.transport.ended == "aborted"
    assert log[0] == "ERROR NOQUEUE: unexpected RuntimeError: planted"


def test_violation_of_the_protocol(mta: Hand, log: list[str]) -> None:
    mta.send(ENVELOPE + CONTENT + packet(b"!") + END)
    assert mta.transport.ended == "aborted"
    reason = "a packet of 1 octets with unknown command b'!'"
    assert log == [f"WARNING MTA: protocol violated, connection closed: {reason}"]
    mta.leave()
    assert all(kept.aborted for kept in mta.drop.mails)


# Who may connect

PEERS: dict[str, tuple[Address, str | None]] = {
    "loopback": (("127.0.0.1", 4711), None),
    "private": (("192.168.7.8", 4711), None),
    "IPv6 loopback": (("::1", 4711), None),
    "mapped": (("::ffff:10.0.0.1", 4711), None),
    "link-local with its interface": (("fe80::1%eth0", 4711), None),
    "public": (("198.51.100.7", 4711), "198.51.100.7"),
    "public IPv6": (("2001:db8::7", 4711), "2001:db8::7"),
    "public, mapped": (("::ffff:198.51.100.7", 4711), "198.51.100.7"),
    "Unix socket": ("", None),
    "Unix socket with a name": ("/run/mta.sock", None),
    "Unix socket with an abstract name": (b"\0mta", None),
}


@pytest.mark.parametrize(("peer", "refused"), PEERS.values(), ids=PEERS)
def test_peer(log: list[str], peer: Address, refused: str | None) -> None:
    with hand(peer) as mta:
        if refused is None:
            assert log == []
            mta.deliver_another()
        else:
            allowed = str(Networks()).replace(",", " ")
            hint = f"to allow it too, start with --allow {allowed} {refused}"
            assert log == [f"WARNING connect from {refused} refused: {hint}"]
            assert mta.transport.ended == "aborted"
        mta.leave()
        assert mta.shared.empty.is_set()


# The end of the daemon


def test_drain_ends_an_idle_connection(mta: Hand) -> None:
    mta.connection.drain()
    assert mta.transport.ended == "closed"


DRAINED_AT = {
    "MAIL": mail(b"<a@b>"),
    "the envelope": ENVELOPE,
    "the content": ENVELOPE + CONTENT,
    "half a packet": ENVELOPE + CONTENT[:-3],
}


@pytest.mark.parametrize("sent", DRAINED_AT.values(), ids=DRAINED_AT)
def test_drain_lets_a_mail_end(mta: Hand, sent: bytes) -> None:
    mta.send(sent)
    mta.connection.drain()
    assert mta.transport.ended is None
    mta.send(WHOLE[len(sent) :])
    assert mta.transport.ended is None
    mta.drop.mails[0].keep()
    assert mta.replies() == [C, C]
    assert mta.transport.ended == "closed"


def test_drain_while_a_mail_is_made_durable(mta: Hand) -> None:
    mta.send(WHOLE)
    mta.connection.drain()
    assert mta.transport.ended is None
    mta.drop.mails[0].keep()
    assert mta.transport.ended == "closed"
    assert mta.replies() == [C, C]


def test_drain_while_a_piece_is_flushed(mta: Hand) -> None:
    mta.send(ENVELOPE + body(b"x" * SMALLEST_PIECE))
    mta.connection.drain()
    mta.drop.mails[0].flushed()
    assert mta.transport.ended is None
    mta.send(ABORT)
    assert mta.drop.mails[0].aborted
    assert mta.transport.ended == "closed"


def test_drain_ends_with_a_refused_mail(mta: Hand) -> None:
    mta.send(mail(b"<a\rb>") + CONTENT)
    mta.connection.drain()
    assert mta.transport.ended is None
    mta.send(END)
    assert mta.transport.ended == "closed"


@pytest.mark.parametrize("peer", ["/run/mta.sock", ("127.0.0.1", 4711)], ids=["Unix", "TCP"])
def test_quick_acknowledgement(peer: Address) -> None:
    """Over TCP it is asked for whenever something was read; a Unix socket knows no such option."""
    with hand(peer) as mta:
        for part in (ENVELOPE, CONTENT):
            mta.transport.socket.options.clear()
            mta.send(part)
            assert ("TCP_QUICKACK" in mta.transport.socket.options) == isinstance(peer, tuple)


def test_close_at_once(mta: Hand, log: list[str]) -> None:
    """A mail whose end has come is still kept."""
    mta.send(WHOLE)
    mta.connection.close()
    assert mta.transport.ended == "aborted"
    mta.leave()
    mta.drop.mails[0].keep()
    assert log[0].endswith(" answered=no")
