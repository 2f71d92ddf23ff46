"""What the receiver logs about its clients, one function for each event; as `benno_common.log`.

A refusal names the setting that is behind it. Never a password.
"""

from __future__ import annotations

import logging

from benno_common.seldom import and_others
from benno_common.visible import printable, quoted, safe

MAX_NAME = 64  # octets of a user's name that are shown

_log = logging.getLogger("benno")


def name(user: bytes) -> str:
    """A user's name, fit for a line of the log."""
    return safe(user[:MAX_NAME])


def tls_doubted(reason: str) -> None:
    """Clients that look at the certificate will not believe it."""
    _log.warning("the certificate is one that clients may refuse: %s", printable(reason))


def kept(what: str, reason: str) -> None:
    """New ones were asked for and cannot be used."""
    _log.error("%s in use is kept: %s", what, printable(reason))


def readable_by_all(path: str, what: str) -> None:
    """Everybody on this host can read a secret."""
    _log.warning("%s", readable(path, what))


def readable(path: str, what: str) -> str:
    path = printable(path)
    rights = f"chgrp benno {path} && chmod 640 {path}"
    return f"{path}: everybody on this host can read {what}; as root: {rights}"


def heard_by_all(path: str) -> None:
    """A file of the older program asks for AUTH, and has no TLS."""
    _log.warning(
        "%s: passwords come in plain text, as with the older program, and are worth little; "
        "set tls_enabled = true and take auth_without_tls out",
        printable(path),
    )


def mail_lacks(client: str, reply: str, setting: str, others: int) -> None:
    """A session that has not done what comes first was refused. others: that have no line."""
    _log.warning(
        "%s: refused reply=%s (%s)%s", safe(client), quoted(reply), setting, and_others(others)
    )


def login_failed(client: str, user: bytes, in_a_row: int) -> None:
    """in_a_row: how many of this address have failed."""
    _log.warning("login from %s failed: user=%s failures=%d", safe(client), name(user), in_a_row)


def login_refused(client: str, others: int) -> None:
    """Its password was not looked at. others: events that have no line."""
    _log.warning(
        "login from %s refused: too many have failed, and wait for their answer%s",
        safe(client),
        and_others(others),
    )


def fewer_places(wanted: int, places: int, descriptors: int) -> None:
    """max_connections is more than the system allows."""
    _log.warning(
        "max_connections = %d: only %d can be served, for there are %d descriptors; set LimitNOFILE=%d",
        wanted,
        places,
        descriptors,
        2 * wanted + (descriptors - 2 * places),
    )


def timed_out(client: str, setting: str, phase: str, *, under_way: bool) -> None:
    """A client took too long; under_way: a mail of its is not archived, and it comes again."""
    _log.log(
        logging.WARNING if under_way else logging.INFO,
        "%s: closed, waited for %s too long%s; see %s",
        safe(client),
        phase,
        " in the middle of a mail" if under_way else "",
        setting,
    )
