"""Stand-ins for benno-milter 2.10 and benno-smtp 2.6: their files, as far as an upgrade meets them.

The programs are not in them. Their units ran what an administrator has used for years: the milter's
command line with braces, the receiver as root.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_MILTER_UNIT = """\
[Unit]
Description=Benno Milter
[Service]
Type=simple
User=benno
Group=postfix
RuntimeDirectory=benno-milter
Environment=SOCKET_TYPE=local SOCKET=/var/spool/postfix/benno-milter/benno-milter.sock \\
    SPOOLDIR=/srv/benno/inbox PIDFILE=/run/benno-milter/benno-milter.pid
EnvironmentFile=-/etc/default/benno-milter
ExecStart=/usr/sbin/benno-milter -l ${RUNTIME_DIRECTORY}/benno-milter.pid -p ${SOCKET_TYPE}:${SOCKET} \\
    -o ${SPOOLDIR} ${MILTERARGS}
[Install]
WantedBy=multi-user.target
"""
_SETTINGS = """\
SOCKET=/var/spool/postfix/benno-milter/benno-milter.sock
SPOOLDIR=/srv/benno/inbox
#BENNOHOST=your.benno-archive.host
"""
_CRON = "#*/15 * * * * benno /usr/sbin/benno-export2archive\n"
_RECEIVER_UNIT = """\
[Unit]
Description=Benno SMTP
[Service]
ExecStart=/usr/sbin/benno-smtp -c /etc/benno-smtp/benno-smtp.conf
[Install]
WantedBy=multi-user.target
"""
_CONFIGURATION = """\
# Server port
port = 2500
# save eml files in import directory
import_directory = /srv/benno/inbox
# write envelope information as X-REAL-* header
envelope_header = true
# enables SMTP AUTH if auth_user && auth_pass is set
#auth_user = benno
#auth_pass = secret
"""
_PROGRAM = "#!/bin/sh\nexec sleep infinity\n"
_POSTINST = """\
#!/bin/sh
set -e
getent group benno >/dev/null || addgroup --quiet --system benno
getent passwd benno >/dev/null ||
    adduser --quiet --system --ingroup benno --home /srv/benno --no-create-home benno
[ -d /srv/benno/inbox ] || install -d -m 2770 -o benno -g benno /srv/benno/inbox
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable --quiet --now %s
fi
"""

_PACKAGES = {
    "benno-milter_2.10.0": {
        "lib/systemd/system/benno-milter.service": _MILTER_UNIT,
        "etc/default/benno-milter": _SETTINGS,
        "etc/cron.d/benno-milter": _CRON,
        "usr/sbin/benno-milter": _PROGRAM,
        "usr/sbin/benno-export2archive": _PROGRAM,
        "usr/sbin/benno-milter2smtp": _PROGRAM,
    },
    "benno-smtp_2.6.0": {
        "lib/systemd/system/benno-smtp.service": _RECEIVER_UNIT,
        "etc/benno-smtp/benno-smtp.conf": _CONFIGURATION,
        "usr/sbin/benno-smtp": _PROGRAM,
    },
}


def build(directory: Path) -> list[Path]:
    """The .deb files, in a directory that exists."""
    return [_build(directory, name, files) for name, files in _PACKAGES.items()]


def _build(directory: Path, full_name: str, files: dict[str, str]) -> Path:
    tree = directory / full_name
    name, _, version = full_name.partition("_")
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nDepends: adduser\n"
    control += "Maintainer: Nobody <nobody@example.org>\nDescription: stand-in for an old version\n"
    _write(tree / "DEBIAN" / "control", control)
    _write(tree / "DEBIAN" / "conffiles", "".join(f"/{file}\n" for file in files if file[:4] == "etc/"))
    _write(tree / "DEBIAN" / "postinst", _POSTINST % name, 0o755)
    for file, text in files.items():
        _write(tree / file, text, 0o755 if file.startswith("usr/sbin/") else 0o644)
    package = directory / f"{full_name}_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(package)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return package


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
