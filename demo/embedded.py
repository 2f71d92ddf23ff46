"""An MTA for machines without one: SMTP in front, the MTA's side of the milter protocol behind.

It answers the end of data with what the milter said, as Postfix does, and keeps nothing itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP
from aiosmtpd.smtp import Envelope as Session
from aiosmtpd.smtp import Session as Peer

from mta import MTA, Header, message_of
from waiting import free_port

_HEADER = re.compile(rb"([!-9;-~]+):((?:[^\r\n]|\r\n[ \t])*)\r\n")
_LINE_LIMIT = 1 << 20


@contextmanager
def running(milter: str) -> Iterator[int]:
    """Start one before the milter at this socket; its port."""
    port = free_port()
    controller = Controller(
        _Handler(milter),
        hostname="127.0.0.1",
        port=port,
        server_hostname="mx.demo.example",
        data_size_limit=0,
    )
    SMTP.line_length_limit = _LINE_LIMIT
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


class _Handler:
    def __init__(self, milter: str) -> None:
        self._milter = milter

    async def handle_DATA(self, server: SMTP, session: Peer, envelope: Session) -> str:  # noqa: ARG002, N802 - aiosmtpd calls it so
        """The reply to the end of data."""
        message = envelope.original_content
        assert isinstance(message, bytes)
        recipients = [recipient.encode() for recipient in envelope.rcpt_tos]
        sender = (
            (envelope.mail_from or "").encode().removeprefix(b"<>")
        )  # how aiosmtpd names the null sender
        try:
            return await asyncio.to_thread(hand_over, self._milter, sender, recipients, message)
        except (OSError, EOFError) as error:
            return f"451 4.7.1 the milter does not answer: {error}"


def hand_over(milter: str, sender: bytes, recipients: list[bytes], message: bytes) -> str:
    """Give a mail to the milter as an MTA does; the SMTP reply. Raises OSError, EOFError.

    milter: path of its socket. Addresses without brackets.
    """
    headers, body = split(message)
    if message_of(headers, body) != message:
        return "554 5.6.0 this message would have to be altered for the milter protocol"
    with MTA(milter) as mta:
        mta.negotiate()
        verdict = mta.deliver(
            b"<%b>" % sender, [b"<%b>" % recipient for recipient in recipients], headers, body
        )
    return "250 2.0.0 archived" if verdict == "accepted" else verdict or "451 4.7.1 try again"


def split(message: bytes) -> tuple[list[Header], bytes]:
    """Headers as the milter protocol carries them, folded with a bare LF, and the body."""
    headers: list[Header] = []
    position = 0
    while match := _HEADER.match(message, position):
        headers.append((match[1], match[2].replace(b"\r\n", b"\n")))
        position = match.end()
    blank = 2 if message.startswith(b"\r\n", position) else 0
    return headers, message[position + blank :]
