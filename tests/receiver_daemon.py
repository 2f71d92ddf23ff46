"""A running benno-smtp: the real command in a process of its own, its log, its import directory."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import passing
from daemon import Daemon, read
from waiting import wait_for

__all__ = ["Receiver", "command", "configuration", "read", "running"]

_MAIN = "import sys; from benno_smtp.program import main; sys.exit(main())"

# Set where the test says nothing else.
_DEFAULTS = {"port": "0", "listen": '["127.0.0.1"]', "hostname": '"archive.test"', "min_free": "0"}


def command(prelude: str = "") -> list[str]:
    """benno-smtp without arguments. prelude: Python that runs before it, to break something."""
    return [sys.executable, "-c", f"{prelude}\n{_MAIN}"]


def configuration(inbox: Path, settings: str = "") -> str:
    """A configuration file, on a free port of loopback where `settings` does not say otherwise."""
    given = re.findall(r"^(\w+)", settings, re.MULTILINE)
    defaults = {"import_directory": f'"{inbox}"', **_DEFAULTS}
    lines = [f"{key} = {value}\n" for key, value in defaults.items() if key not in given]
    return "".join(lines) + settings + "\n"


class Receiver(Daemon):
    """process: the wrapper (strace, say) or the receiver itself. files(), mails(), log: as there."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, inbox: Path) -> None:
        super().__init__(process, log, inbox, "")
        self.inbox = inbox

    @property
    def port(self) -> int:
        return int(re.findall(r"started .*port=(\d+)", self.log)[0])

    @property
    def pid(self) -> int:
        """Of the receiver itself, also where a wrapper was started."""
        return int(re.findall(r"benno-smtp\[(\d+)\]: INFO: started", self.log)[0])


@contextmanager
def running(
    inbox: Path,
    settings: str = "",
    *,
    options: Sequence[str] = (),
    wrapper: Sequence[str] = (),
    prelude: str = "",
    environment: dict[str, str] | None = None,
    passed: Sequence[socket.socket] = (),
    log: Path | None = None,
) -> Iterator[Receiver]:
    """Start benno-smtp and wait until it listens; at the end it must not be left running.

    settings: lines of TOML. options: arguments besides -c and --log. wrapper: a command that starts
    it. prelude: Python that runs before it. The configuration file and the log lie beside the inbox.
    passed: sockets that it gets as systemd would pass them.
    """
    inbox.mkdir(exist_ok=True)
    config = inbox.parent / f"{inbox.name}.conf"
    config.write_text(configuration(inbox, settings))
    log = log or inbox.parent / f"{inbox.name}.log"
    arguments = ["-c", str(config), "--log", "stderr", *options]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*wrapper, *passing.wrapper(passed), *command(prelude), *arguments],
            stdout=stream,
            stderr=stream,
            env=environment,
            pass_fds=passing.descriptors(passed),
        )
    receiver = Receiver(process, log, inbox)
    try:
        wait_for(lambda: "INFO: started" in receiver.log or process.poll() is not None, "the start")
        assert process.poll() is None, f"ended with {process.returncode}: {receiver.log}"
        yield receiver
    finally:
        if process.poll() is None:
            receiver.stop()
