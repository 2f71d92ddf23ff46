"""The path of MAIL and RCPT: an address in angle brackets (RFC 5321 4.1.2), read on octets.

Where the address ends decides which text is address and which is parameter:

* A path that the grammar describes ends where the grammar says: a quoted string may hold brackets and
  blanks. The grammar is read generously: any word for a domain, none at all, 8-bit octets, any length.
* Another path (several @, blanks, a lone quote, brackets) ends at the first bracket with a blank or
  nothing behind it. It is refused where it could be read otherwise: quotes and backslashes, if they
  were meant, would make it end elsewhere; a bracket is closed and another one opened; KEYWORD= stands
  behind a blank in it.

The receiver reads addresses by these rules, and the forwarder sends only what they read back. This
module does no I/O.
"""

from __future__ import annotations

import re

_BLANK = rb"[ \t]"
_END = rb"(?=[ \t]|\Z)"
_WORD = rb'[^\x00-\x20\x7f"<>\\@]+'
_ROUTE_WORD = rb'[^\x00-\x20\x7f"<>\\@,:]+'
_LITERAL = rb"\[[^\x00-\x20\x7f\[\]\\]*\]"
_QUOTED_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_HOP = rb"@(?:" + _LITERAL + rb"|" + _ROUTE_WORD + rb")"
_ROUTE = _HOP + rb"(?:," + _HOP + rb")*:"
_MAILBOX = rb"(?:" + _QUOTED_STRING + rb"|" + _WORD + rb")(?:@(?:" + _LITERAL + rb"|" + _WORD + rb"))?"
_GRAMMATICAL = re.compile(rb"<((?:(?:" + _ROUTE + rb")?" + _MAILBOX + rb")?)>" + _END, re.DOTALL)
_CLOSING = re.compile(rb">" + _END)
_KEYWORD = rb"[A-Za-z0-9][A-Za-z0-9-]*"
_CLOSING_OUTSIDE_QUOTES = re.compile(
    rb"<(?:" + _QUOTED_STRING + rb'|\\.|[^"\\>]|>(?![ \t]|\Z))*>' + _END, re.DOTALL
)
_LIKE_A_PARAMETER = re.compile(_BLANK + _KEYWORD + rb"=")


def split_path(text: bytes) -> tuple[bytes, int] | None:
    """The address between the brackets, and where the path ends; None where nobody could tell.

    text: begins with the opening bracket; parameters may follow.
    """
    path = _GRAMMATICAL.match(text)
    if path:
        return path[1], path.end()
    closing = _CLOSING.search(text)
    if not text.startswith(b"<") or not closing or _is_doubtful(text, closing.end()):
        return None
    return text[1 : closing.start()], closing.end()


def _is_doubtful(text: bytes, end: int) -> bool:
    """Whether a path that no grammar describes could be meant to end elsewhere than at `end`."""
    quoted = _CLOSING_OUTSIDE_QUOTES.match(text)
    return (
        (quoted is not None and quoted.end() != end)
        or text.find(b">") < text.rfind(b"<", 0, end)
        or _LIKE_A_PARAMETER.search(text, 0, end) is not None
    )
