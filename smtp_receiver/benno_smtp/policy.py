"""Which gateway a mail came by, and whose word is believed about it.

The archive sorts mail into tenants by its gateway's name, so that only a client in `trusted_gateways`
may give one (MAIL FROM:<…> XBENNO-GW=…). Without one the client's network decides (`gateways`), the
smallest network first, else the name for all (`gateway`). A header X-BENNO-GW in a message is never
believed: it is foreign, wherever it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping

from benno_common.networks import Networks


class Gateways:
    """name: for all. trusted: whose word is believed. by_network: `10.1.0.0/16` → name.

    Raises ValueError for what is no network.
    """

    def __init__(
        self, name: str | None, trusted: Networks, by_network: Mapping[str, str] | None = None
    ) -> None:
        self._name = name.encode() if name else None
        self._trusted = trusted
        networks = [(Networks([text]), given) for text, given in (by_network or {}).items()]
        self._by_network = sorted(networks, key=lambda item: item[0].smallest, reverse=True)

    def trusts(self, client: str) -> bool:
        """Whether this client may say by which gateway a mail came."""
        return client in self._trusted

    def name_for(self, client: str, given: bytes | None) -> bytes | None:
        """The gateway of a client's mail. given: what it said, if it may."""
        if given is not None:
            return given
        for network, name in self._by_network:
            if client in network:
                return name.encode()
        return self._name
