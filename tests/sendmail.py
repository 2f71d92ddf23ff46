"""A real Sendmail, unpacked beside any other mail server; Debian installs only one.

test.sh unpacks Debian's sendmail-bin and sendmail-cf into .venv/sendmail. Mail that it accepts stays in
its queue.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import free_port, wait_for

ROOT = Path(__file__).parent.parent / ".venv" / "sendmail"
BINARY = ROOT / "usr" / "libexec" / "sendmail" / "sendmail"
_CF = ROOT / "usr" / "share" / "sendmail" / "cf"

_CONFIGURATION = """\
include(`{cf}/m4/cf.m4')dnl
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `mx.test')dnl
define(`confDELIVERY_MODE', `queueonly')dnl
define(`confPID_FILE', `{root}/pid')dnl
define(`QUEUE_DIR', `{root}/queue')dnl
define(`ALIAS_FILE', `')dnl
define(`STATUS_FILE', `{root}/statistics')dnl
define(`confDONT_BLAME_SENDMAIL', `GroupWritableDirPathSafe, TrustStickyBit')dnl
undefine(`confHOST_STATUS_DIRECTORY')dnl
FEATURE(`nocanonify')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`promiscuous_relay')dnl
DAEMON_OPTIONS(`Family=inet, Name=MTA, Port={port}, Addr=127.0.0.1')dnl
INPUT_MAIL_FILTER(`benno', `S={milter}, F=T, T=S:60s;R:60s;E:5m')dnl
MAILER(`smtp')dnl
"""


def missing() -> str | None:
    """What this machine lacks to run one."""
    if os.geteuid() != 0:
        return "needs root"
    if not BINARY.exists() or not shutil.which("m4"):
        return "needs m4, and sendmail-bin and sendmail-cf unpacked in .venv/sendmail (test.sh does it)"
    libraries = subprocess.run(["ldd", BINARY], capture_output=True, check=False, text=True).stdout
    return f"sendmail lacks libraries: {libraries}" if "not found" in libraries else None


@contextmanager
def running(root: Path, milter: str) -> Iterator[int]:
    """Start one with its files in `root`; gives the port. milter: as in INPUT_MAIL_FILTER."""
    port = free_port()
    (root / "queue").mkdir(parents=True)
    source = _CONFIGURATION.format(cf=_CF, root=root, port=port, milter=milter)
    made = subprocess.run(
        ["m4", f"-D_CF_DIR_={_CF}/", "-"], input=source.encode(), capture_output=True, check=True
    )
    (root / "sendmail.cf").write_bytes(made.stdout)
    log = root / "log"
    with log.open("wb") as stream:
        # With a host name without a dot it would sleep for a minute at the start.
        named = ["unshare", "--uts", "sh", "-c", 'hostname mx.test; exec "$@"', "sh"]
        command = [*named, str(BINARY), "-C", str(root / "sendmail.cf"), "-bD"]
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        wait_for(lambda: _listens(port) or process.poll() is not None, "Sendmail listens")
        assert process.poll() is None, log.read_text()
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
