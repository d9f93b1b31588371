"""Where connections come in: counted, in all and per network, and answered in our shape where they speak no HTTP."""

import logging
import resource
import socket
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from aiohttp import hdrs, web

from imgpro.errors import BadRequest, ImgproError
from imgpro.flows.addresses import network_of
from imgpro.ids import REQUEST
from imgpro.settings import Server as ServerSettings
from imgpro.web import respond
from imgpro.web.clients import Clients

log = logging.getLogger(__name__)

PROXY_IDLE_S: Final = 150.0  # longer than proxies keep a connection that nobody needs: 60 to 120 seconds
OWN_FILES: Final = 64  # open whatever anybody asks for: database, workers, sockets, threads
LINGER_S: Final = 5.0  # how long a refused body is still read, so that its sender gets to see the answer
CONNECTION_OPTIONS: Final[dict[str, Any]] = {
    "auto_decompress": False,
    "max_line_size": 8190,
    "max_field_size": 8190,
    "max_headers": 64,
    "access_log": None,
}


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
        peer, sock = transport.get_extra_info("peername"), transport.get_extra_info("socket")
        if self._network is None and not self.take(peer, sock):
            transport.abort()
        elif not self._network:
            # It may send an upload in the very moment in which we close: then nobody knows what became of it.
            self._keepalive_timeout = max(self._keepalive_timeout, PROXY_IDLE_S)

    def take(self, peer: Any, sock: Any) -> bool:
        """Count the connection, before or when it is made; False if there are too many."""
        self._network, self.client = self._door.arrive(peer, sock)
        return self._network is not None

    def give_back(self) -> None:
        """Give its place back."""
        if self._network is not None:
            self._door.leave(self._network)
            self._network = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        self.give_back()
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
        request_id = self._door.next_id()
        if status >= 500:
            at_hand = REQUEST.set(request_id)
            log.error("failure while handling a request", exc_info=exc)
            REQUEST.reset(at_hand)
            response = respond.error(ImgproError())
        else:
            response = respond.error(BadRequest("The request is not well-formed HTTP."))
            response.set_status(status)
        sign(response, request_id)
        response.force_close()
        return response


def connections_possible() -> int:
    """Return for how many connections, and for the files that their requests open, there are descriptors."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if files == resource.RLIM_INFINITY else max(8, (files - OWN_FILES) // 2)


class Door(web.Server):
    """aiohttp's server with a bound on connections, in all and per network. `handler` is a `Dispatch`."""

    def __init__(self, handler: Any, request_factory: Any, settings: ServerSettings, clients: Clients) -> None:
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
        self.apply(settings)
        self._clients = clients
        self._per_network: Counter[str] = Counter()
        self._total = 0

    def apply(self, settings: ServerSettings) -> None:
        """Take other bounds, for connections from now on."""
        self._max_total = min(settings.max_connections, connections_possible())
        self._max_per_network = settings.max_connections_per_network

    def __call__(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)

    def arrive(self, peer: Any, sock: Any) -> tuple[str | None, str | None]:
        """Count a connection. Return the network it counts for (None: no place) and, unless it is a proxy's, whose
        address it has.
        """
        address = str(peer[0]) if isinstance(peer, tuple) else None
        network = "" if self._clients.is_trusted(address) else network_of(address or "")
        if self._total >= self._max_total or (network and self._per_network[network] >= self._max_per_network):
            return None, None
        self._total += 1
        self._per_network[network] += 1
        if address is not None:
            # A client that takes nothing of its answer would keep its place for ever: the kernel ends it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._stall_ms)
        # As people write it, for the log: a socket for both kinds says ::ffff:192.0.2.1.
        return network, address.removeprefix("::ffff:") if network and address else None

    def leave(self, network: str) -> None:
        """Give a place back."""
        self._total -= 1
        self._per_network[network] -= 1
        if not self._per_network[network]:
            del self._per_network[network]


def sign(response: web.StreamResponse, request_id: str) -> None:
    """Put on an answer what all of them carry."""
    response.headers["X-Request-Id"] = request_id
    response.headers[hdrs.SERVER] = respond.SERVER
