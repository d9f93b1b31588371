"""Who sent this request: a key in a header, or a browser's session cookie.

A session stands for its account only where nothing is changed, or where a form of our own was sent from our own
page: a cookie goes along with requests that other sites cause.
"""

import base64
from typing import Final

from aiohttp import hdrs, web

from imgpro.errors import Action, Forbidden, Unauthorized
from imgpro.flows.keyring import KeyRing
from imgpro.flows.serve import View
from imgpro.model import Caller, Principal
from imgpro.web.clients import Clients

SESSION_COOKIE: Final = "imgpro_session"
PRINCIPAL: Final = web.RequestKey("principal", Principal)
_SAFE: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


class Identity:
    """Finds the principal of a request; what was found is noted on the request for the answer's headers."""

    def __init__(self, ring: KeyRing, clients: Clients) -> None:
        self._ring = ring
        self._clients = clients

    async def of(self, request: web.Request) -> Principal | None:
        """Return who asks, None for nobody in particular. Raises Unauthorized, Forbidden."""
        secret = sent_key(request)
        if secret is not None:
            principal: Principal | None = await self._ring.by_key(secret)
        else:
            principal = await self.session(request) if request.method in _SAFE else None
        if principal is not None:
            request[PRINCIPAL] = principal
        return principal

    async def needed(self, request: web.Request) -> Principal:
        """Return who asks. Raises Unauthorized where nobody in particular does."""
        principal = await self.of(request)
        if principal is None:
            wanted = Action("fix", label="Send an API key as Authorization: Bearer; POST /v1/keys creates one")
            raise Unauthorized("An API key is needed for this.", wanted)
        return principal

    async def caller(self, request: web.Request) -> Caller:
        """Return the caller as limits see it. Raises Unauthorized, Forbidden."""
        return self._clients.caller(request, await self.of(request))

    async def session(self, request: web.Request) -> Principal | None:
        """Return who is signed in here, whatever the method."""
        token = request.cookies.get(SESSION_COOKIE)
        return await self._ring.by_session(token) if token else None

    async def from_own_page(self, request: web.Request) -> Principal:
        """Return who sent a form of our own. Raises Unauthorized, Forbidden for one that came from elsewhere."""
        self.check_origin(request)
        principal = await self.session(request)
        if principal is None:
            raise Unauthorized("Sign in first.", Action("redirect", url="/dashboard", label="Sign in"))
        return principal

    def check_origin(self, request: web.Request) -> None:
        """Refuse a form that another site sent. Raises Forbidden."""
        if not self.is_own_form(request):
            way_out = Action("fix", label="Open the page on this server and try again")
            raise Forbidden("This form was sent from another site.", way_out)

    def is_own_form(self, request: web.Request) -> bool:
        """Tell whether a form was sent from a page of this server.

        By the browser's own word where it gives one (Sec-Fetch-Site), else by the origin it names: our pages forbid
        referrers, and some browsers then call their origin "null".
        """
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get(hdrs.ORIGIN)
        if site is not None:
            return site in ("same-origin", "none")
        here = f"{request.scheme}://{request.headers.get(hdrs.HOST, '')}"
        return origin is None or _origin(origin) in (_origin(self._clients.base_url(request)), _origin(here))

    def view(self, request: web.Request) -> View:
        """Return with what right a picture is looked at; who asks is found out when it matters."""

        async def asker() -> Principal | None:
            try:
                return await self.of(request)
            except (Unauthorized, Forbidden):
                return None

        return View(request.query.get("sig"), asker)


def _origin(address: str) -> str:
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}".lower()


def sent_key(request: web.BaseRequest) -> str | None:
    """Return the API key that a request carries: Bearer, `X-API-Key`, or the password of basic authentication.

    Raises Unauthorized for another kind of credential: one that cannot be honoured is an error, never a silent
    anonymous request.
    """
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is None:
        return request.headers.get("X-API-Key")
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")[2]
        except ValueError:  # of base64 or of UTF-8
            raise Unauthorized() from None
    raise Unauthorized()
