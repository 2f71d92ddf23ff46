"""A milter on purepythonmilter's own server that writes each mail into a directory, durably.

    purepythonmilter_spool.py DIRECTORY PORT

What its users would write: hooks, no macros, replies only where they matter, the disk in a thread. A
hook is told no connection; the context variable of the library's own log has it. The library knows no
Unix sockets. Nothing is escaped or logged.
"""

from __future__ import annotations

import asyncio
import logging
import sys

import purepythonmilter as ppm
from purepythonmilter.api.models import connection_id_context
from purepythonmilter.protocol.commands import (
    Abort,
    BodyChunk,
    EndOfHeaders,
    EndOfMessage,
    Header,
    MailFrom,
    Quit,
    RcptTo,
)
from purepythonmilter.protocol.responses import (
    AbstractResponse,
    Continue,
    TempFailWithCode,
    VerdictOrContinue,
)

from spool import Spool

_mails: dict[object, list[bytes]] = {}
_spool = Spool(sys.argv[1])


def _parts() -> list[bytes]:
    """Of the mail of this connection."""
    return _mails.setdefault(connection_id_context.get(), [])


async def on_mail(command: MailFrom) -> VerdictOrContinue:
    _parts()[:] = [b"X-REAL-MAILFROM: %s\r\n" % command.data_raw.partition(b"\0")[0]]
    return Continue()


async def on_recipient(command: RcptTo) -> None:
    _parts().append(b"X-REAL-RCPTTO: %s\r\n" % command.data_raw.partition(b"\0")[0])


async def on_header(command: Header) -> None:
    name, value, _ = command.data_raw.split(b"\0")
    _parts().append(b"%s:%s\r\n" % (name, value.replace(b"\n", b"\r\n")))


async def on_end_of_headers(_command: EndOfHeaders) -> None:
    _parts().append(b"\r\n")


async def on_body(command: BodyChunk) -> None:
    _parts().append(command.data_raw)


async def on_end(_command: EndOfMessage) -> AbstractResponse:
    try:
        await asyncio.to_thread(_spool.store, _parts())
    except OSError:
        return TempFailWithCode(primary_code=(4, 5, 1), enhanced_code=(4, 3, 0), text="not stored")
    return Continue()


async def on_abort(_command: Abort) -> None:
    _parts().clear()


async def on_quit(_command: Quit) -> None:
    _mails.pop(connection_id_context.get(), None)


logging.disable()
ppm.PurePythonMilter(
    name="archive",
    hook_on_mail_from=on_mail,
    hook_on_rcpt_to=on_recipient,
    hook_on_header=on_header,
    hook_on_end_of_headers=on_end_of_headers,
    hook_on_body_chunk=on_body,
    hook_on_end_of_message=on_end,
    hook_on_abort=on_abort,
    hook_on_quit=on_quit,
    headers_with_leading_space=True,
).run_server(host="127.0.0.1", port=int(sys.argv[2]))
