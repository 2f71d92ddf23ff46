"""Stock aiosmtpd that stores mail as durably as benno-smtp does.

    aiosmtpd_durable.py DIRECTORY PORT

What its users would write: a handler that gives the mail to a thread, and answers 250 when it is safe
on disk. Nothing is escaped, hashed, logged or compared with a reserve, all of which benno-smtp does.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from aiosmtpd.smtp import SMTP, Envelope, Session

from spool import Spool


class Handler:
    """Stores what it gets."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Called by aiosmtpd at the end of the content."""
        assert isinstance(envelope.content, bytes)
        lines = [f"X-REAL-MAILFROM: <{envelope.mail_from}>\r\n"]
        lines += [f"X-REAL-RCPTTO: <{recipient}>\r\n" for recipient in envelope.rcpt_tos]
        parts = ["".join(lines).encode(), envelope.content]
        await asyncio.to_thread(self._spool.store, parts)
        return "250 2.0.0 Stored"


async def _serve(path: str, port: int) -> None:
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    loop = asyncio.get_running_loop()
    handler = Handler(Spool(path))
    server = await loop.create_server(
        lambda: SMTP(handler, hostname="peer.example", loop=loop), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
