"""What an administrator does: packages, the guide's lines, and a look at the directories.

pair = Pair(mail, archive)
pair.install(packages)
sending.send(pair.story, pair.mail.address, sending.letter())
pair.forward()
pair.settle()  # all is in the archive, nothing is lost, nothing invented
"""

from __future__ import annotations

import re
import shlex
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import smtp
from benno_common.envelope import Envelope
from benno_common.mailfile import Decoder
from load import Story
from machines import network, sending
from machines.machine import ENVIRONMENT, Failed, Machine
from waiting import wait_for

Packages = dict[str, Path]

INBOX = "/srv/benno/inbox"
SETTINGS = "/etc/default/benno-milter"
CRON = "/etc/cron.d/benno-milter"

# Mail that Postfix has accepted goes nowhere from here; that is not part of these stories.
WORLD = f"""\
postconf -e 'mynetworks = 127.0.0.0/8 {network.NET}.0/24' 'mydestination =' \\
    'default_transport = discard:' 'relay_transport = discard:' \\
    'smtpd_peername_lookup = no' 'in_flow_delay = 0'
postconf -M submission/inet='submission inet n - y - - smtpd'
postconf -P submission/inet/smtpd_client_restrictions=permit_mynetworks,reject
"""


def _guide() -> str:
    """Its lines that connect Postfix, and try whether that is right."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "install.md").read_text()
    (lines,) = re.findall(
        r"^```sh\n(postconf -e 'smtpd_milters = .*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    return str(lines)


GUIDE = _guide()


def packages(directory: Path) -> Packages:
    """Package name → file."""
    return {path.name.partition("_")[0]: path for path in directory.glob("*.deb")}


def apt_install(machine: Machine, *wanted: Path | str) -> str:
    """Files and names; what apt says. Raises Failed."""
    said = machine.run(*_apt(machine, wanted), seconds=300)
    machine.run("sync")  # the trees' dpkg does not
    return said


def install_in_chroot(machine: Machine, *wanted: Path | str) -> None:
    """The same on a machine that has no power."""
    machine.disk.mount()
    root = str(machine.root)
    inside = f"mount -t proc proc {root}/proc && exec chroot {root} {shlex.join(_apt(machine, wanted))}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", inside],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    machine.disk.unmount()
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def _apt(machine: Machine, wanted: Iterable[Path | str]) -> list[str]:
    names = []
    for one in wanted:
        if isinstance(one, Path):
            shutil.copy(one, machine.path(f"/var/tmp/{one.name}"))
            names.append(f"/var/tmp/{one.name}")
        else:
            names.append(one)
    return ["apt-get", "install", "--yes", *names]


def edit(machine: Machine, file: str, pattern: str, line: str) -> None:
    """Put a line where one that matches stands, as with an editor. Raises Failed if there is none."""
    path = machine.path(file)
    text, count = re.subn(
        pattern, line.replace("\\", r"\\"), path.read_text(), count=1, flags=re.MULTILINE
    )
    if not count:
        raise Failed(f"{machine}: {file} has no line {pattern!r}:\n{path.read_text()}")
    path.write_text(text)


def mail_files(machine: Machine, directory: str) -> list[Path]:
    """What is visible there: held mails too."""
    return sorted(
        path
        for path in machine.path(directory).iterdir()
        if not path.name.startswith(".") and path.name != "lost+found"
    )


def read_envelope(path: Path) -> Envelope:
    """Of a mail file, with its gateway. Raises MailFileError."""
    decoder = Decoder()
    decoder.feed(path.read_bytes())
    decoder.finish()
    assert decoder.envelope
    return decoder.envelope


def name_hosts(*machines: Machine) -> None:
    """Each knows all of them by name."""
    names = "".join(f"{machine.address} {machine.name}\n" for machine in machines)
    for machine in machines:
        machine.path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{names}")


def make_mail_server(machine: Machine, packages: Packages, archive: str = "") -> None:
    """By apt, both at once, then the guide's lines. archive: for BENNOHOST."""
    apt_install(machine, packages["benno-milter"], "postfix")
    machine.shell(WORLD + GUIDE)
    if archive:
        edit(machine, SETTINGS, r"^#\s*BENNOHOST=.*", f"BENNOHOST={archive}")
    machine.restart("benno-milter", "postfix")
    wait_for(lambda: answers(machine, sending.SMTP), f"Postfix answers on {machine}")


def answers(machine: Machine, port: int, address: str = "") -> bool:
    """Whether a server greets us and takes our EHLO. address: another one of the machine's."""
    try:
        with smtp.Client(port, 5, host=address or machine.address):
            return True
    except (OSError, EOFError):
        return False


def check(story: Story, files: Iterable[Path]) -> None:
    """Each mail that was accepted is in one of the files, with its envelope, and nothing else is."""
    faults = story.faults(files)
    assert not faults, "\n".join(faults)


class Pair:
    """A mail server with benno-milter and an archive host with benno-smtp. story: of the mails sent."""

    def __init__(self, mail: Machine, archive: Machine) -> None:
        self.mail = mail
        self.archive = archive
        self.story = Story()
        self._begin = 0.0

    def install(self, packages: Packages) -> None:
        """The archive host needs nothing but the package."""
        name_hosts(self.mail, self.archive)
        with ThreadPoolExecutor() as threads:
            receiver = threads.submit(apt_install, self.archive, packages["benno-smtp"])
            make_mail_server(self.mail, packages, "archive")
            receiver.result()

    def begin(self) -> None:
        """A new story, with nothing on its way."""
        self.story = Story()
        self._begin = time.time()
        for machine, units in (
            (self.mail, ("benno-milter", "postfix")),
            (self.archive, ("benno-smtp",)),
        ):
            for unit in units:
                assert machine.is_active(unit), f"{unit} does not run on {machine}"
        left = [*self.spool(), *self.inbox()]
        assert not left, f"an earlier story left {left}"

    def end(self) -> None:
        """The archiver takes its mails; what a story that failed has left goes too."""
        for machine in (self.mail, self.archive):
            if not machine.has_power:
                machine.boot()
            for path in mail_files(machine, INBOX):
                path.unlink()

    def spool(self) -> list[Path]:
        return mail_files(self.mail, INBOX)

    def inbox(self) -> list[Path]:
        return mail_files(self.archive, INBOX)

    def delivered(self) -> set[str]:
        """The queue ids of this story's mails that Postfix has let out."""
        log = self.mail.run("journalctl", "-q", "-b", "-o", "cat", f"--since=@{self._begin}")
        return set(re.findall(r"^(\w+): to=.*status=sent", log, re.MULTILINE))

    def forward(self) -> None:
        """What cron does; mail that could not be sent is no error here."""
        done = self.mail.attempt("runuser", "-u", "benno", "benno-export2archive", seconds=700)
        assert done.returncode in {0, 75}, (done, self.mail.log("benno-milter2smtp")[-2000:])

    def settle(self, seconds: float = 90) -> None:
        """Wait until nothing is on its way any more, and look at what the archive has.

        It comes by itself, or forward() was called before.
        """
        try:
            wait_for(
                lambda: not self.on_the_way(), f"{self.mail} has sent all to {self.archive}", seconds
            )
        except AssertionError as error:
            raise AssertionError(f"{error}, but {self.on_the_way()}") from error
        check(self.story, self.inbox())

    def on_the_way(self) -> list[str]:
        """In the spool, and in Postfix's queue, where mail of sendmail(1) waits for the milter."""
        queue = self.mail.path("/var/spool/postfix")
        queued = [
            path
            for name in ("maildrop", "incoming", "active", "deferred")
            for path in (queue / name).rglob("*")
        ]
        waiting = [path for path in self.spool() if path.suffix != ".err"]
        return [str(path) for path in [*waiting, *filter(_is_whole, queued)]]


def _is_whole(path: Path) -> bool:
    """A queue file; one without x was being written when Postfix was stopped, and nobody's mail yet."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) and bool(mode & stat.S_IXUSR)
