"""What a file of the older program meant without saying it, and today's would have to say.

It took connections from everywhere, and passwords in plain text where it had no TLS. An upgrade must
not stop mail, so it goes on like that, with a warning and the lines to write. A file of today in which
quotes were forgotten must not be opened by that: it says `allowed_networks` and `auth_without_tls`, as
it was installed in comments.
"""

from __future__ import annotations

import dataclasses
import json

from benno_common import config
from benno_smtp.properties import Converted
from benno_smtp.settings import EVERYWHERE, Settings

# All keys that it had.
_KEYS = frozenset(
    {"import_directory", "port", "envelope_header", "auth_user", "auth_pass"}
    | {"tls_enabled", "tls_required", "key_file", "keystore_pass", "key_pass"}
)

OPEN = f"allowed_networks = {json.dumps(EVERYWHERE)}"
HEARD = "auth_without_tls = true"


def parse(converted: Converted, path: str, missing: dict[str, object]) -> tuple[Settings, Converted]:
    """The settings of a file, and the file with what it did not say.

    missing: values of keys that it does not have. Raises ConfigError.
    """
    meant = {HEARD: ("auth_without_tls", True), OPEN: ("allowed_networks", EVERYWHERE)}
    unsaid = {
        line: meaning
        for line, meaning in meant.items()
        if meaning[0] not in converted.text and _is_older(converted)
    }
    settings = config.parse(converted.text, path, Settings, {**missing, **dict(unsaid.values())})
    if HEARD in unsaid and (settings.tls_enabled or not settings.has_users):
        del unsaid[HEARD]
        settings = dataclasses.replace(settings, auth_without_tls=False)
    for line in unsaid:
        converted = _beginning_with(line, converted)
    return settings, converted


def _is_older(converted: Converted) -> bool:
    """Whether a file is the older program's. The Debian package writes allowed_networks into it."""
    without_quotes = any(line.startswith("import_directory = ") for line in converted.lines)
    return (
        without_quotes
        and config.is_toml(converted.text)
        and config.keys(converted.text) <= _KEYS | {"allowed_networks"}
    )


def _beginning_with(line: str, converted: Converted) -> Converted:
    """First of all: behind a table it would be a part of it."""
    return dataclasses.replace(
        converted, text=f"{line}\n{converted.text}", lines=(line, *converted.lines)
    )
