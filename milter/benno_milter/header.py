"""The data of one header packet, NAME NUL VALUE NUL, as the header line that the MTA holds.

Name and value are joined by a colon. With SMFIP_HDR_LEADSPC the value brings its own blank; without it
the MTA has taken exactly one away, and one is put in. Lines of a folded value come with bare LF and get
CRLF. The packet may come in pieces, and none of them is held but an unfinished name.
"""

from __future__ import annotations

from benno_milter.event import ProtocolError

# A name must fit into memory; no MTA passes on one of this length.
MAX_NAME = 64 * 1024


def with_crlf(value: bytes) -> bytes:
    """Each line end that is LF alone becomes CRLF."""
    if b"\n" not in value:
        return value
    return value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


class HeaderText:
    """One header: `feed()` the packet's data. separator: what stands between name and value."""

    def __init__(self, separator: bytes) -> None:
        self._separator = separator  # until the name has ended
        self._held = b""  # an unfinished name, or a CR that LF may follow

    def feed(self, data: bytes, *, last: bool) -> bytes:
        """Octets of the header line. Raises ProtocolError."""
        data = self._held + data
        self._held = b""
        begin = b""
        if self._separator:
            name, end, data = data.partition(b"\0")
            if len(name) > MAX_NAME or (last and not end):
                raise ProtocolError("a header without a value")
            if not end:
                self._held = name
                return b""
            begin, self._separator = name + self._separator, b""
        return begin + self._value(data, last=last)

    def _value(self, value: bytes, *, last: bool) -> bytes:
        if last:
            if value[-1:] != b"\0":
                raise ProtocolError("a header whose value does not end in NUL")
            value = value[:-1]
        elif value[-1:] == b"\r":
            value, self._held = value[:-1], b"\r"
        if b"\0" in value:
            raise ProtocolError("a header with NUL in its value")
        value = with_crlf(value)
        return value + b"\r\n" if last else value
