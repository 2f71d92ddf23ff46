"""Message content as it comes over the wire: DATA (RFC 5321 4.5.2) and BDAT (RFC 3030).

Both decoders are streams: pieces of the wire in, octets of the message out, a few octets held at the
most, whatever the length of a line. What came behind the end stands in `rest`: with PIPELINING
these are the next commands. This module does no I/O.

DATA: a line ends at CR LF and at nothing else, and the content begins at the beginning of a line.

* A line of exactly one dot ends the mail. So only CR LF . CR LF does, or . CR LF as the very first
  octets, which make an empty mail. The CR LF before the dot belongs to the message.
* Every other line that begins with a dot loses this one dot, which the client has put there.
* All other octets stay as they are. A bare LF or a bare CR is an octet like any other: a dot after it
  begins no line, so it ends nothing and none is taken away. What some servers take for the end of the
  mail, and smugglers send (LF . LF, LF . CR LF, CR . CR, CR LF . LF, CR LF . CR), is content here.
* In CR LF . LF and CR LF . CR the dot begins a line on which something follows. It is taken off as from
  any other such line: a client that has these octets to send doubles the dot.

BDAT: a chunk is a number of octets, whatever they are.
"""

from __future__ import annotations

_CRLF = b"\r\n"
_STUFFED = b"\r\n."
_END = b"\r\n.\r\n"


class DataDecoder:
    """The content of a mail that is sent by DATA: `feed()` pieces of the wire until `ended`.

    rest: what came behind the end of the mail. A mail that never gets to its end was not sent:
    throw away what was returned of it.
    """

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
        # The beginning of an _END that the next octets may complete. The content is read as if a
        # CRLF stood before it, so that its first line is a line like the others.
        self._held = _CRLF
        self._not_sent = len(_CRLF)

    def feed(self, data: bytes) -> bytes:
        """The octets of the message that are certain now; after the end, all goes into `rest`."""
        if self.ended:
            self.rest += data
            return b""
        if self._held:
            data = self._held + data
        # Looking for one octet is 50 times as fast as for three, and an attachment has no dots.
        dot = data.find(_STUFFED) if b"." in data else -1
        data = self._cut_and_unstuff(data, dot) if dot >= 0 else self._hold(data)
        if self._not_sent and data:
            data = data[self._not_sent :]
            self._not_sent = 0
        return data

    def _cut_and_unstuff(self, data: bytes, dot: int) -> bytes:
        """dot: where the first _STUFFED stands, which in most mails is the _END."""
        end = dot if data.startswith(_END, dot) else data.find(_END, dot)
        if end < 0:
            data = self._hold(data)
        else:
            self.ended = True
            self.rest = data[end + len(_END) :]
            data = data[: end + len(_CRLF)]
        return data if end == dot else data.replace(_STUFFED, _CRLF)

    def _hold(self, data: bytes) -> bytes:
        """Keeps back the longest end of the data with which an _END can begin."""
        for length in range(len(_END) - 1, 0, -1):
            if data.endswith(_END[:length]):
                self._held = _END[:length]
                return data[:-length]
        self._held = b""
        return data


class ChunkDecoder:
    """The content of one BDAT chunk of `size` octets: `feed()` pieces of the wire until `ended`.

    A chunk of no octets has ended before it begins. rest: what came behind the chunk.
    """

    def __init__(self, size: int) -> None:
        self.rest = b""
        self._missing = size

    @property
    def ended(self) -> bool:
        return self._missing == 0

    def feed(self, data: bytes) -> bytes:
        """The octets of the chunk among the data."""
        chunk = data[: self._missing]
        self._missing -= len(chunk)
        self.rest += data[len(chunk) :]
        return chunk
