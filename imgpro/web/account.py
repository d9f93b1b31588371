"""Pages about accounts: the mailed link, upgrades, claiming a new server, invitations, sign-in and a plain dashboard.

A GET never changes anything, because mail scanners follow links: each page has one button that does.
"""

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from imgpro.appliance import Appliance
from imgpro.errors import Forbidden, ImgproError, KeyLimitReached, NotFound, Unauthorized, ValidationError
from imgpro.flows.accounts import KeyRequest, Made
from imgpro.flows.email_address import parse_email
from imgpro.flows.upgrades import Offer
from imgpro.model import Account, Key, Principal
from imgpro.web import respond
from imgpro.web.bodies import Pace, read_form
from imgpro.web.clients import Clients
from imgpro.web.identity import SESSION_COOKIE, Identity
from imgpro.web.keys import parse_key_request
from imgpro.web.pages import Templates, show_date

log = logging.getLogger(__name__)

_LINK_FIELDS: Final = ("t", "exp", "sig")


class AccountPages:
    """`/verify`, `/upgrade/{plan}`, `/setup`, `/join`, `/dashboard` and what their forms do."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates, identity: Identity) -> None:
        self._appliance = appliance
        self._clients = clients
        self._templates = templates
        self._identity = identity

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        return [
            web.get("/verify", self.get_verify),
            web.post("/verify", self.post_verify),
            web.get("/upgrade/{plan:[a-z]{2,20}}", self.get_upgrade),
            web.post("/upgrade/{plan:[a-z]{2,20}}", self.post_upgrade),
            web.get("/upgrade/{plan:[a-z]{2,20}}/return", self.get_return),
            web.post("/upgrade/{plan:[a-z]{2,20}}/return", self.post_return),
            web.get("/setup", self.get_setup),
            web.post("/setup", self.post_setup),
            web.get("/join", self.get_join),
            web.post("/join", self.post_join),
            web.get("/dashboard", self.get_dashboard),
            web.post("/dashboard/sign-in", self.post_sign_in),
            web.post("/dashboard/sign-out", self.post_sign_out),
            web.post("/dashboard/keys", self.post_key),
            web.post("/dashboard/revoke", self.post_revoke),
            web.post("/dashboard/decide", self.post_decide),
        ]

    # The mailed link

    async def get_verify(self, request: web.Request) -> web.Response:
        """Show what a mailed link confirms."""
        about = await self._appliance.accounts.verification(request.query)
        return self._page(
            request,
            "verify.html",
            about=about,
            query=_link_query(request.query),
            shown=_key_facts,
        )

    async def post_verify(self, request: web.Request) -> web.Response:
        """Confirm, or say that it was somebody else."""
        form = await self._form(request)
        link = _link_query(form)
        if "decline" in form:
            await self._appliance.accounts.decline(link)
            return self._page(request, "declined.html")
        caller = self._clients.caller(request)
        keep = [name.removeprefix("keep-") for name in form if name.startswith("keep-")]
        verified = await self._appliance.accounts.verify(link, keep, caller)
        response = self._page(request, "verified.html", verified=verified, base=self._clients.base_url(request))
        # Signed in only where the form is known to be our own: else others could sign a visitor in as themselves.
        own = verified.secret is not None and self._identity.is_own_form(request)
        return await self._signed_in(request, response, verified.account, verified.kept[0]) if own else response

    # Upgrades

    async def get_upgrade(self, request: web.Request) -> web.Response:
        """Show what an upgrade link offers."""
        offer = await self._appliance.upgrades.offer(request.match_info["plan"], request.query)
        return self._offer_page(request, offer, "", self._appliance.upgrades.settings.upgrade)

    async def post_upgrade(self, request: web.Request) -> web.Response:
        """Take the offer."""
        form = await self._form(request)
        offer = await self._appliance.upgrades.offer(request.match_info["plan"], form)
        outcome, address = await self._appliance.upgrades.accept(offer)
        if outcome == "checkout":
            return respond.see_other(address)
        return self._page(request, "upgraded.html", offer=offer, outcome=outcome)

    async def get_return(self, request: web.Request) -> web.Response:
        """Show what the checkout has confirmed."""
        offer = await self._appliance.upgrades.paid_offer(request.match_info["plan"], request.query)
        return self._offer_page(request, offer, "/return", "paid")

    async def post_return(self, request: web.Request) -> web.Response:
        """Take what was paid for: from the page's button, or from the checkout's own call."""
        form = {**request.query, **await self._form(request)}
        offer = await self._appliance.upgrades.paid_offer(request.match_info["plan"], form)
        await self._appliance.upgrades.set_plan(offer.account, offer.plan.name)
        if "text/html" in request.headers.get(hdrs.ACCEPT, ""):
            return self._page(request, "upgraded.html", offer=offer, outcome="upgraded")
        return respond.json({"success": True})

    def _offer_page(self, request: web.Request, offer: Offer, tail: str, mode: str) -> web.Response:
        query = _link_query(request.query)
        response = self._page(request, "upgrade.html", offer=offer, query=query, tail=tail, mode=mode)
        if mode == "checkout":
            # Browsers hold a form to this rule on every redirect too.
            checkout = urlsplit(self._appliance.upgrades.settings.checkout_url)
            policy = response.headers["Content-Security-Policy"]
            allowed = f"form-action 'self' {checkout.scheme}://{checkout.netloc}"
            response.headers["Content-Security-Policy"] = policy.replace("form-action 'self'", allowed)
        return response

    # A new server, and invitations

    async def get_setup(self, request: web.Request) -> web.Response:
        """Show the form that makes the operator's account; there is no such page once there is one."""
        token = request.query.get("t", "")
        if not await self._appliance.operate.can_claim(token):
            raise NotFound("This link has ended or was used already. `imgpro setup-link` makes a new one.")
        return self._page(request, "setup.html", token=token, problem="", email="")

    async def post_setup(self, request: web.Request) -> web.Response:
        """Make the operator's account."""
        form = await self._form(request)
        token, email, problem = _who(form)
        if email is None:
            return self._page(request, "setup.html", 422, token=token, problem=problem, email=form.get("email", ""))
        made = await self._appliance.operate.claim(token, email, self._clients.caller(request).network)
        unsettled = None
        with contextlib.suppress(ImgproError):  # the key must be shown, whatever else fails now
            unsettled = await self._appliance.operate.unsettled_link(made.account)
        return await self._signed_in(request, self._new_key(request, made, unsettled), made.account, made.key)

    async def get_join(self, request: web.Request) -> web.Response:
        """Show the form that an invitation opens."""
        return self._page(request, "join.html", token=request.query.get("t", ""), problem="", email="")

    async def post_join(self, request: web.Request) -> web.Response:
        """Make the account of somebody who was invited."""
        form = await self._form(request)
        token, email, problem = _who(form)
        if email is None:
            return self._page(request, "join.html", 422, token=token, problem=problem, email=form.get("email", ""))
        asked = KeyRequest(email=email, invitation=token or None)
        made = await self._appliance.accounts.register(asked, self._clients.caller(request))
        return self._new_key(request, made, None)

    def _new_key(self, request: web.Request, made: Made, unsettled: str | None) -> web.Response:
        base, mail = self._clients.base_url(request), self._appliance.mail.enabled
        here = None if unsettled is None else unsettled.replace(self._appliance.home.base, base, 1)
        return self._page(request, "new-key.html", made=made, base=base, unsettled=here, mail=mail)

    # The dashboard

    async def get_dashboard(self, request: web.Request) -> web.Response:
        """Show who is signed in what they have, and everybody else the way in."""
        principal = await self._identity.session(request)
        if principal is None:
            return self._page(request, "sign-in.html", problem="")
        return await self._dashboard(request, principal)

    async def post_sign_in(self, request: web.Request) -> web.Response:
        """Exchange a key for a session."""
        self._identity.check_origin(request)
        form = await self._form(request)
        try:
            principal = await self._appliance.ring.by_key(form.get("key", "").strip())
        except (Unauthorized, Forbidden) as problem:
            return self._page(request, "sign-in.html", problem.status, problem=problem.message)
        if not (principal.may("read") and principal.may("write")) or principal.own_key_only is not None:
            words = "Sign in with a key that may read and write, after its address was verified."
            return self._page(request, "sign-in.html", 403, problem=words)
        response = respond.see_other("../dashboard")
        return await self._signed_in(request, response, principal.account, principal.key)

    async def post_sign_out(self, request: web.Request) -> web.Response:
        """End this session, or with `all` every session of the account."""
        principal = await self._identity.from_own_page(request)
        form = await self._form(request)
        token = None if "all" in form else request.cookies.get(SESSION_COOKIE)
        await self._appliance.sessions.end(principal.account, token)
        response = respond.see_other("../dashboard")
        response.del_cookie(SESSION_COOKIE, path=self._cookie_path(request))
        return response

    async def post_key(self, request: web.Request) -> web.Response:
        """Make a key for who is signed in, and show it once."""
        principal = await self._identity.from_own_page(request)
        form = await self._form(request)
        body: dict[str, Any] = {"name": form.get("name", "")}
        if form.get("abilities") == "upload":
            body["abilities"] = ["upload"]
        try:
            asked = parse_key_request(body, needs_email=False)
            made = await self._appliance.accounts.register(asked, self._clients.caller(request, principal))
        except (ValidationError, KeyLimitReached) as problem:
            words = next(iter(problem.details.values()), problem.message)
            return await self._dashboard(request, principal, problem=words, http_status=problem.status)
        return await self._dashboard(request, principal, made.secret)

    async def post_decide(self, request: web.Request) -> web.Response:
        """Grant or turn down a plan that somebody asks for: for the operator."""
        principal = await self._identity.from_own_page(request)
        form = await self._form(request)
        if principal.account.role != "operator":
            raise Forbidden("Only the operator of this server decides this.")
        command = "approve" if form.get("decision") == "approve" else "decline"
        await self._appliance.operate.perform(command, {"email": form.get("email", ""), "plan": form.get("plan")})
        return respond.see_other("../dashboard")

    async def post_revoke(self, request: web.Request) -> web.Response:
        """Revoke a key of who is signed in."""
        principal = await self._identity.from_own_page(request)
        await self._appliance.accounts.revoke(principal, (await self._form(request)).get("key_id", ""))
        return respond.see_other("../dashboard")

    async def _dashboard(
        self,
        request: web.Request,
        principal: Principal,
        secret: str | None = None,
        *,
        problem: str = "",
        http_status: int = 200,
    ) -> web.Response:
        appliance, account = self._appliance, principal.account
        plans = appliance.plans
        operates = account.role == "operator"
        return self._page(
            request,
            "dashboard.html",
            http_status,
            problem=problem,
            mail=appliance.mail.enabled,
            requests=await appliance.operate.requests() if operates else None,
            links=await appliance.operate.waiting_links() if operates else (),
            account=account,
            plan=plans.of(account),
            usage=await appliance.quota.usage(account),
            keys=await appliance.accounts.keys(principal),
            shown=_key_facts,
            secret=secret,
            offers=[(plan, appliance.upgrades.path(account, plan).lstrip("/")) for plan in plans.above(account)],
        )

    # Shared

    async def _form(self, request: web.Request) -> dict[str, str]:
        return await read_form(request, Pace(self._appliance.settings.uploads))

    def _page(self, request: web.Request, name: str, http_status: int = 200, **values: Any) -> web.Response:
        """Return a page. Where its address holds a secret, nothing on it tells anybody where it came from.

        A form on such a page is told from one of another site by that very secret. The others are told by their
        origin, which a browser on a plain LAN address only names if the page allows referrers within the site.
        """
        response = self._templates.page(request, name, http_status, **values)
        if "t" in request.query:
            response.headers["Referrer-Policy"] = "no-referrer"
        return response

    async def _signed_in(
        self, request: web.Request, response: web.Response, account: Account, key: Key | None
    ) -> web.Response:
        """Put a session on an answer. Without one it is still worth having: it may show a key for the only time."""
        sessions = self._appliance.sessions
        try:
            token = await sessions.start(account, key)
        except ImgproError as problem:
            log.warning("somebody could not be signed in: %s", problem)
            return response
        response.set_cookie(
            SESSION_COOKIE,
            token,
            path=self._cookie_path(request),
            max_age=sessions.session_s,
            secure=self._clients.base_url(request).startswith("https:"),
            httponly=True,
            samesite="Lax",
        )
        return response

    def _cookie_path(self, request: web.Request) -> str:
        base = self._clients.base_url(request)
        return "/" + base.partition("://")[2].partition("/")[2]


def _link_query(values: Mapping[str, str]) -> dict[str, str]:
    return {name: values.get(name, "") for name in _LINK_FIELDS}


def _who(form: Mapping[str, str]) -> tuple[str, str | None, str]:
    """Return the token of a form and the address in it, or None and what is wrong with it."""
    token = form.get("t", "")
    try:
        return token, parse_email(form.get("email", "").strip()), ""
    except ValueError as error:
        return token, None, str(error)


def _key_facts(key: Any) -> str:
    """Return in words when and from where a key was asked for."""
    return f"asked for on {show_date(key.created_ms)} from {key.network}"
