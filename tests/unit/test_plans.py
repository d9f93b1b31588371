"""The plan table: who is held to what, and which plan comes next."""

import msgspec
import pytest

from imgpro.model import Account
from imgpro.plans import PlanTable
from imgpro.settings import GIB, Plans

MEMBER = Account(
    seq=1,
    id="acc_x",
    email="ann@example.org",
    role="member",
    plan="free",
    plan_changes=0,
    created_ms=1,
    verified_ms=2,
    blocked_ms=None,
)
UNVERIFIED = msgspec.structs.replace(MEMBER, verified_ms=None)
OPERATOR = msgspec.structs.replace(MEMBER, role="operator", plan="max")


@pytest.mark.parametrize(
    ("name", "uploads", "gib", "kept_s", "price"),
    [
        ("unverified", 100, 5, 30 * 86_400, ""),
        ("free", 100, 5, None, ""),
        ("pro", 1_000, 50, None, "$10/mo"),
        ("scale", 10_000, 500, None, "$49/mo"),
        ("max", 100_000, 5 * 1024, None, "$299/mo"),
    ],
)
def test_the_rows_are_those_of_the_contract(name, uploads, gib, kept_s, price):
    plan = PlanTable(Plans()).named(name)
    assert (plan.uploads, plan.storage_bytes, plan.retention_s, plan.price) == (uploads, gib * GIB, kept_s, price)


def test_an_account_is_held_to_its_plan_once_it_is_verified():
    table = PlanTable(Plans())
    assert table.of(UNVERIFIED).name == "unverified"
    assert table.of(MEMBER).name == "free"
    assert table.of(msgspec.structs.replace(MEMBER, plan="scale")).name == "scale"


def test_the_operator_has_no_limit():
    plan = PlanTable(Plans()).of(OPERATOR)
    assert (plan.uploads, plan.storage_bytes, plan.retention_s) == (None, None, None)
    assert PlanTable(Plans()).above(OPERATOR) == []


def test_above_a_plan_are_those_that_allow_more():
    table = PlanTable(Plans())
    assert [plan.name for plan in table.above(MEMBER)] == ["pro", "scale", "max"]
    assert [plan.name for plan in table.above(msgspec.structs.replace(MEMBER, plan="max"))] == []
    assert table.above(UNVERIFIED) == []


def test_a_plan_that_allows_no_more_is_not_offered():
    table = PlanTable(Plans(pro_uploads=100, pro_storage_bytes=5 * GIB))
    assert [plan.name for plan in table.above(MEMBER)] == ["scale", "max"]
    assert [plan.name for plan in PlanTable(Plans(free_uploads=None, free_storage_bytes=None)).above(MEMBER)] == []


def test_one_switch_takes_all_limits_away():
    table = PlanTable(Plans(unlimited=True))
    for account in (UNVERIFIED, MEMBER):
        plan = table.of(account)
        assert (plan.uploads, plan.storage_bytes, plan.retention_s) == (None, None, None)
        assert table.above(account) == []
