"""Whether mail is archived exactly once on each way through Postfix.

Mail comes in through a door: an smtpd, sendmail(1) by way of pickup, qmqpd. Without a content filter
benno-milter must be asked there. A filter gives the mail back through a second smtpd, the re-injection:

* A filter after the queue (`content_filter`) gets mail that was archived already where it came in; at
  the re-injection it would be archived again, with different octets.
* A filter before the queue (`smtpd_proxy_filter`): where mail comes in, milters are told MAIL and RCPT,
  then ABORT, and no content. It is archived at the re-injection, or not at all, silently.

A re-injection is recognised by what the guides write for it: an smtpd without a filter of its own, not
at a public port, that listens on loopback only, or switches an inherited content_filter off, or narrows
mynetworks; or an smtpd whose port is the filter's target. One that other hosts may use too is taken for
a re-injection only where there is no better one; what others send there must be archived.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from benno_milter.finding import Finding, Problem, Severity
from benno_milter.postfix import (
    Configuration,
    Door,
    Milter,
    Reach,
    Socket,
    doors,
    is_loopback,
    items,
    milters,
    reach,
    written,
)

_PUBLIC = {"smtp", "25", "smtpd", "submission", "587", "smtps", "submissions", "465"}
_AFTER_A_FILTER = {"no_unknown_recipient_checks", "no_header_body_checks"}
_OVERRIDES = "receive_override_options"

_MISSING = "benno-milter is not asked"
_UNSEEN = "A filter before the queue, and benno-milter is not asked where the mail comes back"
_LIKE_BACK = "It looks like the way back from a content filter"
_OTHERS = (
    f"{_LIKE_BACK}, but others may send mail there, and theirs is not archived. If none do, let it"
    " listen on loopback, or let its mynetworks name the filter's host only. If others do:"
)
_TWICE = "Mail is archived where it comes in, and again when the filter gives it back"


class Route:
    """All doors of a configuration.

    back: the re-injections. open: what may be one, but hosts without a filter may use it. unclear: what
    looks like one though no filter is set; a filter may also be named by FILTER in an access table,
    where it is not seen. entries: all doors that are neither in back nor unclear.
    """

    def __init__(self, configuration: Configuration, socket: Socket) -> None:
        self.configuration = configuration
        self.socket = socket
        every = list(doors(configuration))
        filters = [door.proxy or door.filter for door in every if door.proxy or door.filter]
        targets = {one.rpartition(":")[2] for one in filters}
        hosts = set(map(_host, filters))
        inner = [door for door in every if filters and _is_inner(door)]
        target = [door for door in every if _is_plain(door) and door.service.port in targets]
        self.open = [door for door in inner if door not in target and not _is_closed(door, hosts)]
        closed = [door for door in every if door in inner + target and door not in self.open]
        self.back = closed or self.open
        self.unclear = [] if filters else [door for door in every if _looks_filtered(door)]
        self.entries = [door for door in every if door not in self.back + self.unclear]

    def reach(self, door: Door, milter: Milter) -> Reach:
        """Where a milter leads that is asked for this door."""
        return reach(milter, door.asking, self.configuration.queue_directory, self.socket)

    def is_ours(self, door: Door, milter: Milter) -> bool:
        """Whether it is benno-milter, be its address right or wrong."""
        return self.reach(door, milter) not in {Reach.FOREIGN, Reach.NONE}

    def asks(self, door: Door) -> bool:
        """Whether benno-milter stands in the list of this door."""
        return any(self.is_ours(door, milter) for milter in door.milters)

    def with_list(self, problem: Problem, door: Door, file: str = "") -> Finding:
        """A finding that ends when the door's list, in the file that it is in now, is right.

        The other milters stay as they are; benno-milter goes last.
        """
        now = door.asking.get(door.parameter)
        others = [
            member
            for member, milter in zip(items(now), milters(now), strict=True)
            if self.reach(door, milter) is Reach.FOREIGN
        ]
        ours = written(self.socket, self.configuration.queue_directory)
        right = f"{door.parameter} = {', '.join([*others, ours])}"
        if (file or ("master.cf" if door.parameter in door.asking.own else "main.cf")) == "main.cf":
            return problem.in_main(right, at=door)
        return problem.in_master(f"-o {{ {right} }}", at=door.asking)

    def findings(self) -> Iterator[Finding]:
        """Where mail is archived not at all, or twice."""
        for door in self.entries:
            if door.proxy:
                yield from self._before_the_queue(door)
            elif self.asks(door):
                yield from self._after_the_queue(door)
            elif door.filter and self._archives_on_the_way_back():
                yield from map(self._missing, itertools.filterfalse(self.asks, self.back))
            else:
                yield self._missing(door)
        if self.back == self.open and not any(entry.proxy for entry in self.entries):
            yield from map(_anybody, itertools.filterfalse(self.asks, self.back))
        for door in filter(self.asks, self.open if self.back != self.open else ()):
            why = "If a filter gives mail back there that was archived before, it is archived twice."
            yield Problem(Severity.NOTE, f"{_LIKE_BACK}, and asks benno-milter", why).in_main(at=door)
        for door in self.unclear:
            what = f"{_LIKE_BACK}, but no content_filter is set"
            why = "It must not ask benno-milter if FILTER in an access table leads there, else it must."
            yield Problem(Severity.NOTE, what, why).in_main(at=door)

    def _archives_on_the_way_back(self) -> bool:
        """Whether that is meant: what passes a filter is archived behind it, and not in front."""
        in_front = any(entry.filter and self.asks(entry) for entry in self.entries)
        return any(map(self.asks, self.back)) and (not in_front or all(map(self.asks, self.back)))

    def _missing(self, door: Door) -> Finding:
        why = _OTHERS if door in self.open else "What comes in there is delivered and not archived."
        local = door.parameter == "non_smtpd_milters"
        if local:
            why = "Mail by sendmail(1), from cron or web applications, is delivered and not archived."
        if door.switched_off:
            return _without_no_milters(Problem(Severity.LOSES, _MISSING, why), door)
        if local and any(door.parameter in one.service.own for one in self._smtpds()):
            why += " As -o of an smtpd non_smtpd_milters has no effect: the cleanup server reads it."
        file = "main.cf" if self._main_is_safe(door) else "master.cf"
        return self.with_list(Problem(Severity.LOSES, _MISSING, why), door, file)

    def _smtpds(self) -> Iterator[Door]:
        return (door for door in [*self.entries, *self.back] if door.service.command == "smtpd")

    def _main_is_safe(self, door: Door) -> bool:
        """Whether the list of main.cf can be changed for this door, and no re-injection inherits it."""
        if door.parameter in door.asking.own:
            return False
        if door.parameter == "non_smtpd_milters" or any(entry.proxy for entry in self.entries):
            return True
        others = [one for one in self.back + self.unclear if not one.switched_off]
        if self._archives_on_the_way_back():
            others += [one for one in self._smtpds() if one.filter]
        return all(door.parameter in one.service.own for one in others)

    def _before_the_queue(self, door: Door) -> Iterator[Finding]:
        why = f"{door} hands mail to {door.proxy}; milters there get no content. "
        if not self.back:
            why += "No smtpd here takes it back; the one that does must ask benno-milter."
            yield Problem(Severity.LOSES, _UNSEEN, why).in_main(at=door)
        problem = Problem(
            Severity.LOSES, _UNSEEN, why + "Nothing of it is archived, and nothing says so."
        )
        for back in self.back:
            if back.switched_off:
                yield _without_no_milters(problem, back)
            elif not self.asks(back):
                yield self.with_list(problem, back, "master.cf")

    def _after_the_queue(self, door: Door) -> Iterator[Finding]:
        needed = any(entry.proxy for entry in self.entries)  # these are archived on their way back
        doubling = _names(one for one in self.entries if one.filter and self.asks(one))
        for back in filter(self.asks, self.back if door.filter else ()):
            why = f"It comes in at {doubling}, goes to {door.filter}, and comes back at {back}."
            why += " The two copies in the archive differ."
            yield _with_no_milters(Problem(Severity.DOUBLES, _TWICE, why), door if needed else back)
        if self._comes_back_by_sendmail(door):
            why = f"{door.filter} is a program. If it gives mail back by sendmail(1), benno-milter is"
            why += " asked twice. Let it give mail back by SMTP, at a port without milters:"
            line = "127.0.0.1:10026 inet n - n - - smtpd -o content_filter= -o " + _OVERRIDES
            yield Problem(Severity.DOUBLES, _TWICE, why).in_master(f"{line}=no_milters")

    def _comes_back_by_sendmail(self, door: Door) -> bool:
        """As FILTER_README's simple filter; with a filter for pickup too mail would go in circles."""
        name = door.filter.partition(":")[0]
        piped = any(one.command == "pipe" and one.name == name for one in self.configuration.services)
        local = [one for one in self.entries if one.service.command == "pickup" and not one.filter]
        return piped and not self.back and any(map(self.asks, local))


def _with_no_milters(problem: Problem, door: Door) -> Finding:
    options = [*items(door.service.get(_OVERRIDES)), "no_milters"]
    return problem.in_master(f"-o {_OVERRIDES}={','.join(options)}", at=door)


def _without_no_milters(problem: Problem, door: Door) -> Finding:
    left = ",".join(one for one in items(door.service.get(_OVERRIDES)) if one != "no_milters")
    if _OVERRIDES in door.service.own:
        return problem.in_master(f"-o {_OVERRIDES}={left}", at=door)
    return problem.in_main(f"{_OVERRIDES} = {left}", at=door)


def _anybody(door: Door) -> Finding:
    """A re-injection, the only one, that cannot ask benno-milter, or mail is archived twice."""
    why = "It is taken for the way back from a filter; mail that others send there is not archived. Let"
    why += (
        " it listen on loopback, or let its mynetworks name the filter's host only. If others do send"
    )
    why += " there, give them a port of their own, with benno-milter."
    return Problem(Severity.LOSES, _MISSING, why).in_master(at=door)


def _names(some: Iterable[Door]) -> str:
    return ", ".join(map(str, some))


def _is_plain(door: Door) -> bool:
    return door.service.command == "smtpd" and not door.filter and not door.proxy


def _is_inner(door: Door) -> bool:
    """An smtpd that mail from outside does not come in at."""
    service = door.service
    if not _is_plain(door) or service.port in _PUBLIC:
        return False
    return service.on_loopback or bool(service.own & {"content_filter", "mynetworks"})


def _is_closed(door: Door, hosts: set[str]) -> bool:
    """Whether only this host and `hosts`, those of the filters, may send mail there."""
    named = items(door.service.get("mynetworks")) if "mynetworks" in door.service.own else []
    networks = {one.removesuffix("/32").removesuffix("/128").strip("[]") for one in named}
    narrowed = bool(networks) and all(map(is_loopback, networks - hosts))
    return door.service.on_loopback or narrowed


def _host(target: str) -> str:
    """Of `transport:[HOST]:port` and `HOST:port`."""
    before = target.rpartition(":")[0]
    return before.partition("[")[2].rstrip("]") or before.rpartition(":")[2]


def _looks_filtered(door: Door) -> bool:
    overrides = set(items(door.service.get(_OVERRIDES)))
    emptied = "content_filter" in door.service.own or bool(overrides & _AFTER_A_FILTER)
    return _is_inner(door) and emptied
