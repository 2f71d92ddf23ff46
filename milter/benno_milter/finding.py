"""What --check-postfix finds, and how it says so."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

_WIDTH = 100


class Severity(Enum):
    """In the order in which they are told; the value is the headline."""

    LOSES = "Loses mail"
    STOPS = "Stops mail"
    DOUBLES = "Archives mail twice"
    NOTE = "Worth knowing"


@dataclass(frozen=True)
class Problem:
    """what: is wrong, in a line. why: what follows from it."""

    severity: Severity
    what: str
    why: str

    def in_main(self, *lines: str, at: object = None) -> Finding:
        """The lines go into main.cf, if there are any. at: the service that has the problem."""
        return Finding(self, () if at is None else (str(at),), "main.cf", lines)

    def in_master(self, *lines: str, at: object = None) -> Finding:
        """The lines go to the service `at` in master.cf, or are a new service."""
        return Finding(self, () if at is None else (str(at),), "master.cf", lines)


@dataclass(frozen=True)
class Finding:
    """A problem, the services that have it, and what to write into the file.

    In master.cf the lines go to each of the services.
    """

    problem: Problem
    services: tuple[str, ...]
    file: str
    lines: tuple[str, ...]


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Each but once, with all the services that have it; the gravest first."""
    found: dict[Finding, tuple[str, ...]] = {}
    for finding in findings:
        key = dataclasses.replace(finding, services=())
        found[key] = (*found.get(key, ()), *finding.services)
    order = list(Severity)
    every = [
        dataclasses.replace(key, services=tuple(dict.fromkeys(names))) for key, names in found.items()
    ]
    return sorted(every, key=lambda finding: order.index(finding.problem.severity))


def harmful(findings: Iterable[Finding]) -> bool:
    return any(finding.problem.severity is not Severity.NOTE for finding in findings)


def report(findings: Sequence[Finding], checked: str) -> str:
    """All findings as text. checked: what was looked at, in a line."""
    lines = []
    severity = None
    for finding in findings:
        if finding.problem.severity is not severity:
            severity = finding.problem.severity
            lines += [severity.value, "=" * len(severity.value), ""]
        lines += [*_told(finding), ""]
    verdict = "" if harmful(findings) else "Nothing here loses or doubles mail. "
    return "\n".join([*lines, *_wrapped(f"{verdict}Checked: {checked}")])


def _told(finding: Finding) -> Iterator[str]:
    yield from _indented(finding.problem.what, "* ")
    services = ", ".join(finding.services)
    if services:
        yield from _indented(f"At: {services}")
    yield from _indented(finding.problem.why)
    if finding.lines:
        place = f", at {services}" if finding.file == "master.cf" and services else ""
        yield from _indented(f"Write in {finding.file}{place}:")
        yield from (f"      {line}" for line in finding.lines)


def _indented(text: str, first: str = "  ") -> list[str]:
    return _wrapped(text, first, "  ")


def _wrapped(text: str, first: str = "", next_: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=next_,
        break_long_words=False,
        break_on_hyphens=False,
    )
