"""What would lose or double mail in a configuration of Postfix, and what else is worth knowing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benno_milter import asking
from benno_milter.finding import Finding, Problem, Severity, merged
from benno_milter.postfix import Configuration, Door, Reach, Socket, items, milters
from benno_milter.route import Route

_COPIES = ("always_bcc", "sender_bcc_maps", "recipient_bcc_maps")


def judge(configuration: Configuration, socket: Socket) -> tuple[list[Finding], str]:
    """The findings, the gravest first, and what was looked at, in a line."""
    route = Route(configuration, _in_use(configuration, socket))
    found = [*route.findings(), *_silence(route.socket), *asking.findings(route), *_notes(route)]
    return merged(found), _checked(route)


def _in_use(configuration: Configuration, socket: Socket) -> Socket:
    """Where nobody said where benno-milter listens, the TCP address that is asked, if no path is."""
    route = Route(configuration, socket)
    asked = [
        milter.address
        for door in [*route.entries, *route.back]
        for milter in door.milters
        if route.reach(door, milter) is Reach.REACHED
    ]
    if socket.given or not asked or not all(one.startswith("inet:") for one in asked):
        return socket
    host, _, port = asked[0].removeprefix("inet:").rpartition(":")
    return Socket(host=host, port=port)


def _silence(socket: Socket) -> Iterator[Finding]:
    if not socket.answers:
        why = "Where Postfix asks there, all mail meets the default action. Whether it runs, systemctl"
        why += " status benno-milter says. Does it listen elsewhere? No SOCKET is in"
        why += " /etc/default/benno-milter, in override.conf or another drop-in; say it:"
        why += " --check-postfix -p inet:22500."
        yield Problem(Severity.STOPS, f"Nobody listens at {socket}", why).in_main()


def _checked(route: Route) -> str:
    parts = [f"mail comes in at {_names(route.entries)}" if route.entries else "no way in was found"]
    if route.back:
        parts.append(f"comes back from a content filter at {_names(route.back)}")
    source = f" ({route.socket.source})" if route.socket.source else ""
    parts.append(f"benno-milter at {route.socket}{source}")
    return "; ".join(parts) + "."


def _names(doors: list[Door]) -> str:
    named = {"pickup": "pickup (sendmail(1))"}
    return ", ".join(named.get(door.service.command, str(door)) for door in doors)


def _notes(route: Route) -> Iterator[Finding]:
    main = route.configuration.main
    if not route.entries:
        why = "master.cf has no smtpd and no pickup: this is not the configuration of a mail server."
        yield _note("No way in was found", why)
    if main.get("enable_long_queue_ids") == "no":
        why = "They recur within weeks, so that an old line of the log may speak of another mail."
        yield _note("Queue ids are short", why, "enable_long_queue_ids = yes")
    if instances := main.get("multi_instance_directories"):
        why = "Each has settings of its own: benno-milter --check-postfix --postfix-config DIRECTORY."
        yield _note(f"There are other instances of Postfix: {instances}", why)
    if "bounce" not in items(main.get("internal_mail_filter_classes", "")):
        why = "Postfix makes them itself, and no milter sees them. If they shall be archived:"
        yield _note("Bounces are not archived", why, "internal_mail_filter_classes = bounce")
    for parameter in _COPIES:
        if value := main.get(parameter):
            why = "The copies are made after the milters were asked: no archived envelope names them."
            yield _note(f"{parameter} = {value} makes copies", why)
    yield from _maps(route)
    yield from _others(main, route)
    for text in route.configuration.unread:
        why = "postconf does not show what it means. Put a blank between -o and name=value."
        yield _note(f"master.cf, {text}: not understood", why)


def _note(what: str, why: str, *lines: str) -> Finding:
    return Problem(Severity.NOTE, what, why).in_main(*lines)


def _maps(route: Route) -> Iterator[Finding]:
    for door in route.entries + route.back:
        if door.parameter == "smtpd_milters" and (maps := door.service.get("smtpd_milter_maps")):
            why = "Clients in it have their own list of milters, or none where it says DISABLE. "
            why += "benno-milter must stand in each of its values."
            yield Problem(Severity.NOTE, f"smtpd_milter_maps = {maps}", why).in_main(at=door)


def _others(main: Mapping[str, str], route: Route) -> Iterator[Finding]:
    """Whether main.cf's two lists name other milters beside benno-milter."""
    lists = [main.get(parameter, "") for parameter in ("smtpd_milters", "non_smtpd_milters")]
    doors = [*route.entries, *route.back]
    foreign = [
        {one.address for one in milters(text) if route.reach(doors[0], one) is Reach.FOREIGN}
        for text in lists
        if doors
    ]
    if all(lists) and doors and foreign[0] != foreign[1]:
        why = "That may be meant so. Beside benno-milter there are for SMTP: "
        why += f"{_others_named(foreign[0])}; for sendmail(1): {_others_named(foreign[1])}."
        yield _note("smtpd_milters and non_smtpd_milters differ", why)


def _others_named(addresses: set[str]) -> str:
    return ", ".join(sorted(addresses)) or "none"
