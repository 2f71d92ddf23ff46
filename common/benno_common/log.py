"""The log: one line for each mail event, through one function for each event.

A line begins with the queue id and goes on with key=value. Levels mean something: info is normal,
warning wants somebody to look soon, error means that mail is waiting for a person. Never the content of
a message, never a password; addresses and reasons are made safe, so that nobody forges a log line.
Where it goes is decided in `logtarget`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from benno_common.envelope import Envelope
from benno_common.seldom import and_others
from benno_common.visible import printable, quoted, safe

NO_QUEUE_ID = "NOQUEUE"

_log = logging.getLogger("benno")


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a mail: file name, octets of the message, its SHA-256, foreign lines escaped."""

    name: str
    size: int
    sha256: str
    escaped: int


def mail_stored(
    queue_id: str | None,
    envelope: Envelope,
    stored: Stored,
    seconds: float,
    *,
    answered: bool,
    client: str | None = None,
    about: str = "",
) -> None:
    """A mail is durable. answered: somebody heard of it, else it may come twice.

    about: what else is known of how it came, as `key=value`, fit for the log.
    """
    _log.log(
        logging.INFO if answered else logging.WARNING,
        "%s: stored file=%s%s%s from=<%s> nrcpt=%d size=%d sha256=%s%s ms=%.1f answered=%s",
        safe(queue_id or NO_QUEUE_ID),
        stored.name,
        f" client={safe(client)}" if client else "",
        f" {about}" if about else "",
        safe(envelope.sender),
        len(envelope.recipients),
        stored.size,
        stored.sha256,
        f" foreign={stored.escaped}" if stored.escaped else "",
        1000 * seconds,
        "yes" if answered else "no",
    )


def mail_refused(
    queue_id: str | None,
    *,
    sender: bytes,
    recipients: int,
    reply: str,
    reason: str,
    client: str | None = None,
) -> None:
    """A mail was not stored, and the client was told `reply`."""
    _log.warning(
        "%s: refused%s from=<%s> nrcpt=%d reply=%s reason=%s",
        safe(queue_id or NO_QUEUE_ID),
        f" client={safe(client)}" if client else "",
        safe(sender),
        recipients,
        quoted(reply),
        quoted(reason),
    )


def mail_sent(
    name: str,
    envelope: Envelope,
    *,
    host: str,
    size: int,
    sha256: str,
    seconds: float,
    reply: str,
    altered: bool = False,
) -> None:
    """The archive host has taken the mail in the file `name`: `reply` came to the end of data.

    altered: the line ends of the message, as was allowed; size and sha256 are those before.
    """
    _log.info(
        "%s: sent host=%s from=<%s> nrcpt=%d size=%d sha256=%s%s ms=%.1f reply=%s",
        safe(name),
        safe(host),
        safe(envelope.sender),
        len(envelope.recipients),
        size,
        sha256,
        " altered=yes" if altered else "",
        1000 * seconds,
        quoted(reply),
    )


def mail_kept(name: str, *, host: str, reason: str) -> None:
    """A mail stays in the spool for the next run."""
    _log.warning("%s: kept host=%s reason=%s", safe(name), safe(host), quoted(reason))


def mail_held(name: str, held: str, *, reason: str) -> None:
    """A mail was put aside under the name `held`, for a person to look at."""
    _log.error("%s: held file=%s reason=%s", safe(name), safe(held), quoted(reason))


def foreign_files(path: str, names: Sequence[str]) -> None:
    """Some files in the spool are no mail, and are neither sent nor touched."""
    shown = " ".join(safe(name.encode(errors="surrogateescape")) for name in names)
    _log.warning("%s: what is no mail stays there: %s", printable(path), shown)


def host_failed(host: str, reason: str) -> None:
    """An archive host takes no mail now, and why; what waits for it stays in the spool."""
    _log.error("%s takes no mail: %s", safe(host), printable(reason))


def run_ended(*, sent: int, kept: int, held: int, size: int, seconds: float) -> None:
    """The summary of a forwarder's run."""
    _log.info("ended: sent=%d kept=%d held=%d bytes=%d seconds=%.1f", sent, kept, held, size, seconds)


def peer_refused(peer: str, reason: str, others: int = 0) -> None:
    """A client may not connect. reason: names the option to change. others: that have no line."""
    _log.warning("connect from %s refused: %s%s", safe(peer), printable(reason), and_others(others))


def connections_wait(reason: str) -> None:
    """None can be accepted, and it is tried again each second."""
    _log.error("new connections wait: %s", printable(reason))


def protocol_violated(peer: str, reason: str) -> None:
    """A client broke the protocol; its connection is closed."""
    _log.warning("%s: protocol violated, connection closed: %s", safe(peer), printable(reason))


def inexact(peer: str) -> None:
    """The mail server takes a blank off header values, and the octets of a mail cannot be told."""
    _log.warning(
        "%s: takes the blank off header values, so that mail is not archived octet by octet; "
        "Postfix: set milter_protocol = 6",
        safe(peer),
    )


def unexpected(queue_id: str | None, error: BaseException) -> None:
    """A fault of this program, answered temporarily."""
    # Not repr(): that of an encoding error shows the text, which may be a message.
    what = printable(f"{type(error).__name__}: {error}")
    _log.error("%s: unexpected %s", safe(queue_id or NO_QUEUE_ID), what, exc_info=error)


def directory_changed(path: str, reason: str | None) -> None:
    """The directory cannot take mail any more (reason), or can again (None)."""
    if reason is None:
        _log.warning("%s takes mail again", printable(path))
    else:
        _log.error(
            "%s takes no mail, all is refused until it does: %s", printable(path), printable(reason)
        )


def short_of_space(path: str, shortage: str) -> None:
    """At the start: new mail is refused until there is space."""
    _log.warning("%s: new mail is refused until there is space: %s", printable(path), shortage)


def config_outdated(path: str, lines: Sequence[str]) -> None:
    """A file of the older program was understood; what to write instead. Never a password."""
    shown = [line.partition("=")[0] + "= ..." if "pass" in line else line for line in lines]
    _log.warning(
        "%s: values without quotes, as the older program had them; write: %s",
        printable(path),
        printable(", ".join(shown)),
    )


def config_not_utf8(path: str) -> None:
    """A file of the older program was read as Java would."""
    _log.warning("%s: not UTF-8, taken for Latin-1; save the file as UTF-8", printable(path))


def open_to_all(path: str) -> None:
    """A file of the older program does not say who may connect, and so everybody may, as before."""
    _log.warning(
        "%s: everybody who reaches the port may archive any mail, as with the older program; "
        "name your mail servers in allowed_networks",
        printable(path),
    )


def tls_failed(client: str, reason: str) -> None:
    """TLS with a client, or with the archive host, did not come about; reason: what became of it."""
    _log.warning("TLS with %s failed: %s", safe(client), printable(reason))


def envelope_lost(path: str) -> None:
    """The envelope is not written into the files."""
    _log.warning(
        "%s: envelope_header = false: senders and recipients, BCC among them, are lost", printable(path)
    )


def cut_off(connections: int, seconds: float) -> None:
    """At the end: mail servers in the middle of a mail were hung up on, and come again."""
    _log.warning("%d connections with mail under way closed after %.0f s", connections, seconds)


def statistics(*, mails: int, size: int, refused: int, mean_ms: float, worst_ms: float) -> None:
    _log.info(
        "statistics: mails=%d bytes=%d refused=%d mean_ms=%.1f worst_ms=%.1f",
        mails,
        size,
        refused,
        mean_ms,
        worst_ms,
    )


def lifecycle(event: str, **settings: object) -> None:
    """The program starts, listens, stops; with its effective settings."""
    _log.info(
        "%s", " ".join([event, *(f"{key}={quoted(str(value))}" for key, value in settings.items())])
    )


def fatal(reason: str) -> None:
    """The program cannot start, or must end."""
    _log.error("%s", printable(reason))
