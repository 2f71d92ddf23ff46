"""Files of the older C milter (benno-milter up to 2.10), which lie in spools at the takeover.

They are named `arch.XXXXXXXX`, `arch.XXXXXXXX.msg` or end in `.eml`, but never in `.S=SIZE.eml`. They
begin with the same block, and nothing in the message is escaped: a message whose first lines are
forged `X-REAL-RCPTTO` headers cannot be told from a longer list of recipients. They are taken for
recipients, as the archiver takes them; every other forged line stays a line of the message. Lines end
at CRLF or LF, and an address stands with or without brackets (sendmail(1) mail came without).

Their names do not say how long they are. What can be told is told: libmilter reported the end of the
header for every mail, one without a body too (as Postfix and Sendmail send SMFIC_EOH), and the milter
wrote an empty line then. A file without that line was torn; one that ends in the body cannot be told.
"""

from __future__ import annotations

import re

from benno_common.mailfile import GATEWAY, MAILFROM, RCPTTO, Decoder, MailFileError, Unescaper

# Behind the line end before it.
_EMPTY_LINE = re.compile(rb"\n\r?\n")


class _Plain(Unescaper):
    """A message in which nothing was escaped. Raises MailFileError if it ends in its header."""

    def __init__(self) -> None:
        super().__init__()
        self._before = b"\n"  # the block's end, later the last two octets seen
        self._in_header = True

    def feed(self, data: bytes) -> bytes:
        if self._in_header:
            seen = self._before + data
            self._in_header = _EMPTY_LINE.search(seen) is None
            self._before = seen[-2:]
        return data

    def finish(self) -> bytes:
        if self._in_header:
            raise MailFileError("the file ends before the empty line after the header: it was torn")
        return b""


class OldDecoder(Decoder):
    """Reads such a file as mailfile.Decoder reads ours, with the same methods and errors."""

    # Blanks around a bare address are stripped in _take: one repetition beside another would cost
    # the cube of a forged line's length.
    line = re.compile(
        MAILFROM
        + rb":(?:[ \t]*<(?P<sender>[^\r\n\0]*)>[ \t]*|(?P<bare_sender>[^\r\n\0]*))\r?\n|"
        + RCPTTO
        + rb":(?:[ \t]*<(?P<recipient>[^\r\n\0]*)>[ \t]*|(?P<bare_recipient>[^\r\n\0]*))\r?\n|"
        + GATEWAY
        + rb":[ \t]*(?P<gateway>[\x21-\x7e]+)[ \t]*\r?\n"
    )

    def __init__(self) -> None:
        super().__init__()
        self._message = _Plain()

    def _take(self, line: re.Match[bytes]) -> None:
        if line.lastgroup == "bare_sender":
            self._sender = line["bare_sender"].strip(b" \t")
        elif line.lastgroup == "bare_recipient":
            self._recipients.append(line["bare_recipient"].strip(b" \t"))
        else:
            super()._take(line)
