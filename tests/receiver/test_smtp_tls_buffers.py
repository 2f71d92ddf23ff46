"""What a TLS connection reads at once, which asyncio keeps a buffer for as long as it is open."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import receiver_daemon
from benno_common.tls import READ_SIZE
from certificates import Authority
from smtp_tls import NAME, TlsClient

pytestmark = pytest.mark.slow

# asyncio's buffer for each read; in Python 3.10 it has none, and gets what was read.
SPY = """
import sys
from asyncio.sslproto import SSLProtocol
name = "get_buffer" if hasattr(SSLProtocol, "get_buffer") else "data_received"
method = getattr(SSLProtocol, name)
def spied(self, given):
    buffer = method(self, given)
    print(f"{len(given if buffer is None else buffer)} octets at once", file=sys.stderr, flush=True)
    return buffer
setattr(SSLProtocol, name, spied)
"""


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
def test_a_buffer_of_64_kib(tmp_path: Path, implicit: bool) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue(NAME)
    settings = (
        f'tls_enabled = true\ncert_file = "{issued.cert}"\nkey_file = "{issued.key}"\n'
        f"tls_implicit = {str(implicit).lower()}"
    )
    message = b"x" * 1_000_000 + b"\r\n"
    with receiver_daemon.running(tmp_path / "inbox", settings, prelude=SPY) as receiver:
        with TlsClient(receiver.port, authority.cert, implicit=implicit) as client:
            if not implicit:
                client.starttls()
            client.ehlo()
            assert client.send(b"a@b", [b"c@d"], message).startswith("250")
        assert receiver.mails() == [(b"a@b", (b"c@d",), message)]
        sizes = {int(size) for size in re.findall(r"(\d+) octets at once", receiver.log)}
        assert sizes
        assert max(sizes) <= READ_SIZE == 64 * 1024
