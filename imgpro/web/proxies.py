"""Which peers are believed to be our proxies, and a note of others that speak like one."""

import ipaddress
import logging
from collections.abc import Sequence
from typing import Final

from imgpro.flows.addresses import is_private_caller, network_of, parse_address

log = logging.getLogger(__name__)

MAX_NOTES: Final = 16  # anybody can send such a header


class Peers:
    """Addresses, networks and `unix`, as the settings name them."""

    def __init__(self, named: Sequence[str]) -> None:
        self._unix = "unix" in named
        self._networks = tuple(ipaddress.ip_network(text, strict=False) for text in named if text != "unix")

    def __contains__(self, peer: str | None) -> bool:
        """Tell whether a peer's address (None: a unix socket) is among them."""
        if peer is None:
            return self._unix
        if not self._networks:
            return False
        address = parse_address(peer)
        return address is not None and any(
            address.version == network.version and address in network for network in self._networks
        )


class ProxyNotes:
    """What came from proxies and cannot be believed: each once, in the log and for the operator to see."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], str] = {}

    def add(self, header: str, peer: str | None, setting: str) -> None:
        """Note a header from a peer that is not in a setting."""
        address = "unix" if peer is None else str(parse_address(peer) or peer)
        who = "a unix socket" if peer is None else address
        network = "local" if peer is None else network_of(peer)
        words = f'{header} from {who} is not believed; if that is your proxy, set {setting} = ["{address}"]'
        self.say((header, network), words, near=is_private_caller(network))

    def say(self, key: tuple[str, str], words: str, *, near: bool = True) -> None:
        """Note something in words, once for each key. What is `near` is not crowded out by what comes from afar."""
        if key in self._seen or len(self._seen) >= (2 * MAX_NOTES if near else MAX_NOTES):
            return
        self._seen[key] = words
        log.warning("%s", words)

    def lines(self) -> list[str]:
        """Return what was noted since the settings were read."""
        return list(self._seen.values())

    def clear(self) -> None:
        """Forget it: the settings have changed."""
        self._seen.clear()
