"""The load generator obeys what the milter answers, as Postfix does."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mta import packet, strings

pytestmark = pytest.mark.system  # it compiles

CONTINUE, PROGRESS, SKIP, REJECT = packet(b"c"), packet(b"p"), packet(b"s"), packet(b"r")
NO_CONNECT, NO_HELO, NO_BODY, NO_HEADERS, NO_DATA = 0x1, 0x2, 0x10, 0x20, 0x200
NO_REPLIES = 0x80 | 0xDF000  # SMFIP_NR_*, but for unknown commands
LEADING_SPACE = 0x100000

Answers = Callable[[bytes], bytes]  # to a command


@pytest.fixture(scope="module")
def program(compiled: Callable[[str], str]) -> str:
    return compiled("milterload")


class Milter(threading.Thread):
    """Takes one connection, records its packets, and answers them."""

    def __init__(self, directory: Path, flags: int, answer: Answers, macros: bytes) -> None:
        super().__init__(daemon=True)
        self.address = str(directory / "socket")
        self.packets: list[bytes] = []  # command and data
        self._answer = answer
        self._agreed = packet(b"O", struct.pack("!III", 6, 0x100, flags) + macros)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.address)
        self._listening.listen()

    def run(self) -> None:
        client, _ = self._listening.accept()
        with client, self._listening:
            for received in _packets(client):
                self.packets.append(received)
                command = received[:1]
                client.sendall(self._agreed if command == b"O" else self._answer(command))

    @property
    def commands(self) -> str:
        """In their order; macros as D and the command that they belong to, without a blank between."""
        shown = [one[:2] if one[:1] == b"D" else one[:1] + b" " for one in self.packets]
        return b"".join(shown).decode().strip()


def _packets(client: socket.socket) -> Iterator[bytes]:
    with client.makefile("rb") as stream:
        while head := stream.read(4):
            yield stream.read(struct.unpack("!I", head)[0])


def run(
    program: str,
    directory: Path,
    *options: object,
    flags: int = 0,
    answer: Answers = lambda command: b"" if command in b"DA" else CONTINUE,
    macros: bytes = b"",
) -> tuple[Milter, dict[str, object]]:
    milter = Milter(directory, flags, answer, macros)
    milter.start()
    words = ["-c", 1, "-m", 1, "-H", 2, "-s", 300, *options, milter.address]
    done = subprocess.run([program, *map(str, words)], capture_output=True, check=True, timeout=20)
    milter.join(60)
    return milter, json.loads(done.stdout)


def quiet(command: bytes) -> bytes:
    """Replies to the end of a message only."""
    return CONTINUE if command == b"E" else b""


def test_all_events_with_a_reply_to_each(program: str, tmp_path: Path) -> None:
    milter, told = run(program, tmp_path)
    assert milter.commands == "O DCC DHH DMM DRR DTT DLL DLL DNN DBB DEE"
    assert milter.packets[0] == b"O" + struct.pack("!III", 6, 0x1FF, 0x1FFFFF)
    assert (told["mails"], told["replies"]) == (1, {"c": 1})


def test_the_next_mail_begins_with_the_abort_of_the_one_before(program: str, tmp_path: Path) -> None:
    milter, told = run(program, tmp_path, "-m", 2, "-r", 2)
    mail = "DMM DRR DRR DTT DLL DLL DNN DBB DEE"
    assert milter.commands == f"O DCC DHH {mail} A {mail}"
    assert told["replies"] == {"c": 2}


def test_events_that_are_not_wanted_are_left_out_but_not_their_macros(
    program: str, tmp_path: Path
) -> None:
    flags = NO_CONNECT | NO_HELO | NO_DATA | NO_HEADERS | NO_BODY
    milter, _ = run(program, tmp_path, flags=flags)
    assert milter.commands == "O DCDHDMM DRR DTDLDLDNN DBDEE"


def test_where_no_reply_is_owed_none_is_waited_for(program: str, tmp_path: Path) -> None:
    milter, told = run(program, tmp_path, "-m", 2, flags=NO_REPLIES, answer=quiet)
    assert milter.commands.count("E") == 4
    assert told["replies"] == {"c": 2}


def test_a_reply_that_is_not_owed_is_an_error(program: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run(program, tmp_path, flags=NO_REPLIES)


def test_skip_leaves_out_the_rest_of_the_body(program: str, tmp_path: Path) -> None:
    def answer(command: bytes) -> bytes:
        return b"" if command in b"DA" else SKIP if command == b"B" else CONTINUE

    milter, told = run(program, tmp_path, "-s", 300_000, answer=answer)
    assert milter.commands.endswith("DNN DBB DEE")
    assert told["replies"] == {"c": 1}


def test_a_refusal_ends_the_mail(program: str, tmp_path: Path) -> None:
    def answer(command: bytes) -> bytes:
        return b"" if command in b"DA" else REJECT if command == b"R" else CONTINUE

    milter, told = run(program, tmp_path, "-m", 2, answer=answer)
    assert milter.commands == "O DCC DHH DMM DRR A DMM DRR"
    assert told["replies"] == {"r": 2}


def test_progress_and_changes_come_before_the_last_reply(program: str, tmp_path: Path) -> None:
    def answer(command: bytes) -> bytes:
        return PROGRESS + packet(b"h", b"A\0b\0") + CONTINUE if command == b"E" else quiet(command)

    _, told = run(program, tmp_path, "-m", 3, flags=NO_REPLIES, answer=answer)
    assert told["replies"] == {"c": 3}


def test_macros_as_asked_for(program: str, tmp_path: Path) -> None:
    asked = (
        struct.pack("!I", 3) + strings(b"{rcpt_addr} {nonsense}") + struct.pack("!I", 5) + strings(b"i")
    )
    milter, _ = run(program, tmp_path, macros=asked)
    macros = {one[1:2]: one[2:] for one in milter.packets if one[:1] == b"D"}
    assert macros[b"R"] == strings(b"{rcpt_addr}", b"recipient@example.org")
    assert macros[b"E"].startswith(b"i\0")
    assert macros[b"M"].startswith(b"{mail_addr}\0")  # Postfix's defaults


@pytest.mark.parametrize("flags", [0, LEADING_SPACE])
@pytest.mark.parametrize("size", [300, 4096, 200_000])
def test_a_message_has_so_many_octets(program: str, tmp_path: Path, size: int, flags: int) -> None:
    milter, _ = run(program, tmp_path, "-s", size, flags=flags)
    message = b""
    for one in milter.packets:
        if one[:1] == b"L":
            name, value, _ = one[1:].split(b"\0")
            message += name + (b":" if flags else b": ") + value + b"\r\n"
        elif one[:1] in {b"N", b"B"}:
            message += b"\r\n" if one[:1] == b"N" else one[1:]
    assert len(message) == size
