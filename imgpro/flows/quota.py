"""How much a caller may upload: sliding windows for those without a key, a plan for those with one.

What is left is looked at before a body is read, so that nobody sends 20 MB in vain, and decided in the same
transaction that writes the picture, so that parallel uploads cannot take more than is left.
"""

import calendar
import math
import time
from typing import Final

from imgpro.errors import Action, Forbidden, QuotaExceeded, RateLimited
from imgpro.flows.addresses import is_private_caller
from imgpro.flows.rates import Rate
from imgpro.flows.upgrades import Upgrades
from imgpro.model import Ability, Account, Caller, Principal, Usage
from imgpro.plans import PlanTable
from imgpro.settings import GIB, Anonymous
from imgpro.store import queries, queries_accounts
from imgpro.store.db import Database
from imgpro.store.queries import Allowance, UploadLimit

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000


class Quota:
    """Judges uploads by the `anonymous` and `plans` sections."""

    def __init__(
        self,
        settings: Anonymous,
        imports_per_hour: int | None,
        requests_per_minute: int | None,
        plans: PlanTable,
        upgrades: Upgrades,
        db: Database,
    ) -> None:
        self._plans = plans
        self._upgrades = upgrades
        self._db = db
        self._attempts = Rate(None, 60.0)
        self._requests = Rate(None, 60.0)
        self._imports = Rate(None, 3600.0)
        self.apply(settings, imports_per_hour, requests_per_minute)

    def apply(self, settings: Anonymous, imports_per_hour: int | None, requests_per_minute: int | None) -> None:
        """Take other limits; what was counted stays."""
        self._settings = settings
        self._attempts.allow(settings.attempts_per_minute)
        self._requests.allow(requests_per_minute)
        self._imports.allow(imports_per_hour)
        counts = ((settings.uploads_per_hour, HOUR_MS), (settings.uploads_per_day, DAY_MS))
        self.limits = tuple(UploadLimit(count, span_ms) for count, span_ms in counts if count is not None)
        self.storage_bytes = settings.storage_bytes

    async def admit(self, caller: Caller, *, repeated: bool = False) -> None:
        """Judge a caller before the body is read; a `repeated` request that has its answer already takes nothing.

        Raises Forbidden, RateLimited or QuotaExceeded.
        """
        if caller.principal is None:
            await self._admit_anonymous(caller, repeated=repeated)
            return
        check_ability(caller.principal, "upload")
        wait_s = self._requests.take(caller.principal.account.id)
        if wait_s:
            raise _limited("Too many upload requests in a short time.", wait_s)
        if repeated:
            return
        usage = await self.usage(caller.principal.account)
        if usage.uploads_limit is not None and usage.uploads_used >= usage.uploads_limit:
            raise self.exceeded(caller, usage, "uploads")
        if usage.storage_limit_bytes is not None and usage.storage_used_bytes >= usage.storage_limit_bytes:
            raise self.exceeded(caller, usage, "storage")

    async def _admit_anonymous(self, caller: Caller, *, repeated: bool) -> None:
        if not self._settings.enabled:
            raise Forbidden("This server takes no uploads without an API key.")
        if self._settings.networks == "private" and not is_private_caller(caller.network):
            raise Forbidden("This server takes uploads without an API key from its local network only.")
        wait_s = self._attempts.take(caller.network)
        if wait_s:
            raise _limited("Too many upload requests in a short time.", wait_s)
        if repeated:
            return
        async with self._db.reader() as conn:
            await queries.check_upload_limits_early(conn, caller.network, _now_ms(), self.limits)

    def admit_import(self, caller: Caller) -> None:
        """Count an attempt to import, whatever comes of it. Raises RateLimited."""
        wait_s = self._imports.take(caller.network)
        if wait_s:
            raise _limited("Too many imports from this address.", wait_s)

    def ends_ms(self, caller: Caller, created_ms: int, ttl_s: int | None) -> tuple[int | None, int | None]:
        """Return when a picture ends, and the end its uploader asked for.

        `ttl` can shorten what the plan or the settings keep, never lengthen it. The end of an anonymous picture is
        final, so it counts as asked for.
        """
        wanted_ms = None if ttl_s is None else created_ms + ttl_s * 1000
        if caller.principal is None:
            end_ms = queries.end_ms(created_ms, wanted_ms, self._settings.retention_s)
            return end_ms, end_ms
        return queries.end_ms(created_ms, wanted_ms, self.retention_s(caller.principal.account)), wanted_ms

    def retention_s(self, account: Account) -> int | None:
        """Return how long the plan of an account keeps pictures; None: for ever."""
        return self._plans.of(account).retention_s

    def allowance(self, caller: Caller, now_ms: int) -> Allowance | None:
        """Return what the transaction that stores a picture holds an account to."""
        if caller.principal is None:
            return None
        plan = self._plans.of(caller.principal.account)
        return Allowance(month_of(now_ms), plan.uploads, plan.storage_bytes)

    async def usage(self, account: Account) -> Usage:
        """Return how much of its plan an account has used, as the database has it now."""
        async with self._db.reader() as conn:
            fresh = await queries_accounts.account_facts(conn, account.seq) or account
            uploads = await queries_accounts.uploads_in_month(conn, account.seq, month_of(_now_ms()))
        plan = self._plans.of(fresh)
        return Usage(
            plan=plan.name,
            uploads_used=uploads,
            uploads_limit=plan.uploads,
            storage_used_bytes=fresh.stored_bytes,
            storage_limit_bytes=plan.storage_bytes,
        )

    async def explained(self, problem: QuotaExceeded, caller: Caller) -> QuotaExceeded:
        """Return the full story of a bare error out of the transaction that stores a picture."""
        assert caller.principal is not None
        return self.exceeded(caller, await self.usage(caller.principal.account), problem.message)

    def exceeded(self, caller: Caller, usage: Usage, what: str) -> QuotaExceeded:
        """Return the error for used-up "uploads" or "storage": with the usage, and the right way out.

        Who holds nothing but an upload ticket is told neither.
        """
        assert caller.principal is not None
        if caller.by_ticket:
            wanted = Action("fix", label="Tell whoever gave you this ticket")
            return QuotaExceeded("The account that this ticket is for can take no more pictures now.", wanted)
        if what == "storage":
            message = "The storage of this account is used up."
        else:
            message = "The uploads of this account for this month are used up."
        problem = QuotaExceeded(message, self._way_out(caller.principal, what))
        problem.usage = usage
        return problem

    def _way_out(self, principal: Principal, what: str) -> Action:
        account = principal.account
        if not account.verified:
            return Action("verify", url="/dashboard", label="Verify the address by its link, or ask the operator")
        if not principal.may("write"):
            # Keys that may only upload stand in files and links of other programs: they buy nothing.
            return Action("redirect", url="/dashboard", label="Choose a larger plan in the dashboard")
        own = self._plans.of(account)
        for plan in self._plans.above(account):
            new, old = (plan.storage_bytes, own.storage_bytes) if what == "storage" else (plan.uploads, own.uploads)
            if old is not None and (new is None or new > old):
                price = f" ({plan.price})" if plan.price else ""
                label = f"Upgrade to {plan.label}{price} for {_amount(new, what)}"
                return Action("upgrade", url=self._upgrades.path(account, plan), label=label)
        return Action("redirect", url="/dashboard", label="This is the largest plan; ask the operator of this server")


def check_ability(principal: Principal, ability: Ability) -> None:
    """Raise Forbidden unless the key carries the ability."""
    if not principal.may(ability):
        raise Forbidden(f"This key may not {ability}.", Action("fix", label=f"Use a key with the ability {ability}"))


def month_of(now_ms: int) -> str:
    """Return the calendar month in UTC, e.g. `2026-11`."""
    return time.strftime("%Y-%m", time.gmtime(now_ms / 1000))


def next_month_s(now_s: float) -> int:
    """Return when the next calendar month in UTC begins, in Unix seconds."""
    year, month = time.gmtime(now_s)[:2]
    return calendar.timegm((year + month // 12, month % 12 + 1, 1, 0, 0, 0))


def _amount(count: int | None, what: str) -> str:
    if count is None:
        return f"unlimited {what}"
    if what == "uploads":
        return f"{count:,} uploads"
    gib = count // GIB
    return f"{gib // 1024:,} TB" if gib % 1024 == 0 and gib else f"{gib:,} GB"


def _limited(message: str, wait_s: float) -> RateLimited:
    seconds = max(1, math.ceil(wait_s))
    return RateLimited(message, Action("wait", label=f"Try again in {seconds} seconds", seconds=seconds))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
