"""Who sent this request: a key in a header, a browser's session cookie, or a proxy that vouches for its visitor.

A cookie, and what a proxy adds, goes along with requests that other sites cause. It therefore stands for its account
only where nothing is changed, or where the request comes from our own origin and names a token that only our own pages
know: forms in a hidden field, scripts in the header `X-CSRF-Token`, a form that sends a file in its query.
"""

import base64
import hmac
import time
from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import hdrs, web

from imgpro.errors import Action, Forbidden, Unauthorized, ValidationError
from imgpro.flows.keyring import KeyRing
from imgpro.flows.serve import View
from imgpro.ids import secret_hash
from imgpro.model import Account, Caller, Principal
from imgpro.signing import Signer
from imgpro.web.clients import Clients, origin_of
from imgpro.web.header_sign_in import HeaderSignIn
from imgpro.web.prefixes import PREFIX

SESSION_COOKIE: Final = "imgpro_session"
CSRF_HEADER: Final = "X-CSRF-Token"
CSRF_FIELD: Final = "csrf"
KEY_FIELD: Final = "key"
PRINCIPAL: Final = web.RequestKey("principal", Principal)
DAY_S: Final = 86_400
_SAFE: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


class Visitor(msgspec.Struct, frozen=True):
    """Who is signed in on this browser, and the token that this session's own pages put into what they send.

    `by_proxy`: not by a session of ours, but by the word of a proxy, which comes with every request.
    """

    principal: Principal
    csrf: str
    by_proxy: bool = False

    @property
    def account(self) -> Account:
        """Whose session it is."""
        return self.principal.account

    @property
    def operates(self) -> bool:
        """Tell whether it is the operator's."""
        return self.account.role == "operator"


class Identity:
    """Finds the principal of a request; what was found is noted on the request for the answer's headers."""

    def __init__(self, ring: KeyRing, clients: Clients, signer: Signer, headers: HeaderSignIn) -> None:
        self._ring = ring
        self._clients = clients
        self._signer = signer
        self._headers = headers

    async def of(self, request: web.Request) -> Principal | None:
        """Return who asks, None for nobody in particular. Raises Unauthorized, Forbidden."""
        secret = sent_key(request)
        if secret is not None:
            principal: Principal | None = await self._ring.by_key(secret)
        else:
            principal = await self._by_session(request)
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

    async def uploader(self, request: web.Request) -> Caller:
        """Return the caller of a route that takes files, where a key may stand in the address too.

        Some programs cannot send headers. An address ends up in logs, histories and notes, so only a key that can do
        nothing but upload may be in one. Raises Unauthorized, Forbidden, ValidationError.
        """
        secret = request.query.get(KEY_FIELD)
        if secret is None:
            return await self.caller(request)
        if sent_key(request) not in (None, secret):
            raise ValidationError(None, None, {KEY_FIELD: "Is another key than that in the header; send one of them."})
        principal = await self._ring.by_key(secret)
        if principal.key is None or principal.key.abilities != ("upload",):
            wanted = Action("fix", label="Send this key as Authorization: Bearer, or make one that may only upload")
            raise Forbidden("A key that may do more than upload must not stand in an address.", wanted)
        request[PRINCIPAL] = principal
        return self._clients.caller(request, principal)

    async def session(self, request: web.Request) -> Principal | None:
        """Return who is signed in here, whatever the method."""
        visitor = await self.visitor(request)
        return None if visitor is None else visitor.principal

    async def visitor(self, request: web.Request) -> Visitor | None:
        """Return who is signed in here, for a page that shows it."""
        claim = self._headers.claim(request)
        if claim is not None:
            account = await self._headers.account(request, claim)
            return None if account is None else self._vouched(account)
        token = session_token(request)
        principal = await self._ring.by_session(token) if token else None
        return None if principal is None or token is None else Visitor(principal, self._csrf(token))

    async def from_own_page(self, request: web.Request, form: Mapping[str, str]) -> Principal:
        """Return who sent a form of our own. Raises Unauthorized, Forbidden for one that came from elsewhere."""
        return (await self.sender(request, form)).principal

    async def sender(self, request: web.Request, form: Mapping[str, str]) -> Visitor:
        """Return who sent a form of our own, for the page that answers it. Raises Unauthorized, Forbidden."""
        self.check_origin(request)
        visitor = await self.visitor(request)
        if visitor is None:
            raise Unauthorized("Sign in first.", Action("redirect", url="/dashboard", label="Sign in"))
        self._check_csrf(visitor, form.get(CSRF_FIELD, ""))
        return visitor

    async def _by_session(self, request: web.Request) -> Principal | None:
        """Return who is signed in here, where the request shows that it was meant."""
        if request.method in _SAFE:
            visitor = await self._asking(request)
            return None if visitor is None else visitor.principal
        sent = request.headers.get(CSRF_HEADER) or request.query.get(CSRF_FIELD)
        if sent is None:
            return None
        self.check_origin(request)
        visitor = await self._asking(request)
        if visitor is None:
            # The page was opened signed in: going on as nobody in particular would surprise whoever uses it.
            raise Unauthorized("You are not signed in any more.", Action("redirect", "/dashboard", "Sign in"))
        self._check_csrf(visitor, sent)
        return visitor.principal

    async def _asking(self, request: web.Request) -> Visitor | None:
        """Return who a script or a picture of our pages is for: who is signed in, or has the voucher of such a page."""
        visitor = await self.visitor(request)
        if visitor is not None or self._headers.claim(request) is not None:
            return visitor
        account = await self._headers.by_voucher(request)
        return None if account is None else self._vouched(account)

    def _vouched(self, account: Account) -> Visitor:
        return Visitor(Principal(account, None), self._daily(account), by_proxy=True)

    def _csrf(self, token: str) -> str:
        return self._signer.sign("csrf", secret_hash(token).hex())

    def _daily(self, account: Account) -> str:
        """Return the token of a visitor who has no session: the same all day, good for one day more."""
        ends_s = (int(time.time()) // DAY_S + 2) * DAY_S
        return self._signer.sign("csrf", _by_proxy(account), ends_s)

    def _check_csrf(self, visitor: Visitor, sent: str) -> None:
        if visitor.by_proxy:
            good = self._signer.verify(sent, "csrf", _by_proxy(visitor.account), time.time())
        else:
            good = hmac.compare_digest(sent.encode("utf-8", "replace"), visitor.csrf.encode())
        if not good:
            raise Forbidden("This page is from another session.", Action("fix", label="Reload the page and try again"))

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
        return origin is None or origin_of(origin) in (origin_of(self._clients.base_url(request)), origin_of(here))

    def view(self, request: web.Request) -> View:
        """Return with what right a picture is looked at; who asks is found out when it matters."""

        async def asker() -> Principal | None:
            try:
                return await self.of(request)
            except (Unauthorized, Forbidden):
                return None

        return View(request.query.get("sig"), asker)


def _by_proxy(account: Account) -> str:
    return f"by proxy {account.id}"


def session_cookie(request: web.BaseRequest) -> str:
    """Return the name of the cookie that holds the session.

    Sites under several paths of one host each have their own: a browser sends those of `/` to all of them.
    """
    prefix: str = request.get(PREFIX, "")
    return SESSION_COOKIE + prefix.replace("/", ".")


def session_token(request: web.BaseRequest) -> str | None:
    """Return the session that a browser sends."""
    return request.cookies.get(session_cookie(request))


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
