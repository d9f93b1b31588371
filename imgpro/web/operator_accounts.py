"""The operator's pages about accounts: find one, see its keys, vouch for it, change its plan, block it."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import NotFound, ValidationError
from imgpro.model import Account, Key
from imgpro.plans import ORDER
from imgpro.web import respond
from imgpro.web.clients import Clients
from imgpro.web.confirm import ask_again, is_sure
from imgpro.web.identity import Identity, Visitor
from imgpro.web.operator import SAID, link_page, own_address
from imgpro.web.operator_door import OperatorDoor
from imgpro.web.pages import PageGroup, Templates
from imgpro.web.sign_in import sign_in_first

_ID: Final = "{id:acc_[0-9A-Za-z]{4,32}}"
_MAX_TEXT_CHARS: Final = 254

# What is asked before it is done, by command: question, words, button. `{email}` is filled in.
QUESTIONS: Final = {
    "block": (
        "Block {email}?",
        "None of its keys and sessions works any more. Its pictures stay. You can let it in again.",
        "Block",
    ),
    "unblock": ("Let {email} in again?", "Its keys work again, and it can sign in.", "Let in"),
    "refuse": (
        "Turn {email} down?",
        "Its keys stop working, and its pictures belong to nobody then. They keep their links and their end.",
        "Turn down",
    ),
    "delete": (
        "Delete all pictures of {email}?",
        "Their links stop working at once, for everybody. This cannot be undone.",
        "Delete all",
    ),
    "remove": (
        "Delete the account {email}?",
        "Its keys, its sessions and all its pictures go with it, and their links stop working. This cannot be undone.",
        "Delete the account",
    ),
}
_DONE: Final = {
    "plan": "plan",
    "verify": "verified",
    "block": "blocked",
    "unblock": "unblocked",
    "refuse": "refused",
    "delete": "deleted",
}


class OperatorAccountPages(PageGroup):
    """`/operator/accounts` and `/operator/accounts/{id}`."""

    def __init__(self, appliance: Appliance, clients: Clients, templates: Templates, identity: Identity) -> None:
        super().__init__(appliance, clients, templates, identity)
        self._door = OperatorDoor(identity, appliance)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these pages."""
        return [
            web.get("/operator/accounts", self.get_accounts),
            web.get(f"/operator/accounts/{_ID}", self.get_account),
            web.post(f"/operator/accounts/{_ID}", self.post_account),
        ]

    async def get_accounts(self, request: web.Request) -> web.Response:
        """Show accounts, the youngest first, in pages; `q` is part of an address."""
        visitor = await self._door.visitor(request)
        if visitor is None:
            return sign_in_first(request)
        text, before = request.query.get("q", "")[:_MAX_TEXT_CHARS].strip(), request.query.get("before", "")
        place = int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None
        accounts, following = await self._appliance.overview.accounts(text, place)
        plans = self._appliance.plans
        return self._page(
            request,
            "operator-accounts.html",
            visitor,
            accounts=[(account, plans.of(account).label) for account in accounts],
            text=text,
            first=place is None,
            following=following,
            registration=self._appliance.settings.accounts.registration,
        )

    async def get_account(self, request: web.Request) -> web.Response:
        """Show one account."""
        visitor = await self._door.visitor(request)
        if visitor is None:
            return sign_in_first(request)
        account, keys = await self._found(request)
        return await self._shown(request, visitor, account, keys)

    async def post_account(self, request: web.Request) -> web.Response:
        """Do to an account what the form's button says."""
        visitor, form = await self._door.sent(request)
        account, _ = await self._found(request)
        command = form.get("do", "")
        if command == "sign-in-link":
            return await self._sign_in_link(request, visitor, account)
        acts: dict[str, Callable[[Account, dict[str, str]], Awaitable[object]]] = {
            "plan": self._plan,
            "verify": self._verify,
            "block": self._plainly("block"),
            "unblock": self._plainly("unblock"),
            "refuse": self._plainly("refuse"),
            "delete": self._delete,
            "remove": self._remove,
        }
        if command not in acts:
            raise NotFound("There is nothing like that to do.")
        typed = account.email if command in ("delete", "remove") else ""
        if command in QUESTIONS and not is_sure(form, typed):
            question, words, button = QUESTIONS[command]
            return ask_again(
                self._templates,
                request,
                visitor,
                form,
                question=question.format(email=account.email),
                words=words,
                button=button,
                back=f"operator/accounts/{account.id}",
                typed=typed,
            )
        await acts[command](account, form)
        if command == "remove":
            return respond.see_other("../../operator?said=gone")
        return respond.see_other(f"{account.id}?said={_DONE[command]}")

    # What is done

    def _plainly(self, command: str) -> Callable[[Account, dict[str, str]], Awaitable[object]]:
        return lambda account, _: self._appliance.operate.perform(command, {"email": account.email})

    async def _plan(self, account: Account, form: dict[str, str]) -> None:
        await self._appliance.operate.perform("plan", {"email": account.email, "plan": form.get("plan", "")})

    async def _verify(self, account: Account, form: dict[str, str]) -> None:
        keep = [name.removeprefix("keep-") for name in form if name.startswith("keep-")]
        await self._appliance.operate.perform("verify", {"email": account.email, "keep": keep, "drop_others": not keep})

    async def _delete(self, account: Account, _: dict[str, str]) -> None:
        if account.blocked_ms is None:
            raise ValidationError("Block the account first: it could upload meanwhile.")
        await self._appliance.operate.perform("block", {"email": account.email, "delete_pictures": True})

    async def _remove(self, account: Account, _: dict[str, str]) -> None:
        await self._appliance.leaving.begin(account)
        self._appliance.leaving.go_on_with(account)

    async def _sign_in_link(self, request: web.Request, visitor: Visitor, account: Account) -> web.Response:
        made = await self._appliance.operate.perform("sign-in-link", {"email": account.email})
        return link_page(
            self._templates,
            request,
            visitor,
            title="A link that signs in",
            words=f"Whoever opens it is {account.email} on that device. It works for {made['minutes']} minutes, once.",
            link=own_address(made["link"], self._appliance.home.base, self._clients.base_url(request)),
            back=f"operator/accounts/{account.id}",
        )

    # Shared

    async def _found(self, request: web.Request) -> tuple[Account, list[Key]]:
        found = await self._appliance.overview.account(request.match_info["id"])
        if found is None:
            raise NotFound("There is no such account.")
        return found

    async def _shown(self, request: web.Request, visitor: Visitor, account: Account, keys: list[Key]) -> web.Response:
        appliance = self._appliance
        return self._page(
            request,
            "operator-account.html",
            visitor,
            account=account,
            said=SAID.get(request.query.get("said", ""), ""),
            keys=keys,
            unsettled=await appliance.operate.unsettled(account),
            usage=await appliance.quota.usage(account),
            plan=appliance.plans.of(account),
            plans=[appliance.plans.named(name) for name in ORDER],
            wants=await appliance.upgrades.wanted_by(account),
            questions={name: question[0].format(email=account.email) for name, question in QUESTIONS.items()},
            words={name: question[1] for name, question in QUESTIONS.items()},
        )

    def _page(self, request: web.Request, name: str, visitor: Visitor, **values: Any) -> web.Response:
        return self._templates.page(request, name, visitor=visitor, section="operator", part="accounts", **values)
