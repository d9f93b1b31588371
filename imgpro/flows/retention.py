"""Rules by which the operator lets pictures end: rehearsed before they are made, and carried out once an hour.

A rule deletes only what it still matches in the transaction that deletes, only while the clock is good, and only as
much as its rehearsal led to expect: one that suddenly matches far more waits for the operator to look again.
"""

import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Final, get_args

import msgspec

from imgpro.errors import Action, NotFound, ValidationError
from imgpro.flows.email_address import parse_email
from imgpro.flows.errands import Values
from imgpro.flows.options import MAX_TAG_CHARS, parse_namespace, parse_tags
from imgpro.flows.remove import Remove
from imgpro.flows.upkeep import Upkeep
from imgpro.forms import counted, show_bytes, show_span
from imgpro.model import Account, StoredFormat
from imgpro.store import queries, queries_accounts, queries_keeping, queries_retention
from imgpro.store.db import Database
from imgpro.store.queries_retention import START, Match, Place, Rule

log = logging.getLogger(__name__)

BATCH: Final = 100
PAGE: Final = 1_000
WAIT_MS: Final = 86_400_000  # from making a rule to its first deletion: time to take back a mistake
MAX_NAME_CHARS: Final = 64
MAX_AGE_S: Final = 100 * 365 * 86_400
# What a rule may delete in one go without being looked at again.
ALWAYS: Final = 1_000
TIMES_EXPECTED: Final = 10
SMALL: Final = 100  # so few pictures are never "more than half of all"
# What may have become old enough while the operator looked at a rehearsal: so many, or a tenth.
MEANWHILE: Final = 10


class Rehearsal(msgspec.Struct, frozen=True):
    """What a rule would delete now: how many pictures, and their bytes (what several share is counted for each)."""

    count: int
    bytes: int


class Retention:
    """Keeps the rules and carries them out. One for the appliance."""

    def __init__(self, db: Database, remove: Remove, upkeep: Upkeep) -> None:
        self._db = db
        self._remove = remove
        self._upkeep = upkeep

    # What the operator asks for

    async def rules(self) -> list[Rule]:
        """Return all rules, by name."""
        async with self._db.reader() as conn:
            return await queries_retention.rules(conn)

    async def wanted(self, values: Values) -> Rule:
        """Return the rule that `values` describe: one that is there, by `rule`, or one that may be made of them.

        Raises NotFound, and ValidationError whose `details` has one sentence for each bad field.
        """
        if values.get("rule"):
            return await self._named(str(values["rule"]))
        rule = parse_rule(values)
        if not values.get("account"):
            return rule
        try:
            email = parse_email(str(values["account"]))
        except ValueError as error:
            raise ValidationError(None, None, {"account": str(error)}) from None
        async with self._db.reader() as conn:
            account = await queries_accounts.account_at(conn, email)
        if account is None or account.leaving_ms is not None:
            raise NotFound(f"There is no account {email}.", Action("fix", label="`imgpro accounts list`"))
        return msgspec.structs.replace(rule, account=account.seq, email=account.email)

    async def rehearse(self, rule: Rule, now_ms: int | None = None) -> Rehearsal:
        """Return what a rule would delete at `now_ms`, or now."""
        at_ms = _now_ms() if now_ms is None else now_ms
        count = size = 0
        async for after, upto in self._stretches(rule, at_ms):
            async with self._db.reader() as conn:
                more, more_bytes = await queries_retention.count_matches(conn, rule, after, upto, at_ms)
            count, size = count + more, size + more_bytes
        return Rehearsal(count, size)

    async def matches(self, rule: Rule, after: Place, limit: int, now_ms: int | None = None) -> list[Match]:
        """Return the next pictures that a rule would delete, the oldest first; fewer than `limit`: no more."""
        at_ms = _now_ms() if now_ms is None else now_ms
        found: list[Match] = []
        async for begin, upto in self._stretches(rule, at_ms, after):
            async with self._db.reader() as conn:
                found += await queries_retention.matches(conn, rule, begin, upto, at_ms, limit - len(found))
            if len(found) == limit:
                break
        return found

    async def add(self, rule: Rule, name: str, expected: int, *, at_once: bool = False) -> Rule:
        """Make a rule whose rehearsal showed `expected` pictures; it deletes nothing before tomorrow, or `at_once`.

        Raises ValidationError, also where it matches more by now than was seen.
        """
        expected = await self._seen(rule, expected)
        now_ms = _now_ms()
        made = msgspec.structs.replace(
            rule,
            name=_name(name),
            created_ms=now_ms,
            begins_ms=now_ms if at_once else now_ms + WAIT_MS,
            expected=expected,
        )

        def write(conn: Any) -> Rule:
            if queries_retention.rule_named(conn, made.name) is not None:
                taken = {"name": f"There is a rule {made.name} already."}
                raise ValidationError("The rule was not made.", Action("fix", label="Choose another name"), taken)
            return queries_retention.insert_rule(conn, made)

        kept = await self._db.write(write)
        log.warning("retention rule %s was made: `imgpro retention list` shows it", kept.name)
        return kept

    async def forget(self, name: str) -> None:
        """Remove a rule; it deletes nothing more from this moment. Raises NotFound."""
        if not await self._db.write(lambda conn: queries_retention.delete_rule(conn, name)):
            raise _unknown(name)
        log.warning("retention rule %s was removed", name)

    async def resume(self, name: str, expected: int) -> None:
        """Let a rule that waits go on, after a look that showed `expected` pictures. Raises NotFound, and
        ValidationError where it matches more by now.
        """
        expected = await self._seen(await self._named(name), expected)
        if not await self._db.write(lambda conn: queries_retention.resume_rule(conn, name, expected)):
            raise _unknown(name)

    async def about(self, account: Account) -> list[Rule]:
        """Return the rules that may delete pictures of an account."""
        async with self._db.reader() as conn:
            return await queries_retention.rules_about(conn, account.seq)

    # The hourly run

    async def apply(self) -> int:
        """Delete what the rules say; return how many pictures went. Nothing while the clock is in doubt."""
        rules = await self.rules()
        if not rules or not await self._upkeep.clock_is_good():
            return 0
        now_ms = _now_ms()
        await self._db.write(lambda conn: queries_keeping.note_began(conn, "retention", now_ms))
        deleted: dict[str, int] = {}
        for rule in rules:
            if rule.begins_ms <= now_ms and rule.held_ms is None and await self._as_expected(rule, now_ms):
                deleted[rule.name] = await self._carry_out(rule, now_ms)
                if deleted[rule.name]:
                    log.info("retention rule %s deleted %s", rule.name, counted(deleted[rule.name], "picture"))
        held = [rule.name for rule in await self.rules() if rule.held_ms is not None]
        words = f"Waits for the operator to look again: {', '.join(held)}." if held else ""
        await self._db.write(
            lambda conn: queries_keeping.note_ended(
                conn, "retention", _now_ms(), good=not held, message=words, deleted=deleted
            )
        )
        return sum(deleted.values())

    async def _as_expected(self, rule: Rule, now_ms: int) -> bool:
        """Tell whether a rule matches no more than it may; one that does is held, loudly."""
        found = (await self.rehearse(rule, now_ms)).count
        async with self._db.reader() as conn:
            stored = (await queries.totals(conn)).images
        if not too_many(found, rule.expected, stored):
            return True
        await self._db.write(lambda conn: queries_retention.hold_rule(conn, rule, now_ms))
        log.error(
            "retention rule %s matches %d of %d pictures now, and %d when it was looked at last: it deletes nothing "
            "until it is looked at again (`imgpro retention resume %s`)",
            rule.name,
            found,
            stored,
            rule.expected,
            rule.name,
        )
        return False

    async def _carry_out(self, rule: Rule, now_ms: int) -> int:
        deleted, after = 0, START
        while found := await self.matches(rule, after, BATCH, now_ms):
            ids = [match.image.id for match in found]
            deleted += await self._remove.by_rule(rule, ids, now_ms)
            after = found[-1].place
        return deleted

    async def _seen(self, rule: Rule, expected: int) -> int:
        """Return how many pictures a rule matches of the `expected` ones that somebody says to have seen.

        What is said is not believed: a rehearsal may have been left open since yesterday, and with a number that was
        never true the rule would delete anything later, unasked.
        """
        found = (await self.rehearse(rule)).count
        if found > expected + max(MEANWHILE, expected // 10):
            raise ValidationError(
                f"The rule would delete {found:,} pictures now; it was {expected:,} when you looked.",
                Action("fix", label="Rehearse it again, and look at what has come"),
            )
        return min(found, expected)

    async def _stretches(
        self, rule: Rule, now_ms: int, after: Place = START
    ) -> AsyncIterator[tuple[Place, Place | None]]:
        """Yield stretch by stretch where it begins and ends; the last one has no end."""
        begin: Place | None = after
        while begin is not None:
            async with self._db.reader() as conn:
                end = await queries_retention.stretch_end(conn, rule, begin, now_ms)
            yield begin, end
            begin = end

    async def _named(self, name: str) -> Rule:
        found = await self._db.write(lambda conn: queries_retention.rule_named(conn, name))
        if found is None:
            raise _unknown(name)
        return found


def too_many(found: int, expected: int, stored: int) -> bool:
    """Tell whether a rule that matches `found` of `stored` pictures was meant, if its rehearsal showed `expected`."""
    if found > max(ALWAYS, TIMES_EXPECTED * expected):
        return True
    return found > max(SMALL, 2 * expected) and 2 * found > stored


def parse_rule(values: Values) -> Rule:
    """Check what a rule is made of. Raises ValidationError whose `details` has one sentence for each bad field."""
    details: dict[str, str] = {}
    found: dict[str, Any] = {"anonymous": bool(values.get("anonymous"))}
    parsers = {
        "older_than_s": lambda raw: _number(raw, 1, MAX_AGE_S),
        "larger_than": lambda raw: None if raw in (None, "") else _number(raw, 0, 2**50),
        "namespace": parse_namespace,
        "tag": _tag,
        "except_tag": _tag,
        "format": _format,
    }
    for field, parse in parsers.items():
        try:
            found[field] = parse(values.get(field))
        except ValueError as error:
            details[field] = str(error)
    if found["anonymous"] and any(values.get(field) for field in ("account", "namespace", "tag")):
        details["anonymous"] = "Pictures without an account have no account, namespace or tag."
    if details:
        raise ValidationError(None, None, details)
    return Rule(**found)


def describe(rule: Rule) -> str:
    """Return in words which pictures a rule deletes, e.g. `pictures older than 30 days in the namespace drafts`."""
    words = ["pictures"]
    if rule.anonymous:
        words.append("without an account")
    if rule.email is not None:
        words.append(f"of {rule.email}")
    words.append(f"older than {show_span(rule.older_than_s)}")
    return " ".join(words) + _conditions(rule)


def describe_to_owner(rule: Rule) -> str:
    """Say the same to somebody whose pictures it is about."""
    return f"pictures older than {show_span(rule.older_than_s)}{_conditions(rule)}"


def _conditions(rule: Rule) -> str:
    words = [f" and larger than {show_bytes(rule.larger_than)}"] if rule.larger_than is not None else []
    words += [f" in the namespace {rule.namespace}"] if rule.namespace is not None else []
    words += [f" tagged {rule.tag}"] if rule.tag is not None else []
    words += [f" stored as {rule.format.upper()}"] if rule.format is not None else []
    words += [f", but not those tagged {rule.except_tag}"] if rule.except_tag is not None else []
    return "".join(words)


def _number(raw: object, least: int, most: int) -> int:
    if isinstance(raw, int | float) and least <= raw <= most:
        return int(raw)
    raise ValueError("Is missing." if raw in (None, "") else "Is no number that makes sense here.")


def _tag(raw: object) -> str | None:
    if raw in (None, ""):
        return None
    found = parse_tags([raw])
    if len(found) != 1 or len(found[0]) > MAX_TAG_CHARS:
        raise ValueError("Name one tag.")
    return found[0]


def _format(raw: object) -> str | None:
    if raw in (None, ""):
        return None
    name = "jpeg" if str(raw).lower() == "jpg" else str(raw).lower()
    if name not in get_args(StoredFormat):
        raise ValueError(f"Must be one of {', '.join(get_args(StoredFormat))}.")
    return name


def _name(raw: str) -> str:
    name = raw.strip()
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise ValidationError(None, None, {"name": f"A rule needs a name of at most {MAX_NAME_CHARS} characters."})
    return name


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no retention rule {name}.", Action("fix", label="`imgpro retention list`"))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
