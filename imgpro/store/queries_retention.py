"""SQL of retention rules: which pictures a rule matches, found in bounded pieces of an index. See `queries`.

A rule's pictures are walked in the order of their age, a stretch at a time: its end is looked up first, and within it a
statement counts, lists or names what matches. So no statement looks at more rows than a stretch has.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import aiosqlite
import msgspec

from imgpro.model import Image
from imgpro.store import queries
from imgpro.store.queries import IMAGE_COLUMNS, Deletion, image_of

STRETCH: Final = 5_000  # pictures looked at by one statement
# Before it no clock was set: a picture of that time came while the clock had not been set yet.
UNSET_MS: Final = 946_684_800_000

_RULE: Final = (
    "r.seq, r.name, r.account, r.anonymous, r.namespace, r.tag, r.except_tag, r.format, r.larger_than, r.older_than_s, "
    "r.created_ms, r.begins_ms, r.expected, r.held_ms, a.email"
)
_RULES: Final = f"SELECT {_RULE} FROM retention_rules r LEFT JOIN accounts a ON a.seq = r.account"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Which pictures end. None: any; `account` as `Account.seq`, sizes in bytes, times in Unix milliseconds.

    A rule that is only tried out has no number and no name. `email` is that of its account.
    """

    seq: int = 0
    name: str = ""
    account: int | None = None
    anonymous: bool = False
    namespace: str | None = None
    tag: str | None = None
    except_tag: str | None = None
    format: str | None = None
    larger_than: int | None = None
    older_than_s: int
    created_ms: int = 0
    begins_ms: int = 0
    expected: int = 0
    held_ms: int | None = None
    email: str | None = None

    def before_ms(self, now_ms: int) -> int:
        """Return when a picture came that is as old as the rule wants, at `now_ms`."""
        return now_ms - self.older_than_s * 1000


class Place(msgspec.Struct, frozen=True):
    """A place in the order of age: when a picture came (Unix ms), and its number."""

    created_ms: int
    seq: int


START: Final = Place(UNSET_MS, 0)


class Match(msgspec.Struct, frozen=True):
    """A picture that a rule matches, where it stands, and whose it is: an address, or the network it came from."""

    image: Image
    place: Place
    email: str | None
    network: str | None


async def rules(conn: aiosqlite.Connection) -> list[Rule]:
    """Return all rules, by name."""
    return [_rule(tuple(row)) for row in await conn.execute_fetchall(f"{_RULES} ORDER BY r.name")]


def rule_named(conn: sqlite3.Connection, name: str) -> Rule | None:
    """Return the rule of a name."""
    row = conn.execute(f"{_RULES} WHERE r.name = ?", (name,)).fetchone()
    return None if row is None else _rule(row)


def insert_rule(conn: sqlite3.Connection, rule: Rule) -> Rule:
    """Keep a rule, and return it with its number. Its name must be new."""
    names = tuple(name for name in Rule.__struct_fields__ if name not in ("seq", "email"))
    marks = ", ".join("?" * len(names))
    values = [getattr(rule, name) for name in names]
    added = conn.execute(f"INSERT INTO retention_rules ({', '.join(names)}) VALUES ({marks})", values)
    return msgspec.structs.replace(rule, seq=int(added.lastrowid or 0))


def delete_rule(conn: sqlite3.Connection, name: str) -> bool:
    """Forget a rule; tell whether there was one."""
    return conn.execute("DELETE FROM retention_rules WHERE name = ?", (name,)).rowcount > 0


def hold_rule(conn: sqlite3.Connection, rule: Rule, now_ms: int) -> None:
    """Have a rule wait for the operator."""
    conn.execute("UPDATE retention_rules SET held_ms = ? WHERE seq = ?", (now_ms, rule.seq))


def resume_rule(conn: sqlite3.Connection, name: str, expected: int) -> bool:
    """Let a rule go on, of which the operator has seen that it matches so many; tell whether there is one."""
    return (
        conn.execute(
            "UPDATE retention_rules SET held_ms = NULL, expected = ? WHERE name = ?", (expected, name)
        ).rowcount
        > 0
    )


async def stretch_end(conn: aiosqlite.Connection, rule: Rule, after: Place, now_ms: int) -> Place | None:
    """Return where the next stretch after `after` ends; None: it is the last one."""
    where, values = _walk(rule, after, None, now_ms)
    rows = await conn.execute_fetchall(
        f"SELECT i.created_ms, i.seq FROM images i {_index(rule)} WHERE {where} "
        "ORDER BY i.created_ms, i.seq LIMIT 1 OFFSET ?",
        (*values, STRETCH - 1),
    )
    return next((Place(*tuple(row)) for row in rows), None)


async def count_matches(
    conn: aiosqlite.Connection, rule: Rule, after: Place, upto: Place | None, now_ms: int
) -> tuple[int, int]:
    """Return how many pictures of a stretch a rule matches at `now_ms`, and their bytes."""
    where, values = _matching(rule, after, upto, now_ms)
    rows = list(
        await conn.execute_fetchall(
            f"SELECT count(*), coalesce(sum(i.stored_bytes), 0) FROM images i {_index(rule)} WHERE {where}", values
        )
    )
    return rows[0][0], rows[0][1]


async def matches(
    conn: aiosqlite.Connection, rule: Rule, after: Place, upto: Place | None, now_ms: int, limit: int
) -> list[Match]:
    """Return the first pictures of a stretch that a rule matches at `now_ms`, the oldest first."""
    where, values = _matching(rule, after, upto, now_ms)
    rows: Any = await conn.execute_fetchall(
        f"SELECT {IMAGE_COLUMNS}, i.seq, a.email, i.network FROM images i {_index(rule)} "
        f"JOIN blobs b ON b.seq = i.blob LEFT JOIN accounts a ON a.seq = i.account WHERE {where} "
        "ORDER BY i.created_ms, i.seq LIMIT ?",
        (*values, limit),
    )
    found = []
    for row in map(tuple, rows):
        image = image_of(row[:-3])
        found.append(Match(image, Place(image.created_ms, row[-3]), row[-2], row[-1]))
    return found


def delete_by_rule(conn: sqlite3.Connection, rule: Rule, image_ids: Sequence[str], now_ms: int) -> list[Deletion]:
    """Delete those of the pictures that a rule still matches at `now_ms`, if it is still there and may delete."""
    found = rule_named(conn, rule.name)
    if found is None or found.seq != rule.seq or found.held_ms is not None or found.begins_ms > now_ms:
        return []
    where, values = _matching(found, START, None, now_ms)
    gone = [
        image_id
        for image_id in image_ids
        if conn.execute(f"SELECT 1 FROM images i WHERE i.id = ? AND {where}", (image_id, *values)).fetchone()
    ]
    return queries.delete_images(conn, gone)


async def rules_about(conn: aiosqlite.Connection, account: int) -> list[Rule]:
    """Return the rules that may delete pictures of an account."""
    rows = await conn.execute_fetchall(
        f"{_RULES} WHERE r.account = ? OR (r.account IS NULL AND r.anonymous = 0) ORDER BY r.name", (account,)
    )
    return [_rule(tuple(row)) for row in rows]


def _index(rule: Rule) -> str:
    """Name the index that leads through a rule's pictures by age: the planner knows no numbers to choose by."""
    if rule.account is None:
        return "INDEXED BY images_by_creation"
    return f"INDEXED BY {'images_by_account' if rule.namespace is None else 'images_by_namespace'}"


def _walk(rule: Rule, after: Place, upto: Place | None, now_ms: int) -> tuple[str, list[Any]]:
    """Return the condition of a stretch, and its values."""
    # The index knows the times alone; what lies at the very ends is left out row by row.
    last_ms = rule.before_ms(now_ms)
    where = ["i.created_ms BETWEEN ? AND ?", "(i.created_ms > ? OR i.seq > ?)"]
    values: list[Any] = [after.created_ms, last_ms, after.created_ms, after.seq]
    if upto is not None:
        values[1] = min(last_ms, upto.created_ms)
        where.append("(i.created_ms < ? OR i.seq <= ?)")
        values += [upto.created_ms, upto.seq]
    for column in ("account", "namespace") if rule.account is not None else ():
        if (value := getattr(rule, column)) is not None:
            where.append(f"i.{column} = ?")
            values.append(value)
    return " AND ".join(where), values


def _matching(rule: Rule, after: Place, upto: Place | None, now_ms: int) -> tuple[str, list[Any]]:
    """Return the condition of what a rule matches in a stretch, and its values."""
    first, values = _walk(rule, after, upto, now_ms)
    where = [first, "(i.expires_ms IS NULL OR i.expires_ms > ?)"]
    values.append(now_ms)
    tagged = "EXISTS (SELECT 1 FROM image_tags t WHERE t.image = i.seq AND t.tag = ?)"
    conditions = (
        ("i.namespace = ?", rule.namespace),
        ("i.format = ?", rule.format),
        ("i.stored_bytes > ?", rule.larger_than),
        (tagged, rule.tag),
        (f"NOT {tagged}", rule.except_tag),
    )
    for condition, value in conditions:
        if value is not None:
            where.append(condition)
            values.append(value)
    if rule.anonymous:
        where.append("i.account IS NULL")
    return " AND ".join(where), values


def _rule(row: tuple[Any, ...]) -> Rule:
    names = Rule.__struct_fields__
    values = dict(zip(names, row, strict=True))
    return Rule(**{**values, "anonymous": bool(values["anonymous"])})
