"""Who is calling, and under which address: forwarded headers are believed only from configured proxies."""

import ipaddress
import re
from typing import Final

import msgspec
from aiohttp import web

from imgpro.errors import BadRequest
from imgpro.flows.addresses import network_of, parse_address
from imgpro.model import Caller, Principal

MAX_PORT: Final = 65_535
_HOST: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")


class Bases(msgspec.Struct, frozen=True):
    """What links start with, without a slash at the end: pages, calls of the API, pictures."""

    site: str
    api: str
    src: str


class Clients:
    """Reads a request's origin by the `server` section."""

    def __init__(
        self, base_url: str, trusted_proxies: tuple[str, ...], *, api_url: str = "", src_url: str = ""
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._api_url = api_url.rstrip("/")
        self._src_url = src_url.rstrip("/")
        self._src_host = _host_of(self._src_url) if _host_of(self._src_url) != _host_of(self._base_url) else None
        self._trust_unix = "unix" in trusted_proxies
        self._trusted = tuple(ipaddress.ip_network(text, strict=False) for text in trusted_proxies if text != "unix")

    def is_trusted(self, peer: str | None) -> bool:
        """Tell whether a peer address (None: a unix socket) is one of our proxies."""
        if peer is None:
            return self._trust_unix
        address = parse_address(peer)
        return address is not None and any(
            address.version == network.version and address in network for network in self._trusted
        )

    def address(self, request: web.BaseRequest) -> str:
        """Return the caller's address: the first one from the right of X-Forwarded-For that is not a proxy."""
        peer = peer_address(request)
        if not (self._trusted or self._trust_unix) or not self.is_trusted(peer):
            return peer or "unix"
        hops = [hop.strip() for line in request.headers.getall("X-Forwarded-For", []) for hop in line.split(",")]
        for hop in reversed(hops):
            if parse_address(hop) is None:
                break
            if not self.is_trusted(hop):
                return hop
        return peer or "unix"

    def caller(self, request: web.BaseRequest, principal: Principal | None = None) -> Caller:
        """Return the caller as limits see it."""
        return Caller(network_of(self.address(request)), principal)

    def bases(self, request: web.BaseRequest) -> Bases:
        """Return what the links in this answer start with. Raises BadRequest as `base_url` does."""
        site = self.base_url(request)
        return Bases(site, self._api_url or site, self._src_url or site)

    def is_for_pictures(self, request: web.BaseRequest) -> bool:
        """Tell whether a request came to the host that has nothing but pictures."""
        return self._src_host is not None and request.headers.get("Host", "").lower() == self._src_host

    def base_url(self, request: web.BaseRequest) -> str:
        """Return the address that links in this answer start with, without a slash at the end.

        Raises BadRequest when it must come from the Host header and that is not a plain host and port.
        """
        if self._base_url:
            return self._base_url
        scheme, host = request.scheme, request.headers.get("Host", "")
        if self.is_trusted(peer_address(request)):
            forwarded = request.headers.get("X-Forwarded-Proto", "").lower()
            scheme = forwarded if forwarded in ("http", "https") else scheme
            host = request.headers.get("X-Forwarded-Host", host)
        if not _HOST.fullmatch(host) or _port(host) > MAX_PORT:
            raise BadRequest("The Host header is not a host name or address.")
        return f"{scheme}://{host.lower()}"

    def opened_at(self, request: web.BaseRequest) -> str:
        """Return the address under which the browser that sent this form has the site open: cookies are for that.

        Links start with the address in the settings; a form may come from another of the server's names. Raises
        BadRequest as `base_url` does.
        """
        base, origin = self.base_url(request), request.headers.get("Origin", "")
        if not origin.startswith(("http://", "https://")) or origin_of(origin) == origin_of(base):
            return base
        return origin_of(origin)


def origin_of(address: str) -> str:
    """Return scheme, host and port of an address, as browsers compare them."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}".lower()


def _host_of(address: str) -> str:
    """Return host and port of a base address."""
    return address.partition("://")[2].partition("/")[0].lower()


def _port(host: str) -> int:
    """Return the port of a well-formed Host, 0 if it names none."""
    _, colon, port = host.rpartition(":")
    return int(port) if colon and port.isdigit() else 0


def peer_address(request: web.BaseRequest) -> str | None:
    """Return the address at the other end of the socket; None for a unix socket."""
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else None
