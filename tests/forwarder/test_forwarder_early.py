"""A server that says 250 before it was sent the end of the message has not taken the mail."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from benno_milter2smtp.disposal import LOSSES
from forwarding import forward, names, put
from scripted import serving

pytestmark = pytest.mark.slow

LARGE = b"x" * 70 + b"\r\n"
HASTY = b"250 2.0.0 stored\r\n"


class Hasty(threading.Thread):
    """Reads the beginning of a large message, says 250, and then hangs up or refuses the mail."""

    def __init__(self, offers: bytes, *, stays: bool, says: bytes = HASTY) -> None:
        super().__init__(daemon=True)
        self._says = says
        self._offers = offers
        self._stays = stays
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                self._serve(connection, stream)

    def _serve(self, connection: socket.socket, stream: BinaryIO) -> None:
        connection.sendall(b"220 hasty.test\r\n")
        for line in stream:
            verb = line[:4].upper()
            if verb == b"EHLO":
                connection.sendall(b"250-hasty.test\r\n" + self._offers + b"250 HELP\r\n")
            elif verb in {b"DATA", b"BDAT"}:
                connection.sendall(b"354 go on\r\n" if verb == b"DATA" else b"")
                stream.read(100_000)
                connection.sendall(self._says)
                if not self._stays:
                    return
                while stream.read(1):
                    pass
                return
            else:
                connection.sendall(b"250 ok\r\n")

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize("offers", [b"", b"250-PIPELINING\r\n250-CHUNKING\r\n"])
@pytest.mark.parametrize("stays", [True, False])
def test_an_early_success_is_none(spool: Path, offers: bytes, stays: bool) -> None:
    name = put(spool, LARGE * 80_000)
    server = Hasty(offers, stays=stays)
    server.start()
    run = forward(spool, server.port, options=("--connections", "1", "--timeout", "20"))
    server.close()
    assert names(spool) == [name]
    assert (run.code, run.summary) == (75, "sent=0 kept=1 held=0")


@pytest.mark.parametrize("offers", [b"", b"250-PIPELINING\r\n250-CHUNKING\r\n"])
def test_what_was_cut_off_before_its_end_goes_to_the_next_host(spool: Path, offers: bytes) -> None:
    """Nobody has stored it."""
    for _ in range(LOSSES):
        put(spool, LARGE * 80_000)
    first = Hasty(offers, stays=False, says=b"")
    first.start()
    with serving() as second:
        run = forward(spool, first.port, second.port, options=("--connections", "1"))
    first.close()
    assert (run.code, len(second.mails)) == (0, LOSSES), run.log
