"""Fetch a picture from another server for an import, without becoming a way into the local network.

The address is judged at connect, in the connector's socket factory: a host that is an IP literal never asks a
resolver, and a name may resolve differently a moment later. A forbidden, refused, unreachable or silent
address all give one answer, so that imports cannot be used to scan. Source of the rules: OWASP SSRF
prevention, RFC 6890 and the IANA special-purpose registries.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import unquote

import aiohttp
import msgspec
from yarl import URL

from imgpro import __version__
from imgpro.errors import FetchFailed, FetchTimedOut, FileTooLarge, NotFound, ValidationError
from imgpro.flows.addresses import is_own, may_fetch, parse_address
from imgpro.settings import Imports

MAX_REDIRECTS: Final = 3
MAX_URL_CHARS: Final = 2_048
CONNECT_DEADLINE_S: Final = 4.0
READ_DEADLINE_S: Final = 5.0
CHUNK_BYTES: Final = 65_536

_URL = re.compile(r"https?://([^\s\\\x00-\x20\x7f/?#]+)[^\s\\\x00-\x20\x7f]*", re.IGNORECASE)
_SECONDS: Final = re.compile(r"[0-9]{1,6}", re.ASCII)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_FORBIDDEN: Final = "this address may not be fetched from"
_ODD: Final = "It is no address of a picture, or one with a login in it."
_NOT_ALLOWED: Final = (
    "It is this server's, or no public one: imports.private_networks names networks that may be asked."
)
_SILENT: Final = "Nothing answers there."
_UNUSABLE: Final = "Must be the http or https address of a picture on a public server that answers."


class Fetched(msgspec.Struct, frozen=True):
    """An answer under way: the file name that its address suggests and its bytes."""

    name: str
    chunks: AsyncIterator[bytes]


class _Forbidden(OSError):
    """Raised inside the connector; looks like any other failure to connect."""


class Fetcher:
    """Fetches with the rules of one `imports` section. `own_ports` are the ports this server listens on."""

    def __init__(self, settings: Imports) -> None:
        self.own_ports: frozenset[int] = frozenset()
        self.apply(settings)

    def apply(self, settings: Imports) -> None:
        """Take other rules, for connections from now on."""
        self._settings = settings
        self._private = tuple(ipaddress.ip_network(text, strict=False) for text in settings.private_networks)

    @property
    def enabled(self) -> bool:
        """Tell whether anything is fetched at all."""
        return self._settings.enabled

    @contextlib.asynccontextmanager
    async def open(self, url: str, max_bytes: int) -> AsyncIterator[Fetched]:
        """Connect and yield the answer of a 200 that announces no more than `max_bytes`; its reader counts.

        Raises NotFound when imports are off, ValidationError for an address that may not or cannot be
        reached, FileTooLarge, FetchFailed for an answer that is no use, FetchTimedOut when it is too slow.
        """
        if not self._settings.enabled:
            raise NotFound("Imports are turned off on this server.")
        target = self._parse(url)
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                async with self._session() as session, self._follow(session, target) as response:
                    if response.content_length is not None and response.content_length > max_bytes:
                        raise FileTooLarge
                    name = unquote(response.url.raw_name)
                    yield Fetched(name, response.content.iter_chunked(CHUNK_BYTES))
        except TimeoutError:
            raise FetchTimedOut() from None
        except aiohttp.ClientError:
            raise FetchFailed() from None

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            socket_factory=self._make_socket, use_dns_cache=False, force_close=True, limit=1, happy_eyeballs_delay=None
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_DEADLINE_S, sock_read=READ_DEADLINE_S),
            headers={"User-Agent": f"imgpro/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"},
        )

    @contextlib.asynccontextmanager
    async def _follow(self, session: aiohttp.ClientSession, target: URL) -> AsyncIterator[aiohttp.ClientResponse]:
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._get(session, target)
            try:
                if response.status not in _REDIRECTS:
                    _check_answer(response)
                    yield response
                    return
                target = self._next_hop(response)
            finally:
                response.close()
        raise FetchFailed("The address redirects too often.")

    async def _get(self, session: aiohttp.ClientSession, target: URL) -> aiohttp.ClientResponse:
        try:
            return await session.get(target, allow_redirects=False)
        except aiohttp.ClientConnectorError as error:
            raise _unusable(_NOT_ALLOWED if _FORBIDDEN in str(error.os_error) else _SILENT) from None
        except (aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL, ValueError):
            raise _unusable(_SILENT) from None

    def _next_hop(self, response: aiohttp.ClientResponse) -> URL:
        location = response.headers.get("Location", "")
        try:
            joined = str(response.url.join(URL(location)))
        except ValueError:
            raise FetchFailed("The address redirects to something that is not an address.") from None
        return self._parse(joined)

    def _parse(self, url: str) -> URL:
        match = _URL.fullmatch(url)
        if match is None or len(url) > MAX_URL_CHARS or "@" in match[1]:
            raise _unusable(_ODD)
        try:
            target = URL(url)
            port = target.port
        except ValueError:
            raise _unusable(_ODD) from None
        host = target.host or ""
        if not host or "%" in host:
            raise _unusable(_ODD)
        if port not in self._settings.ports:
            raise _unusable(f"Port {port} is not among imports.ports.")
        return target.with_fragment(None)

    def _make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, address = info
        host, port = address[0], address[1]
        if not may_fetch(host, self._private) or (port in self.own_ports and _is_here(host)):
            raise _Forbidden(_FORBIDDEN)
        return socket.socket(family, kind, proto)


def _is_here(host: str) -> bool:
    address = parse_address(host)
    return address is not None and is_own(address)


def _unusable(why: str) -> ValidationError:
    """Return the one answer for all that may not or cannot be reached; the operator may know which it was."""
    problem = ValidationError("The address cannot be imported.", None, {"url": _UNUSABLE})
    problem.why = why
    return problem


def _check_answer(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        problem = FetchFailed(f"The address answered with status {response.status}.")
        problem.answered = response.status
        asked = response.headers.get("Retry-After", "")
        problem.wait_s = int(asked) if _SECONDS.fullmatch(asked) else 0
        raise problem
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchFailed("The address answered with a compressed body.")
