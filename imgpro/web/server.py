"""The outermost layer: connections are counted, hot pictures leave at once, every failure gets its one shape.

This sits around aiohttp's application rather than inside it as middleware, because malformed requests, a bad
`Expect` and unknown routes never reach a middleware, and because a hot picture needs neither routing nor a
chain of wrappers.
"""

import asyncio
import contextlib
import itertools
import logging
import re
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web

from imgpro.errors import BadRequest, ImgproError, NotFound, StorageFull
from imgpro.flows.courtesy import Courtesy
from imgpro.flows.hot import HotPictures
from imgpro.flows.quota import Quota
from imgpro.ids import REQUEST, random_base62
from imgpro.settings import Server as ServerSettings
from imgpro.web import respond
from imgpro.web.access import AccessLog
from imgpro.web.bodies import close_unread
from imgpro.web.clients import Clients, peer_address
from imgpro.web.counting import RequestCounts
from imgpro.web.door import Door, sign
from imgpro.web.handshake import SecureSite
from imgpro.web.identity import PRINCIPAL
from imgpro.web.images import hot_response
from imgpro.web.pages import ErrorPages
from imgpro.web.prefixes import BARE, Make, as_forwarded, own_names, taken_off, unmistakable
from imgpro.web.tls import Certificate

if TYPE_CHECKING:
    from imgpro.web.metrics import MetricsDoor

log = logging.getLogger(__name__)

Handler = Callable[[Any], Awaitable[web.StreamResponse]]
Leads = Callable[[web.BaseRequest], Awaitable[web.Response | None]]  # from an address of before to where it is now

BACKLOG: Final = 1024
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
_WITH_USAGE: Final = ("/v1/", "/mcp")
REQUEST_ID: Final = web.RequestKey("request_id", str)
TURNED_AWAY: Final = web.RequestKey("turned_away", bool)  # before its route was looked up
# What a request that outlived the stop deadline has to clean up after itself, and its answer to leave.
_LAST_WORDS_S: Final = 2.0
# How long connections on which nothing is under way are waited for when the server stops.
_LAST_CALL_S: Final = 1.0

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
        leads: Leads,
        courtesy: Courtesy,
        counts: RequestCounts | None = None,
    ) -> None:
        self._inner = inner
        self._leads = leads
        self._courtesy = courtesy
        self._counts = counts
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
        client = getattr(request.protocol, "client", None)
        request_id = self.next_id() if client is not None else self._id_of(request)
        hot = self._hot.get(request.raw_path) if request.method == hdrs.METH_GET else None
        if (
            hot is not None
            and hdrs.RANGE not in request.headers
            and (not hot.expires_ms or time.time() * 1000 < hot.expires_ms)
        ):
            response: web.StreamResponse = hot_response(request, hot)
            if self._counts is not None:
                self._counts.from_memory += 1
            route = "/t/{id}.{ext}"
        else:
            hot = None
            request[REQUEST_ID] = request_id
            at_hand = REQUEST.set(request_id)
            self._under_way += 1
            try:
                response = await self._answer(request)
                await self._add_usage(request, response)
            finally:
                REQUEST.reset(at_hand)
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
        took_s = time.perf_counter() - started
        self._courtesy.served += 1
        if self._counts is not None:
            self._counts.note(request.method, route, response.status, took_s)
        if self._access is not None:
            sent = response.content_length or 0
            client = client or self._clients.address(request)
            key = "" if hot is not None else _key_of(request)
            self._access.note(request.method, route, response.status, sent, took_s, client, request_id, key)
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

    def note_in(self, access: AccessLog | None) -> None:
        """Note requests elsewhere, or (None) nowhere."""
        if self._access is not None:
            self._access.flush()
        self._access = access

    def begin_to_drain(self) -> None:
        """Close each connection after its next answer, and say so in it."""
        self._draining = asyncio.Event()

    async def drain(self, deadline_s: float) -> None:
        """Wait until no request is under way, at most so long."""
        if self._under_way and self._draining is not None:
            self._draining.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline_s):
                    await self._draining.wait()

    def next_id(self) -> str:
        """Return an id that no other request of this run has."""
        return f"{self._prefix}{next(self._count):x}"

    def _id_of(self, request: web.BaseRequest) -> str:
        """Return the id that a proxy of ours has given a request, so that both logs name it alike; else a new one."""
        given = request.headers.get("X-Request-Id", "")
        if given and _SAFE_ID.fullmatch(given) and self._clients.is_trusted(peer_address(request)):
            return given
        return self.next_id()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if BARE in request:
            request[TURNED_AWAY] = True
            return _with_slash(request)
        try:
            self._clients.note_strangers(request)
            if self._clients.is_for_pictures(request) and not request.path.startswith("/t/"):
                request[TURNED_AWAY] = True
                raise NotFound()
            return await self._inner(request)
        except ImgproError as problem:
            response = await self._led(request, problem.status) or self._problem(request, problem)
        except web.HTTPRedirection as redirect:
            return web.Response(
                status=redirect.status, headers={"Location": redirect.headers["Location"], "Cache-Control": "no-store"}
            )
        except web.HTTPException as problem:
            if request.method == hdrs.METH_OPTIONS and request.path.startswith(_FOR_SCRIPTS):
                return web.Response(status=204, headers=PREFLIGHT)
            plain = respond.from_http_exception(problem)
            led = await self._led(request, problem.status)
            response = led or self._pages.for_browser(request, problem.status) or plain
            if hdrs.ALLOW in plain.headers:
                response.headers[hdrs.ALLOW] = plain.headers[hdrs.ALLOW]
        except ConnectionError:
            raise
        except Exception:
            log.exception("unexpected failure")
            failure = ImgproError()
            response = self._pages.for_browser(request, failure.status, failure) or respond.error(failure)
        if request.writer.output_size > 0:
            # A second answer now would be taken for the rest of the first.
            raise ConnectionResetError("an answer broke off")
        close_unread(request, response)
        return response

    async def _led(self, request: web.BaseRequest, status: int) -> web.Response | None:
        """Return the answer that leads on from an address of before, where there would be a 404."""
        if status != NotFound.status or request.writer.output_size > 0:
            return None
        try:
            return await self._leads(request)
        except ImgproError as problem:  # the database is busy or closing: then it stays a 404
            log.warning("an old link was not looked up: %s", problem)
            return None

    def _problem(self, request: web.BaseRequest, problem: ImgproError) -> web.Response:
        if problem.status >= 500:
            # That the disk is full is said once, by whoever watches it.
            level = logging.INFO if problem.status == StorageFull.status else logging.WARNING
            log.log(level, "%s: %s", problem.code, problem.message)
        try:
            base = self._clients.base_url(request)
        except BadRequest:
            base = ""
        return self._pages.for_browser(request, problem.status, problem) or respond.error(problem, base)


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
        leads: Leads,
        courtesy: Courtesy,
        counts: RequestCounts | None = None,
    ) -> None:
        super().__init__(app, handle_signals=False, shutdown_timeout=_LAST_WORDS_S)
        app.on_response_prepare.append(_sign_streamed)
        self._parts = (settings, clients, hot, access, pages, quota, leads, courtesy, counts)
        self.metrics_door: MetricsDoor | None = None
        self._dispatch: Dispatch | None = None
        self._stop_deadline_s = settings.stop_deadline_s

    def apply(self, settings: ServerSettings, access: AccessLog | None) -> None:
        """Take other bounds, and write the lines of requests or (None) no more."""
        self._stop_deadline_s = settings.stop_deadline_s
        if isinstance(self.server, Door):
            self.server.apply(settings)
        if self._dispatch is not None:
            self._dispatch.note_in(access)

    async def listen(self, sock: socket.socket, certificate: Certificate | None = None) -> None:
        """Answer on a bound socket until `drain`, over TLS where there is a certificate for it."""
        if certificate is None:
            await web.SockSite(self, sock, backlog=BACKLOG).start()
        else:
            await SecureSite(self, sock, certificate, self._parts[0].idle_deadline_s, BACKLOG).start()

    async def drain(self) -> None:
        """Take no new connections and let requests under way end, for `stop_deadline_s`; then comes `cleanup`.

        `cleanup` alone would stop reading from every connection at once, and an upload whose last bytes are still
        on their way could never end. Whoever has just connected, or keeps a connection busy, is answered once more and
        told that it closes: with a socket that another process goes on to answer, no request is lost.
        """
        for site in tuple(self.sites):
            await site.stop()
        if self._dispatch is None or self.server is None:
            return
        self._dispatch.begin_to_drain()
        last_call = time.monotonic() + _LAST_CALL_S
        while self.server.connections and time.monotonic() < last_call:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # nobody tells when a connection goes
        await self._dispatch.drain(self._stop_deadline_s)

    async def cleanup(self) -> None:
        """End all connections."""
        await super().cleanup()
        if self._dispatch is not None:
            self._dispatch.note_in(None)

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        settings, clients, hot, access, pages, quota, leads, courtesy, counts = self._parts
        self._dispatch = dispatch = Dispatch(
            server.request_handler, hot, clients, access, pages, quota, leads, courtesy, counts
        )
        return Door(dispatch, self._beneath(server.request_factory), settings, clients)

    def _beneath(self, make: Make) -> Make:
        """Return what makes requests of messages, less the path that a proxy has left on them."""
        clients, own = self._parts[1], own_names(self.app)
        if clients.site_path is None:
            return as_forwarded(make, clients.forwarded_prefix, own)
        paths = unmistakable(clients.paths, own)
        for path in set(clients.paths) - set(paths):
            log.warning("the proxy has to take %s off: imgpro has paths of its own that begin so", path)
        return taken_off(make, paths, clients.site_path if clients.site_path in paths else "") if paths else make


def _with_slash(request: web.BaseRequest) -> web.Response:
    """Lead whoever asked for the prefix alone to the page below it, which relative links need."""
    query = request.rel_url.raw_query_string
    location = f"{request[BARE]}/" + (f"?{query}" if query else "")
    return web.Response(status=308, headers={"Location": location, "Cache-Control": "no-store"})


async def _sign_streamed(request: web.Request, response: web.StreamResponse) -> None:
    """Put the same headers on an answer whose handler sends it itself."""
    if "X-Request-Id" not in response.headers:
        sign(response, request[REQUEST_ID])


def _key_of(request: web.BaseRequest) -> str:
    """Return the public id of the key that a request came with; empty for a session or nobody."""
    principal = request.get(PRINCIPAL, None)
    return principal.key.id if principal is not None and principal.key is not None else ""


def _route(request: web.BaseRequest) -> str:
    """Return the route's template, never the path: paths hold ids and names."""
    if isinstance(request, web.Request) and TURNED_AWAY not in request:
        resource = request.match_info.route.resource
        if resource is not None:
            return resource.canonical
    return "-"
