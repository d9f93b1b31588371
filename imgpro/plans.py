"""The plan table: what each plan allows, and which one comes next. Read from the `plans` section of the settings.

Knows no account's usage and no HTTP.
"""

from typing import Final

import msgspec

from imgpro.model import Account, PlanName
from imgpro.settings import Plans

ORDER: Final[tuple[PlanName, ...]] = ("free", "pro", "scale", "max")
UNVERIFIED: Final = "unverified"
OPERATOR: Final = "operator"


class Plan(msgspec.Struct, frozen=True):
    """What one plan allows: uploads in a calendar month (UTC), bytes stored, seconds kept. None: without a limit."""

    name: str
    uploads: int | None
    storage_bytes: int | None
    retention_s: int | None
    price: str = ""

    @property
    def label(self) -> str:
        """The name for people."""
        return self.name.capitalize()


_OPERATOR: Final = Plan(OPERATOR, None, None, None)


class PlanTable:
    """The plans that are in force."""

    def __init__(self, settings: Plans) -> None:
        self.apply(settings)

    def apply(self, settings: Plans) -> None:
        """Take another `plans` section, all of it at once."""
        self.upgrade = settings.upgrade
        limits = {
            UNVERIFIED: (settings.unverified_uploads, settings.unverified_storage_bytes, ""),
            "free": (settings.free_uploads, settings.free_storage_bytes, ""),
            "pro": (settings.pro_uploads, settings.pro_storage_bytes, settings.pro_price),
            "scale": (settings.scale_uploads, settings.scale_storage_bytes, settings.scale_price),
            "max": (settings.max_uploads, settings.max_storage_bytes, settings.max_price),
        }
        table: dict[str, Plan] = {}
        for name, (uploads, storage_bytes, price) in limits.items():
            kept_s = settings.unverified_retention_s if name == UNVERIFIED else None
            plan = Plan(name, uploads, storage_bytes, kept_s, price)
            if settings.unlimited:
                plan = Plan(name, None, None, None, price)
            table[name] = plan
        self._plans = table

    def named(self, name: str) -> Plan:
        """Return a plan by name. Raises KeyError."""
        return self._plans[name]

    def of(self, account: Account) -> Plan:
        """Return the plan that an account is held to."""
        if account.role == OPERATOR:
            return _OPERATOR
        return self._plans[account.plan if account.verified else UNVERIFIED]

    def above(self, account: Account) -> list[Plan]:
        """Return the plans that allow more than a verified account's own, cheapest first."""
        if account.role == OPERATOR or not account.verified:
            return []
        own = self.of(account)
        higher = [self._plans[name] for name in ORDER[ORDER.index(account.plan) + 1 :]]
        return [plan for plan in higher if _more(plan, own)]


def _more(plan: Plan, own: Plan) -> bool:
    pairs = ((plan.uploads, own.uploads), (plan.storage_bytes, own.storage_bytes))
    return any(old is not None and (new is None or new > old) for new, old in pairs)
