"""SECURITY.md and docs/tunnel.md: the settings they tell to write are there and fit together."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from benno_common import config
from benno_common.networks import DEFAULT
from benno_milter import options
from benno_milter2smtp.security import SETTINGS, Security
from benno_smtp.limits import Limits
from benno_smtp.settings import Settings

ROOT = Path(__file__).parent.parent
SECURITY = ROOT / "SECURITY.md"
TUNNEL = ROOT / "docs" / "tunnel.md"
EACH = pytest.mark.parametrize("document", [SECURITY, TUNNEL], ids=["security", "tunnel"])


def _blocks(document: Path, language: str) -> list[str]:
    fenced = rf"^ *```{language}\n(.*?)^ *```$"
    return re.findall(fenced, document.read_text(), re.MULTILINE | re.DOTALL)


def _settings(document: Path) -> dict[str, str]:
    """Lines of /etc/default/benno-milter."""
    lines = re.findall(r"^([A-Z_]+)=(.*)$", "".join(_blocks(document, "sh")), re.MULTILINE)
    return dict(lines)


@EACH
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []
    assert targets


def test_settings_of_the_archive_host() -> None:
    """All of SECURITY.md together; each of tunnel.md alone."""
    together = 'import_directory = "/"\n' + "".join(_blocks(SECURITY, "toml"))
    made = config.parse(together, "SECURITY.md", Settings)
    assert made.client_ca_file and made.auth_file and made.tls_required
    for text in _blocks(TUNNEL, "toml"):
        assert config.parse(f'import_directory = "/"\n{text}', "tunnel.md", Settings)


@EACH
def test_settings_of_the_mail_server(document: Path) -> None:
    found = _settings(document)
    milter = found["MILTERARGS"].strip('"')
    options.parse(["-p", f"inet:{found['SOCKET']}", "-o", "/", *shlex.split(milter)])
    known = (ROOT / "milter" / "benno-milter.default").read_text()
    assert [name for name in found if not re.search(rf"^#?{name}=", known, re.MULTILINE)] == []


def test_the_forwarder_takes_them_together() -> None:
    names = {
        setting: option.removeprefix("--").replace("-", "_") for option, setting in SETTINGS.items()
    }
    given = {names[name]: value for name, value in _settings(SECURITY).items() if name in names}
    mode = given.pop("tls")
    assert Security(mode=mode, **given).auth_file  # type: ignore[arg-type] # texts all of them


def test_the_defaults_that_it_warns_of() -> None:
    """Loopback and private networks may connect, loopback may name a gateway; so many connections."""
    default = config.parse('import_directory = "/"', "", Settings)
    assert set(default.trusted_gateways) == {"127.0.0.0/8", "::1/128"} < set(DEFAULT)
    text = SECURITY.read_text()
    limits: Limits = default.make_limits()
    assert f"{limits.per_address} connections of one address" in text
    assert f"{limits.connections} in all" in text
