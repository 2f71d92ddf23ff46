"""The negotiation: nothing is agreed on that the MTA did not offer, or it aborts the handshake.

An offer and an answer are three words: version, actions (what a milter may do to the mail), and
protocol flags (what need not be sent or answered). The names are those of Sendmail's mfdef.h.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benno_milter.event import Ignored, Negotiation, ProtocolError
from milter_packets import events_of, negotiated, negotiation
from mta import ALL_ACTIONS, ALL_PROTOCOL, LEADING_SPACE, NO_REPLIES, packet

SETSYMLIST = 0x100
NOT_SENT = 0x0001 | 0x0002 | 0x0100 | 0x0200  # SMFIP_NOCONNECT, NOHELO, NOUNKNOWN, NODATA
NR_MAIL = 0x4000
SKIP, RCPT_REJ = 0x0400, 0x0800
MDS_256K, MDS_1M = 0x10000000, 0x20000000  # Sendmail's larger packets
LARGE = MDS_256K | MDS_1M
WISHED = NOT_SENT | NO_REPLIES & ~NR_MAIL | LEADING_SPACE
MACROS = b"\0\0\0\5i\0"  # at SMFIM_EOM: i


def answer(*offer: int) -> tuple[int, int, int, bytes]:
    """Version, actions, flags and list of macros that an offer is answered with."""
    (event,) = events_of(negotiation(*offer))
    assert isinstance(event, Negotiation)
    length, command, version, actions, flags = struct.unpack_from("!IcIII", event.reply)
    assert (length, command) == (len(event.reply) - 4, b"O")
    return version, actions, flags, event.reply[17:]


OFFERS = {
    "Postfix": ((6, ALL_ACTIONS, ALL_PROTOCOL), (6, SETSYMLIST, WISHED, MACROS)),
    "Sendmail with 256 KiB chunks": (
        (6, ALL_ACTIONS, ALL_PROTOCOL | MDS_256K),
        (6, SETSYMLIST, WISHED | MDS_256K, MACROS),
    ),
    "Sendmail with 1 MiB chunks": (
        (6, ALL_ACTIONS, ALL_PROTOCOL | MDS_1M),
        (6, SETSYMLIST, WISHED | MDS_1M, MACROS),
    ),
    "unknown bits": (
        (6, 0xFFFFFFFF, 0xFFFFFFFF & ~LARGE),
        (6, SETSYMLIST, WISHED, MACROS),
    ),
    "everything": ((6, 0xFFFFFFFF, 0xFFFFFFFF), (6, SETSYMLIST, WISHED | LARGE, MACROS)),
    "a later version": ((7, ALL_ACTIONS, ALL_PROTOCOL), (6, SETSYMLIST, WISHED, MACROS)),
    "nothing": ((6, 0, 0), (6, 0, 0, b"")),
    "version 2": ((2, 0x3F, 0x7F), (2, 0, 0x03, b"")),
    "version 3": ((3, 0x3F, 0x1FF), (3, 0, 0x183, b"")),
    "version 4": ((4, 0x3F, 0x3FF), (4, 0, 0x383, b"")),
    "version 5": ((5, 0xFF, 0xFF3FF), (5, 0, 0xFB383, b"")),
    "no SETSYMLIST": ((6, 0xFF, ALL_PROTOCOL), (6, 0, WISHED, b"")),
    "SETSYMLIST alone": ((6, SETSYMLIST, 0), (6, SETSYMLIST, 0, MACROS)),
    "no leading space": (
        (6, ALL_ACTIONS, ALL_PROTOCOL & ~LEADING_SPACE),
        (6, SETSYMLIST, WISHED & ~LEADING_SPACE, MACROS),
    ),
    "no replies to be spared": (
        (6, ALL_ACTIONS, ALL_PROTOCOL & ~NO_REPLIES),
        (6, SETSYMLIST, NOT_SENT | LEADING_SPACE, MACROS),
    ),
}


@pytest.mark.parametrize(("offer", "expected"), OFFERS.values(), ids=OFFERS)
def test_answer(offer: tuple[int, int, int], expected: tuple[int, int, int, bytes]) -> None:
    assert answer(*offer) == expected


def test_what_is_never_asked_for() -> None:
    _, actions, flags, _ = answer(6, 0xFFFFFFFF, 0xFFFFFFFF)
    assert actions & ~SETSYMLIST == 0, "a right to change mail"
    assert flags & NR_MAIL == 0, "MAIL must be answered, it is where mail is refused early"
    assert flags & (SKIP | RCPT_REJ) == 0


@pytest.mark.parametrize("bit", range(32))
def test_one_bit_only_or_all_but_one(bit: int) -> None:
    one = 1 << bit
    for offered in (one, 0xFFFFFFFF ^ one):
        _, actions, flags, _ = answer(6, offered, offered)
        assert (actions & ~offered, flags & ~offered) == (0, 0), f"offered {offered:#x} only"


words = st.integers(0, 0xFFFFFFFF)


@given(st.integers(2, 6), words, words)
@settings(derandomize=True, deadline=None, max_examples=50)
def test_any_offer(offered_version: int, offered_actions: int, offered_flags: int) -> None:
    version, actions, flags, symbols = answer(offered_version, offered_actions, offered_flags)
    assert version == offered_version
    assert actions == offered_actions & SETSYMLIST
    assert flags == offered_flags & (WISHED | LARGE)
    assert symbols == (MACROS if actions else b"")


def test_offer_with_more_data() -> None:
    """A later version may append something; what is known stays where it is."""
    offer = packet(b"O", struct.pack("!III", 6, 0x1FF, ALL_PROTOCOL) + b"more")
    assert events_of(offer) == events_of(negotiation())


def test_the_last_negotiation_counts() -> None:
    wire, helo = negotiated(), packet(b"H", b"mx\0")
    assert events_of(helo, wire=wire) == [Ignored(owed=False)]
    events_of(negotiation(2, 0, 0), wire=wire)
    assert events_of(helo, wire=wire) == [Ignored(owed=True)]


@pytest.mark.parametrize("octets", [0, 1, 4, 8, 11])
def test_short_offer(octets: int) -> None:
    with pytest.raises(ProtocolError, match=f"a negotiation of {octets} octets"):
        events_of(packet(b"O", bytes(octets)))
