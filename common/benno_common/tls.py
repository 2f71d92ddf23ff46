"""What both ends of TLS have in common."""

from __future__ import annotations

import ssl
from asyncio import sslproto
from typing import Any

# Octets that are read from a connection at once.
READ_SIZE = 64 * 1024

_OTHERS_KEY = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}


def of_another_key(error: ssl.SSLError) -> bool:
    """Whether load_cert_chain() failed because the key is not that of the certificate.

    NO_CERTIFICATE_ASSIGNED: for a key of that kind, RSA or EC.
    """
    return error.reason in _OTHERS_KEY


def read_less() -> None:
    """From now on each TLS connection of this process reads READ_SIZE at once, not 256 KiB.

    asyncio has no parameter for it. Since Python 3.11 each connection has a buffer of this size of its
    own, which stays filled: that of a thousand clients is 256 MiB.
    """
    reader: Any = getattr(sslproto, "_SSLPipe", sslproto.SSLProtocol)  # the former in Python 3.10
    reader.max_size = READ_SIZE
