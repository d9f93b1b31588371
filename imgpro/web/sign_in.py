"""Signing in and out: a key, or a link that works once, is exchanged for a session.

A form of another site must not sign anybody in either, as somebody else: all of these forms are told by their origin.
The page of a link allows referrers within the site for that; its token goes nowhere but to this server.
"""

import re
from typing import Final

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import Forbidden, NotFound, RateLimited, Unauthorized
from imgpro.flows.email_address import parse_email
from imgpro.model import Account, Key
from imgpro.web import respond
from imgpro.web.clients import Clients
from imgpro.web.header_sign_in import WHY_NOT
from imgpro.web.identity import Identity
from imgpro.web.pages import PageGroup, Templates, root_of
from imgpro.web.sessions import SessionCookies

HOME: Final = "/dashboard"
# Pages of our own and nothing else: no dots, no percent signs, no second slash that would begin a host name. What is
# looked for there may be any text, written as addresses have it.
_OWN: Final = re.compile(r"(?:/[A-Za-z0-9_-]+)+(?:\?(?:[A-Za-z0-9_=&,.+*-]|%[0-9A-F]{2})*)?")
_MAX_CHARS: Final = 300


def own_path(text: str) -> str:
    """Return where to go after signing in: a page of this site, or nothing for anything else."""
    return text if len(text) <= _MAX_CHARS and _OWN.fullmatch(text) else ""


def sign_in_first(request: web.Request) -> web.Response:
    """Lead somebody who is not signed in to the sign-in page, and from there back to the page they asked for."""
    wanted = own_path(request.path)
    return respond.see_other(f"{root_of(request)}dashboard/sign-in" + (f"?next={wanted}" if wanted else ""))


def sign_in_page(
    appliance: Appliance,
    templates: Templates,
    request: web.Request,
    http_status: int = 200,
    *,
    wanted: str | None = None,
    problem: str = "",
    link_problem: str = "",
    email: str = "",
) -> web.Response:
    """Return the page with the ways in; `wanted` is where to go then, by default what the address says."""
    return templates.page(
        request,
        "sign-in.html",
        http_status,
        section="sign-in",
        wanted=own_path(request.query.get("next", "") if wanted is None else wanted),
        problem=problem or request.get(WHY_NOT, ""),
        link_problem=link_problem,
        email=email,
        mail=appliance.mail.enabled,
        registration=appliance.settings.accounts.registration,
    )


class SignInPages(PageGroup):
    """`/dashboard/sign-in`, `/dashboard/sign-in/link`, `/dashboard/sign-out`, `/sign-in`."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates, identity: Identity) -> None:
        super().__init__(appliance, clients, templates, identity)
        self._cookies = SessionCookies(appliance, clients)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        return [
            web.get("/dashboard/sign-in", self.get_sign_in),
            web.post("/dashboard/sign-in", self.post_sign_in),
            web.post("/dashboard/sign-in/link", self.post_ask),
            web.post("/dashboard/sign-out", self.post_sign_out),
            web.get("/sign-in", self.get_link),
            web.post("/sign-in", self.post_link),
        ]

    async def get_sign_in(self, request: web.Request) -> web.Response:
        """Show the ways in; who is in already goes on."""
        if await self._identity.session(request) is not None:
            return _lead(request, own_path(request.query.get("next", "")) or HOME)
        return sign_in_page(self._appliance, self._templates, request)

    async def post_sign_in(self, request: web.Request) -> web.Response:
        """Exchange a key for a session."""
        self._identity.check_origin(request)
        form = await self._form(request)
        wanted = form.get("next", "")
        try:
            principal = await self._appliance.ring.by_key(form.get("key", "").strip())
        except (Unauthorized, Forbidden) as problem:
            words, status = problem.message, problem.status
        else:
            if principal.may("read") and principal.may("write") and principal.own_key_only is None:
                return await self._signed_in(request, wanted, principal.account, principal.key)
            words, status = "Sign in with a key that may read and write, after its address was verified.", 403
        return sign_in_page(self._appliance, self._templates, request, status, wanted=wanted, problem=words)

    async def post_ask(self, request: web.Request) -> web.Response:
        """Have a link mailed; the answer is the same for every address."""
        self._identity.check_origin(request)
        form = await self._form(request)
        wanted, typed = form.get("next", ""), form.get("email", "").strip()
        try:
            email = parse_email(typed)
            self._appliance.sign_in.ask(email, self._clients.caller(request).network)
        except (ValueError, RateLimited) as problem:
            status = 429 if isinstance(problem, RateLimited) else 422
            way = f" {problem.action.label}." if isinstance(problem, RateLimited) else ""
            return sign_in_page(
                self._appliance,
                self._templates,
                request,
                status,
                wanted=wanted,
                link_problem=f"{problem}{way}",
                email=typed,
            )
        mail = self._appliance.mail.enabled
        return self._templates.page(request, "sign-in-sent.html", 202, section="sign-in", email=email, mail=mail)

    async def post_sign_out(self, request: web.Request) -> web.Response:
        """End this session, or with `all` every session of the account."""
        form = await self._form(request)
        principal = await self._identity.from_own_page(request, form)
        response = _lead(request, HOME)
        await self._cookies.end(request, response, principal.account, everywhere="all" in form)
        return response

    # The link

    async def get_link(self, request: web.Request) -> web.Response:
        """Show whom a link signs in. Changes nothing, because mail scanners follow links."""
        token = request.query.get("t", "")
        account = await self._appliance.sign_in.look(token)
        return self._templates.page(request, "sign-in-link.html", account=account, token=token)

    async def post_link(self, request: web.Request) -> web.Response:
        """Sign in by a link, which then works no more."""
        self._identity.check_origin(request)
        form = await self._form(request)
        if not form.get("t"):
            raise NotFound("This link is not complete.")
        account = await self._appliance.sign_in.use(form["t"])
        return await self._signed_in(request, form.get("next", ""), account, None)

    async def _signed_in(self, request: web.Request, wanted: str, account: Account, key: Key | None) -> web.Response:
        return await self._cookies.start(request, _lead(request, own_path(wanted) or HOME), account, key)


def _lead(request: web.Request, path: str) -> web.Response:
    """Lead to a page of our own, by a relative link."""
    return respond.see_other(root_of(request) + path.removeprefix("/"))
