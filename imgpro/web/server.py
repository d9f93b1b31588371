"""The outermost layer: connections are counted, hot pictures leave at once, every failure gets its one shape.

This sits around aiohttp's application rather than inside it as middleware, because malformed requests, a bad
`Expect` and unknown routes never reach a middleware, and because a hot picture needs neither routing nor a
chain of wrappers.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import hdrs, web

from imgpro.errors import BadRequest, ImgproError, NotFound
from imgpro.flows.addresses import network_of
from imgpro.flows.hot import HotPictures
from imgpro.flows.quota import Quota
from imgpro.ids import random_base62
from imgpro.settings import Server as ServerSettings
from imgpro.web import respond
from imgpro.web.access import AccessLog
from imgpro.web.bodies import close_unread
from imgpro.web.clients import Clients
from imgpro.web.identity import PRINCIPAL
from imgpro.web.images import hot_response
from imgpro.web.pages import ErrorPages

log = logging.getLogger(__name__)

Handler = Callable[[Any], Awaitable[web.StreamResponse]]

BACKLOG: Final = 1024
_WITH_USAGE: Final = ("/v1/", "/mcp")
LINGER_S: Final = 5.0  # how long a refused body is still read, so that its sender gets to see the answer
REQUEST_ID: Final = web.RequestKey("request_id", str)
TURNED_AWAY: Final = web.RequestKey("turned_away", bool)  # before its route was looked up
# What a request that outlived the stop deadline has to clean up after itself, and its answer to leave.
_LAST_WORDS_S: Final = 2.0

CONNECTION_OPTIONS: Final[dict[str, Any]] = {
    "auto_decompress": False,
    "max_line_size": 8190,
    "max_field_size": 8190,
    "max_headers": 64,
    "access_log": None,
}


# Scripts of any origin may call: credentials are keys in a header, never cookies.
_FOR_SCRIPTS: Final = ("/v1/", "/t/", "/mcp", "/upload", "/delete", "/heartbeat")
PREFLIGHT: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, Idempotency-Key, X-API-Key, Range, MCP-Protocol-Version, Mcp-Session-Id"
    ),
    "Access-Control-Max-Age": "86400",
}


class Dispatch:
    """Handles every request: hot path, application, errors, request id, access line."""

    def __init__(
        self,
        inner: Handler,
        hot: HotPictures,
        clients: Clients,
        access: AccessLog | None,
        pages: ErrorPages,
        quota: Quota,
    ) -> None:
        self._inner = inner
        self._quota = quota
        self._hot = hot
        self._clients = clients
        self._access = access
        self._pages = pages
        self._prefix = random_base62(6)
        self._count = itertools.count()
        self._under_way = 0
        self._draining: asyncio.Event | None = None

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; never raises but for a connection that is gone."""
        started = time.perf_counter()
        request_id = self.next_id()
        hot = self._hot.get(request.raw_path) if request.method == hdrs.METH_GET else None
        if (
            hot is not None
            and hdrs.RANGE not in request.headers
            and (not hot.expires_ms or time.time() * 1000 < hot.expires_ms)
        ):
            response: web.StreamResponse = hot_response(request, hot)
            route = "/t/{id}.{ext}"
        else:
            hot = None
            request[REQUEST_ID] = request_id
            self._under_way += 1
            try:
                response = await self._answer(request, request_id)
                await self._add_usage(request, response)
            finally:
                self._under_way -= 1
                if self._draining is not None and not self._under_way:
                    self._draining.set()
            route = _route(request)
        if not response.prepared:
            if hot is None:
                response.headers[hdrs.SERVER] = respond.SERVER
            response.headers["X-Request-Id"] = request_id
            if self._draining is not None:
                response.force_close()
        if self._access is not None:
            sent = response.content_length or 0
            client = getattr(request.protocol, "client", None) or self._clients.address(request)
            self._access.note(request.method, route, response.status, sent, started, client, request_id)
        return response

    async def _add_usage(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Put on every answer of the API to somebody known how much of the plan is used."""
        if PRINCIPAL not in request or response.prepared or not request.path.startswith(_WITH_USAGE):
            return
        try:
            usage = await self._quota.usage(request[PRINCIPAL].account)
        except Exception as problem:  # noqa: BLE001 - what the answer reports is done, and must be told
            log.warning("an answer goes without usage headers: %s", problem)
            return
        response.headers.update(respond.usage_headers(usage))

    async def drain(self, deadline_s: float) -> None:
        """Wait until no request is under way, at most so long; connections are closed after their next answer."""
        self._draining = asyncio.Event()
        if self._under_way:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline_s):
                    await self._draining.wait()

    def next_id(self) -> str:
        """Return an id that no other request of this run has."""
        return f"{self._prefix}{next(self._count):x}"

    async def _answer(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        try:
            if self._clients.is_for_pictures(request) and not request.path.startswith("/t/"):
                request[TURNED_AWAY] = True
                raise NotFound()
            return await self._inner(request)
        except ImgproError as problem:
            response = self._problem(request, problem)
        except web.HTTPRedirection as redirect:
            return web.Response(
                status=redirect.status, headers={"Location": redirect.headers["Location"], "Cache-Control": "no-store"}
            )
        except web.HTTPException as problem:
            if request.method == hdrs.METH_OPTIONS and request.path.startswith(_FOR_SCRIPTS):
                return web.Response(status=204, headers=PREFLIGHT)
            plain = respond.from_http_exception(problem)
            response = self._pages.for_browser(request, problem.status) or plain
            if hdrs.ALLOW in plain.headers:
                response.headers[hdrs.ALLOW] = plain.headers[hdrs.ALLOW]
        except ConnectionError:
            raise
        except Exception:
            log.exception("unexpected failure in request %s", request_id)
            response = respond.error(ImgproError())
        if request.writer.output_size > 0:
            # A second answer now would be taken for the rest of the first.
            raise ConnectionResetError("an answer broke off")
        close_unread(request, response)
        return response

    def _problem(self, request: web.BaseRequest, problem: ImgproError) -> web.Response:
        if problem.status >= 500:
            log.warning("%s: %s", problem.code, problem.message)
        try:
            base = self._clients.base_url(request)
        except BadRequest:
            base = ""
        return self._pages.for_browser(request, problem.status, problem) or respond.error(problem, base)


class Connection(web.RequestHandler):
    """One client connection, counted, whose protocol errors are answered in our shape."""

    __slots__ = ("_door", "_network", "client", "when_lost")

    def __init__(self, manager: "Door", **options: Any) -> None:
        super().__init__(manager, **options)
        self._door = manager
        self._network: str | None = None
        self.when_lost: Callable[[], None] | None = None  # for an answer without an end
        self.client: str | None = None  # the caller's address; None where each request names its own

    def connection_made(self, transport: Any) -> None:
        """Take the connection unless there are too many."""
        super().connection_made(transport)
        self._network, self.client = self._door.arrive(transport)
        if self._network is None:
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        if self._network is not None:
            self._door.leave(self._network)
            self._network = None
        if self.when_lost is not None:
            self.when_lost()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp could not parse, or a failure outside our own handling."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is already under way")
        if status >= 500:
            log.error("failure while handling a request", exc_info=exc)
            response = respond.error(ImgproError())
        else:
            response = respond.error(BadRequest("The request is not well-formed HTTP."))
            response.set_status(status)
        _sign(response, self._door.next_id())
        response.force_close()
        return response


class Door(web.Server):
    """aiohttp's server with a bound on connections, in all and per network."""

    def __init__(self, handler: Dispatch, request_factory: Any, settings: ServerSettings, clients: Clients) -> None:
        # aiohttp's keep-alive deadline, an hour by default, is also its only limit on slow request headers.
        idle_s = settings.idle_deadline_s
        super().__init__(
            handler,
            request_factory=request_factory,
            keepalive_timeout=idle_s,
            lingering_time=min(LINGER_S, idle_s),
            **CONNECTION_OPTIONS,
        )
        self.next_id = handler.next_id
        self._stall_ms = int(idle_s * 2000)
        self._max_total = settings.max_connections
        self._max_per_network = settings.max_connections_per_network
        self._clients = clients
        self._per_network: Counter[str] = Counter()
        self._total = 0

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)

    def arrive(self, transport: Any) -> tuple[str | None, str | None]:
        """Count a connection. Return the network it counts for (None: no place) and, unless it is a proxy's, whose
        address it has.
        """
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else None
        network = "" if self._clients.is_trusted(address) else network_of(address or "")
        if self._total >= self._max_total or (network and self._per_network[network] >= self._max_per_network):
            return None, None
        self._total += 1
        self._per_network[network] += 1
        if address is not None:
            # A client that takes nothing of its answer would keep its place for ever: the kernel ends it.
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._stall_ms)
        return network, address if network else None

    def leave(self, network: str) -> None:
        """Give a place back."""
        self._total -= 1
        self._per_network[network] -= 1
        if not self._per_network[network]:
            del self._per_network[network]


class Runner(web.AppRunner):
    """Runs the application behind a `Door`."""

    def __init__(
        self,
        app: web.Application,
        settings: ServerSettings,
        clients: Clients,
        hot: HotPictures,
        access: AccessLog | None,
        pages: ErrorPages,
        quota: Quota,
    ) -> None:
        super().__init__(app, handle_signals=False, shutdown_timeout=_LAST_WORDS_S)
        app.on_response_prepare.append(_sign_streamed)
        self._parts = (settings, clients, hot, access, pages, quota)
        self._dispatch: Dispatch | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Answer on a bound socket until `drain`."""
        await web.SockSite(self, sock, backlog=BACKLOG).start()

    async def drain(self) -> None:
        """Take no new connections and let requests under way end, for `stop_deadline_s`; then comes `cleanup`.

        `cleanup` alone would stop reading from every connection at once, and an upload whose last bytes are still
        on their way could never end.
        """
        for site in tuple(self.sites):
            await site.stop()
        if self._dispatch is not None:
            await self._dispatch.drain(self._parts[0].stop_deadline_s)

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        settings, clients, hot, access, pages, quota = self._parts
        self._dispatch = dispatch = Dispatch(server.request_handler, hot, clients, access, pages, quota)
        return Door(dispatch, server.request_factory, settings, clients)


def _sign(response: web.StreamResponse, request_id: str) -> None:
    response.headers["X-Request-Id"] = request_id
    response.headers[hdrs.SERVER] = respond.SERVER


async def _sign_streamed(request: web.Request, response: web.StreamResponse) -> None:
    """Put the same headers on an answer whose handler sends it itself."""
    if "X-Request-Id" not in response.headers:
        _sign(response, request[REQUEST_ID])


def _route(request: web.BaseRequest) -> str:
    """Return the route's template, never the path: paths hold ids and names."""
    if isinstance(request, web.Request) and TURNED_AWAY not in request:
        resource = request.match_info.route.resource
        if resource is not None:
            return resource.canonical
    return "-"
