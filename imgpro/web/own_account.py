"""What an account sees of itself: plan, usage, keys, and where it is signed in."""

import time
from typing import Any, Final

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import KeyLimitReached, RateLimited, ValidationError
from imgpro.flows.quota import next_month_s
from imgpro.flows.retention import describe_to_owner
from imgpro.model import Account
from imgpro.plans import Plan
from imgpro.web import respond
from imgpro.web.clients import Clients
from imgpro.web.confirm import ask_again, is_sure
from imgpro.web.identity import Identity, Visitor, session_token
from imgpro.web.keys import parse_key_request
from imgpro.web.pages import PageGroup, Templates
from imgpro.web.sessions import SessionCookies
from imgpro.web.sign_in import sign_in_first

_ABILITIES: Final = {"upload": ["upload"], "read": ["read"]}
_NAMESPACES: Final = 200  # offered while typing
_REVOKE_WORDS: Final = (
    "Whatever uses it stops working at once, and browsers that signed in with it are signed out. This cannot be undone."
)
_LEAVE_QUESTION: Final = "Delete your account?"
_LEAVE_WORDS: Final = (
    "All its pictures are deleted, and their links stop working for everybody. Its keys stop working, and every "
    "browser is signed out. This cannot be undone."
)
_LEAVE_BUTTON: Final = "Delete my account"
_UPGRADE_WORDS: Final = {
    "approve": {"verb": "Ask for", "what": "The operator of this server is asked and decides."},
    "self_service": {"verb": "Choose", "what": "You are asked once more; then it holds at once."},
    "checkout": {"verb": "Choose", "what": "You are led to the checkout; the plan holds once you have paid."},
}


class OwnAccountPages(PageGroup):
    """`/dashboard/account` and what its forms do."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates, identity: Identity) -> None:
        super().__init__(appliance, clients, templates, identity)
        self._cookies = SessionCookies(appliance, clients)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        return [
            web.get("/dashboard/account", self.get_account),
            web.post("/dashboard/keys", self.post_key),
            web.post("/dashboard/revoke", self.post_revoke),
            web.post("/dashboard/end-session", self.post_end_session),
            web.post("/dashboard/leave", self.post_leave),
        ]

    async def get_account(self, request: web.Request) -> web.Response:
        """Show who is signed in what they have, and everybody else the way in."""
        visitor = await self._identity.visitor(request)
        return sign_in_first(request) if visitor is None else await self._shown(request, visitor)

    async def post_key(self, request: web.Request) -> web.Response:
        """Make a key for who is signed in, and show it once."""
        visitor, form = await self._sent(request)
        body: dict[str, Any] = {"name": form.get("name", "")}
        abilities = form.get("abilities", "all")
        if abilities != "all":
            body["abilities"] = _ABILITIES.get(abilities, abilities)
        if form.get("namespace", "").strip():
            body["namespace"] = form["namespace"].strip()
        try:
            asked = parse_key_request(body, needs_email=False)
            made = await self._appliance.accounts.register(asked, self._clients.caller(request, visitor.principal))
        except (ValidationError, KeyLimitReached, RateLimited) as problem:
            words = " ".join(problem.details.values()) or problem.message
            return await self._shown(request, visitor, problem=words, http_status=problem.status)
        return await self._shown(request, visitor, made.secret)

    async def post_revoke(self, request: web.Request) -> web.Response:
        """Revoke a key of who is signed in, once they are sure."""
        visitor, form = await self._sent(request)
        if not is_sure(form):
            keys = await self._appliance.accounts.keys(visitor.principal)
            name = next((key.name for key in keys if key.id == form.get("key_id")), "")
            return ask_again(
                self._templates,
                request,
                visitor,
                form,
                question=f"Revoke the key “{name}”?",
                words=_REVOKE_WORDS,
                button="Revoke",
                back="dashboard/account",
            )
        await self._appliance.accounts.revoke(visitor.principal, form.get("key_id", ""))
        return respond.see_other("account#keys")

    async def post_end_session(self, request: web.Request) -> web.Response:
        """Sign out another browser."""
        visitor, form = await self._sent(request)
        await self._appliance.sessions.end_one(visitor.account, form.get("session", ""))
        return respond.see_other("account#sessions")

    async def post_leave(self, request: web.Request) -> web.Response:
        """Delete the account of who is signed in, once they have typed its address."""
        visitor, form = await self._sent(request)
        account = visitor.account
        if not is_sure(form, account.email):
            return ask_again(
                self._templates,
                request,
                visitor,
                form,
                question=_LEAVE_QUESTION,
                words=_LEAVE_WORDS,
                button=_LEAVE_BUTTON,
                back="dashboard/account",
                typed=account.email,
            )
        await self._appliance.leaving.begin(account)
        self._appliance.leaving.go_on_with(account)
        response = self._templates.page(request, "left.html", images=account.images, by_proxy=visitor.by_proxy)
        self._cookies.forget(request, response)
        return response

    async def _shown(
        self,
        request: web.Request,
        visitor: Visitor,
        secret: str | None = None,
        *,
        problem: str = "",
        http_status: int = 200,
    ) -> web.Response:
        appliance, account = self._appliance, visitor.account
        return self._templates.page(
            request,
            "account.html",
            http_status,
            visitor=visitor,
            section="account",
            problem=problem,
            mail=appliance.mail.enabled,
            account=account,
            plan=appliance.plans.of(account),
            usage=await appliance.quota.usage(account),
            resets_ms=next_month_s(time.time()) * 1000,
            now_ms=time.time() * 1000,
            wants=await appliance.upgrades.wanted_by(account),
            choices=self._choices(account),
            upgrade=appliance.upgrades.settings.upgrade,
            upgrade_words=_UPGRADE_WORDS,
            keys=await appliance.accounts.keys(visitor.principal),
            namespaces=[found.name for found in (await appliance.browse.namespaces(visitor.principal))[:_NAMESPACES]],
            revoke_words=_REVOKE_WORDS,
            leave=(_LEAVE_QUESTION, _LEAVE_WORDS, _LEAVE_BUTTON),
            rules=[(describe_to_owner(rule), rule) for rule in await appliance.retention.about(account)],
            secret=secret,
            sessions=await appliance.sessions.of(account, session_token(request)),
        )

    def _choices(self, account: Account) -> list[tuple[Plan, str]]:
        """Return an account's own plan and the larger ones with the links to them; nothing where there is no choice."""
        plans = self._appliance.plans
        larger = plans.above(account)
        own = [(plans.of(account), "")] if larger else []
        return own + [(plan, self._appliance.upgrades.path(account, plan).lstrip("/")) for plan in larger]
