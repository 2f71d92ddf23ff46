"""A milter on pymilter (libmilter from Python) that writes each mail into a directory, durably.

    pymilter_spool.py DIRECTORY SOCKET

What its users would write, with all that pymilter offers to be quick: events that are not needed are
not asked for, replies only where they matter. libmilter's threads serve the connections, and syncs
wait in parallel, because Python lets go of its lock meanwhile. Nothing is escaped or logged.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any

from __future__ import annotations

import os
import sys

import Milter

from spool import Spool


class Archive(Milter.Base):
    """One connection."""

    spool: Spool

    def envfrom_bytes(self, sender: bytes, *_arguments: bytes) -> int:
        self._parts = [b"X-REAL-MAILFROM: %s\r\n" % sender]
        return Milter.CONTINUE

    envfrom = envfrom_bytes  # it is asked for because this is no longer the base's

    @Milter.noreply
    def envrcpt(self, recipient: bytes, *_arguments: bytes) -> int:
        self._parts.append(b"X-REAL-RCPTTO: %s\r\n" % recipient)
        return Milter.CONTINUE

    envrcpt_bytes = envrcpt

    @Milter.noreply
    def header(self, name: str, value: bytes) -> int:
        self._parts += (name.encode(), b":", value.replace(b"\n", b"\r\n"), b"\r\n")
        return Milter.CONTINUE

    header_bytes = header

    @Milter.noreply
    def eoh(self) -> int:
        self._parts.append(b"\r\n")
        return Milter.CONTINUE

    @Milter.noreply
    def body(self, data: bytes) -> int:
        self._parts.append(data)
        return Milter.CONTINUE

    def eom(self) -> int:
        try:
            self.spool.store(self._parts)
        except OSError:
            return Milter.TEMPFAIL
        return Milter.CONTINUE


def main() -> None:
    directory, socket = sys.argv[1:]
    Archive.spool = Spool(directory)
    Milter.factory = Milter.header_leading_space(Archive)
    Milter.set_flags(0)
    Milter.runmilter("archive", socket, rmsock=False)
    os._exit(0)


main()
