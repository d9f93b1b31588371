"""From a plan to a larger one: signed links, what a click on one does, and the operator's decision.

A link names account and plan, ends, and is bound to how often the account changed plans: once it had its effect, or the
operator decided otherwise, it is worth nothing. Looking at one changes nothing, because mail scanners follow links.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from imgpro.errors import Forbidden, NotFound, ValidationError
from imgpro.flows.home import Home
from imgpro.flows.keyring import KeyRing
from imgpro.flows.letters import upgrade_approved_letter, upgrade_requested_letter
from imgpro.flows.mail import Mail
from imgpro.model import Account, PlanName
from imgpro.plans import ORDER, Plan, PlanTable
from imgpro.settings import Plans
from imgpro.signing import Signer
from imgpro.store import queries_accounts
from imgpro.store.db import Database

log = logging.getLogger(__name__)

LINK_S: Final = 7 * 86_400
LETTER_MS: Final = 7 * 86_400_000

Outcome = Literal["requested", "upgraded", "checkout"]


class Offer(msgspec.Struct, frozen=True):
    """What an upgrade link would do: move `account` from `current` to `plan`."""

    account: Account
    current: Plan
    plan: Plan


class Upgrades:
    """Makes and honours upgrade links by the `plans` section."""

    def __init__(
        self,
        settings: Plans,
        site_name: str,
        plans: PlanTable,
        db: Database,
        ring: KeyRing,
        mail: Mail,
        signer: Signer,
        home: Home,
    ) -> None:
        self._plans = plans
        self._db = db
        self._ring = ring
        self._mail = mail
        self._signer = signer
        self._home = home
        self.apply(settings, site_name)

    def apply(self, settings: Plans, site_name: str) -> None:
        """Take another `plans` section; links that were made stay good."""
        self.settings = settings
        self._site_name = site_name

    def path(self, account: Account, plan: Plan) -> str:
        """Return an upgrade link from the root of the site: `/upgrade/{plan}?t=&exp=&sig=`."""
        expires_s = int(time.time()) + LINK_S
        query = self._signer.query("upgrade", account.id, expires_s, plan.name, account.plan_changes)
        return f"/upgrade/{plan.name}?{query}"

    async def offer(self, plan_name: str, query: Mapping[str, str]) -> Offer:
        """Return what a link offers. Raises NotFound for one that is forged, ended, used or for another account."""
        account = await self._account(query.get("t", ""))
        if account is None or not self._signer.verify_query(
            query, "upgrade", time.time(), plan_name, account.plan_changes
        ):
            raise NotFound("This upgrade link has ended or was used already.")
        return self._offer(account, plan_name)

    def _offer(self, account: Account, plan_name: str) -> Offer:
        plan = next((plan for plan in self._plans.above(account) if plan.name == plan_name), None)
        if plan is None:
            raise NotFound("This account has that plan, or a larger one, already.")
        return Offer(account, self._plans.of(account), plan)

    async def accept(self, offer: Offer) -> tuple[Outcome, str]:
        """Do what the settings say an upgrade is; with "checkout" the address to pay at comes along."""
        if self.settings.upgrade == "checkout":
            return "checkout", self._checkout_address(offer)
        if self.settings.upgrade == "self_service":
            await self.set_plan(offer.account, offer.plan.name)
            return "upgraded", ""
        now_ms = _now_ms()
        letters = [
            upgrade_requested_letter(
                site_name=self._site_name,
                operator=operator,
                account=offer.account,
                plan=offer.plan.label,
                link=f"{self._home.base}/dashboard",
                created_ms=now_ms,
                expires_ms=now_ms + LETTER_MS,
            )
            for operator in await self._operators()
        ]

        def write(conn: Any) -> None:
            new = queries_accounts.insert_upgrade_request(conn, offer.account.seq, offer.plan.name, now_ms)
            if self._mail.enabled and new:
                for letter in letters:
                    self._mail.put(conn, letter)

        await self._db.write(write)
        self._mail.wake()
        return "requested", ""

    def _checkout_address(self, offer: Offer) -> str:
        token = f"{offer.account.id}.{offer.account.plan_changes}"
        values = {
            "account": offer.account.id,
            "email": offer.account.email,
            "plan": offer.plan.name,
            "return_url": f"{self._home.base}/upgrade/{offer.plan.name}/return?t={token}",
        }
        address = self.settings.checkout_url
        for name, value in values.items():
            address = address.replace("{" + name + "}", quote(value, safe=""))
        return address

    async def paid_offer(self, plan_name: str, query: Mapping[str, str]) -> Offer:
        """Return what a return from the checkout is good for. Raises NotFound unless the checkout signed it.

        `sig` is the hexadecimal HMAC-SHA256, by `plans.checkout_secret`, of `t`, the plan and `exp` (Unix seconds),
        joined by line breaks.
        """
        token, expires, signature = (query.get(name, "") for name in ("t", "exp", "sig"))
        secret = self.settings.checkout_secret
        account_id, _, changes = token.partition(".")
        account = await self._account(account_id)
        text = "\n".join((token, plan_name, expires)).encode("utf-8", "replace")
        good = hmac.digest(secret.encode(), text, hashlib.sha256).hex()
        same = hmac.compare_digest(signature.encode("utf-8", "replace"), good.encode())
        if not secret or self.settings.upgrade != "checkout" or account is None or not same:
            raise NotFound("This is not a return from the checkout.")
        if not expires.isdigit() or len(expires) > 15 or int(expires) <= time.time():
            raise NotFound("This return from the checkout has ended.")
        if changes != str(account.plan_changes):
            log.warning("a paid return for %s came after its plan had changed: look at what was paid", account.id)
            raise NotFound("This return from the checkout was used already.")
        return self._offer(account, plan_name)

    async def set_plan(self, account: Account, plan_name: str) -> None:
        """Put an account on a plan and write to its owner. Raises ValidationError for a name that is none."""
        if plan_name not in ORDER:
            raise ValidationError(None, None, {"plan": f"Must be one of {', '.join(ORDER)}."})
        now_ms = _now_ms()
        plan = self._plans.named(plan_name)
        letter = upgrade_approved_letter(
            site_name=self._site_name,
            account=account,
            plan=plan.label,
            link=f"{self._home.base}/dashboard",
            created_ms=now_ms,
            expires_ms=now_ms + LETTER_MS,
        )

        def write(conn: Any) -> None:
            fresh = queries_accounts.account_by_seq(conn, account.seq)
            if fresh is None or fresh.plan_changes != account.plan_changes:
                raise Forbidden("The plan of this account was changed meanwhile.")
            queries_accounts.set_plan(conn, account.seq, _plan_name(plan_name))
            if self._mail.enabled:
                self._mail.put(conn, letter)

        await self._db.write(write)
        self._ring.forget(account.seq)
        self._mail.wake()

    async def waiting(self) -> list[queries_accounts.UpgradeRequest]:
        """Return the requests that wait for the operator."""
        async with self._db.reader() as conn:
            return await queries_accounts.upgrade_requests(conn)

    async def wanted_by(self, account: Account) -> str | None:
        """Return the plan that an account asks for."""
        async with self._db.reader() as conn:
            return await queries_accounts.upgrade_request_of(conn, account.seq)

    async def _account(self, account_id: str) -> Account | None:
        async with self._db.reader() as conn:
            return await queries_accounts.account_by_id(conn, account_id)

    async def _operators(self) -> list[Account]:
        async with self._db.reader() as conn:
            return await queries_accounts.operators(conn)


def _plan_name(name: str) -> PlanName:
    return next(known for known in ORDER if known == name)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
