"""Which network addresses an import may connect to, and how callers are grouped for limits.

The table is data on purpose: tests go through it line by line. `ipaddress.is_global` alone lets several
special ranges through (IANA registries change between Python releases), hence the explicit list.
"""

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

REFUSED_IPV4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
GLOBAL_IPV6: Final = ipaddress.IPv6Network("2000::/3")
REFUSED_IPV6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
_ISATAP_WORDS: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})


def parse_address(text: str) -> Address | None:
    """Return the address of a socket's peer, IPv4-mapped ones unwrapped; None if it is none or has a zone."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the open internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in REFUSED_IPV4)
    isatap = (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP_WORDS
    return address in GLOBAL_IPV6 and not isatap and not any(address in network for network in REFUSED_IPV6)


def is_own(address: Address) -> bool:
    """Tell whether this machine has the address: only then can a socket be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def may_fetch(text: str, private_networks: Sequence[Network]) -> bool:
    """Tell whether an import may connect to the address `text`: public and not our own, or named by the operator."""
    address = parse_address(text)
    if address is None:
        return False
    if any(address.version == network.version and address in network for network in private_networks):
        return True
    return is_public(address) and not is_own(address)


def network_of(text: str) -> str:
    """Return what limits are counted by: the IPv4 address, or the /64 of an IPv6 address."""
    address = parse_address(text)
    if address is None:
        return "local"
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)


def is_private_caller(network: str) -> bool:
    """Tell whether a caller's network is on the local side: private, loopback, link-local or a unix socket."""
    if network == "local":
        return True
    base = ipaddress.ip_network(network).network_address
    return base.is_private or base.is_loopback or base.is_link_local
