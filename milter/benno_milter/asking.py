"""How a door asks benno-milter: in which place, by which address, and what if nobody answers.

What Postfix does while a milter does not answer is `default_action` in the milter's braces, else
`milter_default_action` of the asking service; likewise for the protocol and the time limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from benno_milter.finding import Finding, Problem, Severity
from benno_milter.postfix import Door, Milter, Reach, is_below
from benno_milter.route import Route

_AWAY = "While benno-milter does not answer, "
_ACTIONS = {
    "accept": (Severity.LOSES, _AWAY + "mail passes unarchived."),
    "quarantine": (
        Severity.LOSES,
        _AWAY + "mail is put on hold unarchived; postsuper -H lets it go on unarchived.",
    ),
    "reject": (Severity.LOSES, _AWAY + "mail is refused for good and goes back to its sender."),
    "shutdown": (
        Severity.NOTE,
        _AWAY
        + "Postfix says 421 and closes the connection, and clients come again. It is the default of"
        " newer versions; tempfail is milder: it answers 451.",
    ),
}
# milter8_conf_error() of milter8.c
_REFUSED = (Severity.STOPS, "Postfix answers 451 to all mail.")
_WITHOUT_ADDRESS = {
    "accept": (Severity.NOTE, "Postfix warns in its log each time, and goes on without it."),
    "quarantine": (Severity.STOPS, "Postfix puts all mail on hold."),
    "shutdown": (Severity.STOPS, "Postfix answers 421 to all mail."),
}
_UNKNOWN_ACTION = (Severity.NOTE, "Postfix knows no such action, and answers 451; write what is meant.")

# benno-milter reports progress every 10 s while the disk is slow; Postfix's default is 300 s.
_TOO_SHORT, _SHORT = 30, 300
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def findings(route: Route) -> Iterator[Finding]:
    """For all doors; what benno-milter is told before a proxy filter counts for nothing."""
    for door in [*route.entries, *route.back, *route.unclear]:
        yield from _no_address(route, door)
        ours = [
            place
            for place, milter in enumerate(() if door.proxy else door.milters)
            if route.is_ours(door, milter)
        ]
        for place in ours:
            yield from _address(route, door, door.milters[place])
            for problem in _action(door, door.milters[place]):
                yield route.with_list(problem, door)
            yield from _protocol(route, door, door.milters[place])
            yield from _time(route, door, door.milters[place])
        for problem in _place(route, door, ours):
            yield route.with_list(problem, door)


def _no_address(route: Route, door: Door) -> Iterator[Finding]:
    for milter in door.milters:
        if route.reach(door, milter) is Reach.NONE:
            action, _ = _setting(door, milter, "default_action")
            severity, why = _WITHOUT_ADDRESS.get(action, _REFUSED)
            why += " Leave it out, or write it as unix:PATH or inet:HOST:PORT; the settings of a milter"
            why += " stand with it in braces."
            what = f"{milter.address or '{ }'} in {door.parameter} is no milter"
            problem = Problem(severity, what, why)
            yield route.with_list(problem, door) if route.asks(door) else problem.in_main(at=door)


def _place(route: Route, door: Door, ours: list[int]) -> Iterator[Problem]:
    behind = door.milters[ours[0] + 1 :] if ours else ()
    later = [milter for milter in behind if route.reach(door, milter) is Reach.FOREIGN]
    if len(ours) > 1:
        what = "benno-milter stands in the list more than once"
        yield Problem(Severity.DOUBLES, what, "Each mail is archived as often.")
    elif later:
        names = ", ".join(milter.address for milter in later)
        why = (
            f"What {names} changes, a DKIM signature say, is missing in the archive; what it refuses or"
        )
        why += " defers is archived all the same, each time that it comes."
        yield Problem(Severity.DOUBLES, "benno-milter is not the last milter", why)


def _address(route: Route, door: Door, milter: Milter) -> Iterator[Finding]:
    path, queue = route.socket.path, route.configuration.queue_directory
    source = f"; {route.socket.source} says so" if route.socket.source else ""
    root = "in the chroot: there" if door.asking.chroot else "without chroot: there"
    said = {
        Reach.OTHER_ROOT: f"{door.asking} runs {root} the path does not lead to {path}.",
        Reach.ELSEWHERE: f"benno-milter listens at {route.socket}{source}.",
        Reach.MISSPELT: "Postfix writes unix:PATH and inet:HOST:PORT, for IPv6 too; PORT@HOST is"
        " Sendmail's way.",
    }.get(route.reach(door, milter))
    if not said:
        return
    what = f"{milter.address} does not lead to benno-milter"
    why = f"{said} Nobody answers, and all mail meets the default action."
    if path and door.asking.chroot and not is_below(path, queue):
        why += f" No path leads out of the chroot; let benno-milter listen below {queue}."
        line = f"SOCKET={queue}/benno-milter/benno-milter.sock"
        problem = Problem(Severity.STOPS, what, why)
        yield Finding(problem, (str(door),), "/etc/default/benno-milter", (line,))
    else:
        yield route.with_list(Problem(Severity.STOPS, what, why), door)


def _action(door: Door, milter: Milter) -> Iterator[Problem]:
    action, _ = _setting(door, milter, "default_action")
    if action not in {"tempfail", ""}:
        severity, why = _ACTIONS.get(action, _UNKNOWN_ACTION)
        yield Problem(severity, f"The default action for benno-milter is {action}", why)


def _protocol(route: Route, door: Door, milter: Milter) -> Iterator[Finding]:
    version, _ = _setting(door, milter, "protocol")
    if re.match(r"[2-5]\b", version):
        what = f"The milter protocol is version {version}"
        why = "Before version 6 the blanks before header values are lost: not all octets are archived."
        yield _with_setting(route, Problem(Severity.NOTE, what, why), door, milter, "protocol=6")


def _time(route: Route, door: Door, milter: Milter) -> Iterator[Finding]:
    limit, _ = _setting(door, milter, "content_timeout")
    parts = re.fullmatch(r"(\d+)([smhdw]?)", limit)
    if not parts or (seconds := int(parts[1]) * _UNITS[parts[2] or "s"]) >= _SHORT:
        return
    problem = Problem(
        Severity.DOUBLES if seconds < _TOO_SHORT else Severity.NOTE,
        f"Postfix waits for benno-milter for {limit} only",
        "On a slow disk Postfix gives up while the mail is being stored, and the sender comes again.",
    )
    yield _with_setting(route, problem, door, milter, "content_timeout=300s")


def _setting(door: Door, milter: Milter, name: str) -> tuple[str, str]:
    """The value in force for `name`, and where it stands: in the list, master.cf or main.cf."""
    if name in milter.settings:
        return milter.settings[name], "list"
    parameter = f"milter_{name}"
    place = "master.cf" if parameter in door.asking.own else "main.cf"
    return door.asking.get(parameter), place


def _with_setting(route: Route, problem: Problem, door: Door, milter: Milter, right: str) -> Finding:
    """A finding that ends when a setting, in the place that it stands in now, is `right`."""
    name, _, value = right.partition("=")
    _, place = _setting(door, milter, name)
    if place == "list":
        return route.with_list(problem, door)
    if place == "master.cf":
        return problem.in_master(f"-o milter_{name}={value}", at=door.asking)
    return problem.in_main(f"milter_{name} = {value}", at=door)
