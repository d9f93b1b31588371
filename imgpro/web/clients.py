"""Who is calling, and under which address: forwarded headers are believed only from configured proxies."""

import asyncio
import re
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from multidict import MultiMapping

from imgpro.errors import BadRequest
from imgpro.flows.addresses import network_of, parse_address
from imgpro.model import Caller, Principal
from imgpro.web.prefixes import PREFIX_HEADER, plain_prefix
from imgpro.web.proxies import Peers, ProxyNotes

MAX_PORT: Final = 65_535
_FORWARDED: Final = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", PREFIX_HEADER)
_FOR_OTHERS: Final = (*_FORWARDED, "Forwarded", "X-Real-IP", "Via")
_FROM_PAGES: Final = ("Origin", "Sec-Fetch-Site")  # a browser asks for whatever page it shows
_NEARBY: Final = re.compile(r"(?:[a-z0-9-]*|[0-9.]+|\[[0-9a-f:.]+\])(?::\d+)?", re.ASCII | re.IGNORECASE)
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
        self.notes = ProxyNotes()
        self.trust(trusted_proxies)

    def trust(self, proxies: tuple[str, ...]) -> None:
        """Believe these proxies from now on, and no others."""
        self._trusted = Peers(proxies)
        self.notes.clear()

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the addresses in the settings, the longest first: what a proxy may have left on a request."""
        paths = {urlsplit(url).path for url in (self._base_url, self._api_url, self._src_url)}
        return tuple(sorted(paths - {""}, key=len, reverse=True))

    @property
    def site_path(self) -> str | None:
        """The path of the pages by the settings; None where each request tells its own."""
        return urlsplit(self._base_url).path if self._base_url else None

    def is_trusted(self, peer: str | None) -> bool:
        """Tell whether a peer address (None: a unix socket) is one of our proxies."""
        return peer in self._trusted

    def address(self, request: web.BaseRequest) -> str:
        """Return the caller's address: the first one from the right of X-Forwarded-For that is not a proxy.

        Where all of them are, it is the one farthest away: it is in a network that is believed.
        """
        found = peer_address(request)
        if not self.is_trusted(found):
            return found or "unix"
        hops = [hop.strip() for line in request.headers.getall("X-Forwarded-For", []) for hop in line.split(",")]
        for hop in reversed(hops):
            if parse_address(hop) is None:
                break
            found = hop
            if not self.is_trusted(hop):
                break
        return found or "unix"

    def is_neighbour(self, request: web.BaseRequest) -> bool:
        """Tell whether a program on this machine asks for itself: no proxy, known or unknown to us, and no browser."""
        peer = peer_address(request)
        if not _is_loopback(peer) or self.is_trusted(peer) or self.may_be_for_others(request):
            return False
        return not any(name in request.headers for name in _FROM_PAGES)

    def may_be_for_others(self, request: web.BaseRequest) -> bool:
        """Tell whether a request may be somebody else's than its address says.

        It looks as if it came through a proxy that we do not know, or through one that we do and that names nobody. Or
        this machine calls itself by a name of the internet: so do proxies that pass on just the Host, and browsers that
        a stranger's DNS leads here.
        """
        peer = peer_address(request)
        if any(name in request.headers for name in _FOR_OTHERS):
            return not self.is_trusted(peer) or self.address(request) == (peer or "unix")
        return _is_loopback(peer) and not is_nearby(request.headers.get("Host", ""))

    def note_strangers(self, request: web.BaseRequest) -> None:
        """Note a proxy that speaks of others and is not believed: its operator has something to set."""
        name = next((name for name in _FORWARDED if name in request.headers), None)
        if name is not None and not self.is_trusted(peer := peer_address(request)):
            self.notes.add(name, peer, "server.trusted_proxies")

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
        scheme, host = request.scheme, self.host(request)
        if self.is_trusted(peer_address(request)):
            # Of a list the ends are not told apart: who wrote which of them is not known.
            forwarded = [value.strip().lower() for value in request.headers.getall("X-Forwarded-Proto", [])]
            scheme = forwarded[0] if forwarded in (["http"], ["https"]) else scheme
        if not _HOST.fullmatch(host) or _port(host) > MAX_PORT:
            raise BadRequest("The Host header is not a host name or address.")
        return f"{scheme}://{host}{self.forwarded_prefix(request.headers, request.transport)}"

    def host(self, request: web.BaseRequest) -> str:
        """Return what the visitor's browser calls this server, unchecked; of a list, which fits nothing, all of it."""
        host = request.headers.getall("Host", [""])
        if self.is_trusted(peer_address(request)):
            host = request.headers.getall("X-Forwarded-Host", host)
        return ",".join(host).lower()

    def is_own_host(self, host: str) -> bool:
        """Tell whether that is the host of `base_url`, if there is one."""
        port = ":443" if self._base_url.startswith("https:") else ":80"
        return bool(host) and host.removesuffix(port) == _host_of(self._base_url).removesuffix(port)

    def forwarded_prefix(self, headers: MultiMapping[str], transport: asyncio.BaseTransport | None) -> str:
        """Return the path that a proxy says it shows this site under, "" where nobody we believe says so.

        Raises BadRequest for what is no plain path.
        """
        if PREFIX_HEADER not in headers or not self.is_trusted(address_of(transport)):
            return ""
        prefix = plain_prefix(",".join(headers.getall(PREFIX_HEADER)))
        if prefix is None:
            raise BadRequest(f"The header {PREFIX_HEADER} is not a plain path.")
        return prefix

    def opened_at(self, request: web.BaseRequest) -> str:
        """Return the address under which the browser that sent this form has the site open: cookies are for that.

        Links start with the address in the settings; a form may come from another of the server's names. Raises
        BadRequest as `base_url` does.
        """
        base, origin = self.base_url(request), request.headers.get("Origin", "")
        if not origin.startswith(("http://", "https://")) or origin_of(origin) == origin_of(base):
            return base
        return origin_of(origin)


def is_nearby(host: str) -> bool:
    """Tell whether a Host is none of the internet's names: an address, or a name without a dot."""
    return _NEARBY.fullmatch(host) is not None


def origin_of(address: str) -> str:
    """Return scheme, host and port of an address, as browsers compare them."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}".lower()


def _is_loopback(peer: str | None) -> bool:
    address = None if peer is None else parse_address(peer)
    return address is not None and address.is_loopback


def _host_of(address: str) -> str:
    """Return host and port of a base address."""
    return address.partition("://")[2].partition("/")[0].lower()


def _port(host: str) -> int:
    """Return the port of a well-formed Host, 0 if it names none."""
    _, colon, port = host.rpartition(":")
    return int(port) if colon and port.isdigit() else 0


def peer_address(request: web.BaseRequest) -> str | None:
    """Return the address at the other end of the socket; None for a unix socket."""
    return address_of(request.transport)


def address_of(transport: asyncio.BaseTransport | None) -> str | None:
    """Return the address at the other end of a connection; None for a unix socket."""
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else None
