"""Pages that links open: the mailed one, upgrades, claiming a new server, invitations.

A GET never changes anything, because mail scanners follow links: each page has one button that does.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from imgpro.appliance import Appliance
from imgpro.errors import ImgproError, NotFound
from imgpro.flows.accounts import KeyRequest, Made
from imgpro.flows.email_address import parse_email
from imgpro.flows.operate import SETUP_AGAIN, SETUP_ENDED
from imgpro.flows.upgrades import Offer
from imgpro.model import Account, Principal
from imgpro.web import respond
from imgpro.web.clients import Clients
from imgpro.web.identity import Identity, Visitor
from imgpro.web.pages import PageGroup, Templates, show_date
from imgpro.web.sessions import SessionCookies

_LINK_FIELDS: Final = ("t", "exp", "sig")


class AccountPages(PageGroup):
    """`/verify`, `/upgrade/{plan}`, `/setup`, `/join` and what their forms do."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates, identity: Identity) -> None:
        super().__init__(appliance, clients, templates, identity)
        self._cookies = SessionCookies(appliance, clients)

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
        ]

    # The mailed link

    async def get_verify(self, request: web.Request) -> web.Response:
        """Show what a mailed link confirms."""
        about = await self._appliance.accounts.verification(request.query)
        return await self._page(
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
            return await self._page(request, "declined.html")
        caller = self._clients.caller(request)
        keep = [name.removeprefix("keep-") for name in form if name.startswith("keep-")]
        verified = await self._appliance.accounts.verify(link, keep, caller)
        # Signed in only where the form is known to be our own: else others could sign a visitor in as themselves.
        own = verified.secret is not None and self._identity.is_own_form(request)
        visitor = _just_signed_in(verified.account) if own else None
        response = await self._page(request, "verified.html", visitor=visitor, verified=verified)
        return await self._cookies.start(request, response, verified.account, verified.kept[0]) if own else response

    # Upgrades

    async def get_upgrade(self, request: web.Request) -> web.Response:
        """Show what an upgrade link offers."""
        offer = await self._appliance.upgrades.offer(request.match_info["plan"], request.query)
        return await self._offer_page(request, offer, "", self._appliance.upgrades.settings.upgrade)

    async def post_upgrade(self, request: web.Request) -> web.Response:
        """Take the offer."""
        form = await self._form(request)
        offer = await self._appliance.upgrades.offer(request.match_info["plan"], form)
        outcome, address = await self._appliance.upgrades.accept(offer)
        if outcome == "checkout":
            return respond.see_other(address)
        return await self._page(request, "upgraded.html", offer=offer, outcome=outcome)

    async def get_return(self, request: web.Request) -> web.Response:
        """Show what the checkout has confirmed."""
        offer = await self._appliance.upgrades.paid_offer(request.match_info["plan"], request.query)
        return await self._offer_page(request, offer, "/return", "paid")

    async def post_return(self, request: web.Request) -> web.Response:
        """Take what was paid for: from the page's button, or from the checkout's own call."""
        form = {**request.query, **await self._form(request)}
        offer = await self._appliance.upgrades.paid_offer(request.match_info["plan"], form)
        await self._appliance.upgrades.set_plan(offer.account, offer.plan.name)
        if "text/html" in request.headers.get(hdrs.ACCEPT, ""):
            return await self._page(request, "upgraded.html", offer=offer, outcome="upgraded")
        return respond.json({"success": True})

    async def _offer_page(self, request: web.Request, offer: Offer, tail: str, mode: str) -> web.Response:
        query = _link_query(request.query)
        response = await self._page(request, "upgrade.html", offer=offer, query=query, tail=tail, mode=mode)
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
            raise NotFound(SETUP_ENDED, SETUP_AGAIN)
        return await self._page(request, "setup.html", token=token, problem="", email="")

    async def post_setup(self, request: web.Request) -> web.Response:
        """Make the operator's account."""
        form = await self._form(request)
        token, email, problem = _who(form)
        if email is None:
            return await self._page(
                request, "setup.html", 422, token=token, problem=problem, email=form.get("email", "")
            )
        made = await self._appliance.operate.claim(token, email, self._clients.caller(request).network)
        unsettled = None
        with contextlib.suppress(ImgproError):  # the key must be shown, whatever else fails now
            unsettled = await self._appliance.operate.unsettled_link(made.account)
        page = await self._new_key(request, made, unsettled, _just_signed_in(made.account))
        return await self._cookies.start(request, page, made.account, made.key)

    async def get_join(self, request: web.Request) -> web.Response:
        """Show the form that an invitation opens."""
        return await self._page(request, "join.html", token=request.query.get("t", ""), problem="", email="")

    async def post_join(self, request: web.Request) -> web.Response:
        """Make the account of somebody who was invited."""
        form = await self._form(request)
        token, email, problem = _who(form)
        if email is None:
            return await self._page(
                request, "join.html", 422, token=token, problem=problem, email=form.get("email", "")
            )
        asked = KeyRequest(email=email, invitation=token or None)
        made = await self._appliance.accounts.register(asked, self._clients.caller(request))
        return await self._new_key(request, made, None)

    async def _new_key(
        self, request: web.Request, made: Made, unsettled: str | None, visitor: Visitor | None = None
    ) -> web.Response:
        base, mail = self._clients.base_url(request), self._appliance.mail.enabled
        here = None if unsettled is None else unsettled.replace(self._appliance.home.base, base, 1)
        return await self._page(
            request, "new-key.html", visitor=visitor, made=made, base=base, unsettled=here, mail=mail
        )

    # Shared

    async def _page(
        self,
        request: web.Request,
        name: str,
        http_status: int = 200,
        *,
        visitor: Visitor | None = None,
        **values: Any,
    ) -> web.Response:
        """Return a page. Where its address holds a secret, nothing on it tells anybody where it came from.

        A form on such a page is told from one of another site by that very secret. The others are told by their
        origin, which a browser on a plain LAN address only names if the page allows referrers within the site.
        """
        visitor = visitor or await self._identity.visitor(request)
        response = self._templates.page(request, name, http_status, visitor=visitor, **values)
        if "t" in request.query:
            response.headers["Referrer-Policy"] = "no-referrer"
        return response


def _just_signed_in(account: Account) -> Visitor:
    """Return who is signed in by this very answer: no form on its page has a use for the token not known yet."""
    return Visitor(Principal(account, None), "")


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
