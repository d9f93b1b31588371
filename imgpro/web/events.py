"""`GET /v1/events`: what happens to the caller's pictures, as server-sent events."""

import contextlib
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from imgpro.appliance import Appliance
from imgpro.errors import Forbidden, Unauthorized
from imgpro.flows.events import Event, Listener
from imgpro.flows.quota import check_ability
from imgpro.model import Principal
from imgpro.web import respond, shapes
from imgpro.web.clients import Bases, Clients
from imgpro.web.door import Connection
from imgpro.web.identity import Identity
from imgpro.web.links import Links

PING_S: Final = 15.0  # proxies cut what is silent for a minute
RETRY_MS: Final = 2_000
_HEADERS: Final = {
    **respond.API_HEADERS,
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}


class EventHandlers:
    """Tells until the client goes away, its key or session ends, or the server stops."""

    def __init__(self, appliance: Appliance, clients: Clients, identity: Identity) -> None:
        self._appliance = appliance
        self._clients = clients
        self._identity = identity

    async def get_events(self, request: web.Request) -> web.StreamResponse:
        """Stream `uploaded`, `changed`, `deleted` and `reset`."""
        principal = await self._reader(request)
        bases = self._clients.bases(request)
        if request.method == hdrs.METH_HEAD:
            return web.Response(headers=_HEADERS)
        with self._appliance.events.listen(principal) as listener:
            # A client that is gone shows only when something is written to it; its place must be free before.
            if isinstance(request.protocol, Connection):
                request.protocol.when_lost = listener.end
            response = web.StreamResponse(headers=_HEADERS)
            await response.prepare(request)
            await response.write(f"retry: {RETRY_MS}\n\n".encode())
            with contextlib.suppress(ConnectionError):
                await self._tell(request, response, listener, bases)
        return response

    async def _tell(self, request: web.Request, response: web.StreamResponse, listener: Listener, bases: Bases) -> None:
        while not listener.ended:
            event = await listener.next(PING_S)
            if event is not None:
                await response.write(self._frame(event, bases))
            elif not listener.ended:
                try:
                    await self._reader(request)  # a session ends by time without anybody saying so
                except (Unauthorized, Forbidden):
                    return
                await response.write(b": still here\n\n")

    def _frame(self, event: Event, bases: Bases) -> bytes:
        body: Any = {}
        if event.image is not None:
            body = shapes.image(event.image, Links(bases, event.image, self._appliance.signer), to_owner=True)
        elif event.image_id:
            body = {"id": event.image_id}
        return b"event: %s\ndata: %s\n\n" % (event.kind.encode(), msgspec.json.encode(body))

    async def _reader(self, request: web.Request) -> Principal:
        principal = await self._identity.needed(request)
        check_ability(principal, "read")
        return principal
