"""SQL of lists: an account's pictures with any combination of filters, and its namespaces and tags.

Every list is a walk through postings, index entries that are in the order of the list already, from a position
downwards, so that page 10,000 costs what page 1 costs. Which index is walked is written into the statements (INDEXED
BY, CROSS JOIN); the planner and its statistics have no say. Four ways, chosen by `list_plan`:

- scan: walk the postings of the rarest filter - tag, namespace, format, else the account - and look the other filters
  up for each entry. Any of several tags: one bounded walk per tag, merged.
- text: walk the full-text index. Order is that of arrival (`seq`), which the index has for nothing; by time it would
  have to find and sort all matches for each page.
- set: few pictures come into question (given ids, a filter with few pictures beside a text): read them all, have
  their text judged by a small index in memory, sort. Asking the big index about one picture costs 0.1 ms.
- nothing: a filter has no picture at all.

Where filters are combined, many entries may have to be passed over for one that fits. Then a walk goes in windows of a
bounded number of entries, and the caller decides how many windows a page is worth. The rules of `queries` hold here.
"""

import asyncio
import contextlib
import json
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from heapq import merge
from typing import Any, Final, Literal

import aiosqlite
import msgspec

from imgpro.model import Image, Principal, StoredFormat
from imgpro.store.queries import IMAGE_COLUMNS, image_of

Position = tuple[int, int]  # (created_ms, seq) of a picture; a text list looks at seq alone
START: Final[Position] = (2**62, 2**62)
MAX_NAMES: Final = 10_000  # of namespaces or tags in one answer
_END: Final[Position] = (0, 0)
_SMALL: Final = 200  # so few pictures are read as a set where there is a text
_COUNTED: Final = 5_000  # entries counted at most to learn how rare a filter is
_MANY: Final = 2**62
_INT = "the number of a picture"

_ROWS: Final = f"SELECT i.created_ms, i.seq, {IMAGE_COLUMNS}"
_BLOB: Final = "CROSS JOIN blobs b ON b.seq = i.blob"
_ALIVE: Final = "(i.expires_ms IS NULL OR i.expires_ms > ?)"
_BY_TIME: Final = "{created} >= ?"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which pictures a list is of. Every filter that is not None or empty must hold.

    `key` restricts to what one key brought. `since_ms` is inclusive, `until_ms` exclusive. `words` are of the user,
    as they are: they are found at the beginning of words in name, description and tags, whatever they contain.
    """

    account: int
    now_ms: int
    key: int | None = None
    tags: tuple[str, ...] = ()
    tag_mode: Literal["any", "all"] = "any"
    namespace: str | None = None
    format: StoredFormat | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    ids: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class Listed(msgspec.Struct, frozen=True):
    """A picture in a list and where it stands."""

    position: Position
    image: Image


class Step(msgspec.Struct, frozen=True):
    """What one step found. `resume`: where the walk goes on below; None: `listed` is full, or all has been seen."""

    listed: list[Listed]
    resume: Position | None


class Counted(msgspec.Struct, frozen=True):
    """A namespace or tag, how many pictures it has, and their bytes as stored."""

    name: str
    images: int
    stored_bytes: int


class Condition(msgspec.Struct, frozen=True):
    """Part of a WHERE and its values. `{seq}` stands for the column that numbers the picture."""

    sql: str
    values: tuple[Any, ...]


class Posting(msgspec.Struct, frozen=True):
    """Index entries of an account in the order of lists: `table` where they are `equal` to some values."""

    table: str
    equal: Condition
    alias: str = "i"

    @property
    def created(self) -> str:
        """The column with the time."""
        return f"{self.alias}.created_ms"

    @property
    def seq(self) -> str:
        """The column with the number of the picture."""
        return "t.image" if self.alias == "t" else "i.seq"

    def between(self, low: Position, high: Position) -> tuple[str, list[Any]]:
        """Return FROM and WHERE for the entries from `low` (inclusive) to `high` (exclusive)."""
        position = f"({self.created}, {self.seq})"
        sql = f"{self.equal.sql} AND {position} >= (?, ?) AND {position} < (?, ?)"
        return sql, [*self.equal.values, *low, *high]


class Filter(msgspec.Struct, frozen=True):
    """One filter, both ways: as `postings` to walk (several: any of them), and as a `test` of a picture.

    `size` says how many pictures it has, as exactly as is known.
    """

    postings: tuple[Posting, ...]
    test: Condition | None
    size: int = _MANY


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a list is read; made by `list_plan`, good for the pages of one request."""

    way: Literal["scan", "text", "set", "nothing"]
    postings: tuple[Posting, ...] = ()
    tests: tuple[Condition, ...] = ()
    low: Position = _END
    high: Position = START
    match: str = ""

    @property
    def windowed(self) -> bool:
        """Tell whether many entries may have to be passed over, so that steps are bounded by their window."""
        return self.way in ("scan", "text") and bool(self.tests)


# Which way


async def list_plan(conn: aiosqlite.Connection, wanted: Wanted) -> Plan:
    """Choose how to read a list; looks at a few counts where there is a choice."""
    low = (wanted.since_ms, 0) if wanted.since_ms is not None else _END
    high = (wanted.until_ms, 0) if wanted.until_ms is not None else START
    account = Filter((_account_posting(wanted),), None)
    filters = _filters(wanted)
    match = text_match(wanted)
    if wanted.ids:
        filters = [Filter((_ids_posting(wanted),), None, 0), *filters]
        tests = [*_tests(filters), *_own(wanted)]
        return Plan(way="set", postings=filters[0].postings, tests=tuple(tests), low=low, high=high, match=match)
    if len(filters) > 1 or (match and filters):
        filters = await _sized(conn, wanted, filters, low, high)
        if not all(each.size for each in filters):
            return Plan(way="nothing")
    if match:
        return await _text_plan(conn, wanted, account, filters, (low, high), match)
    driver = min(filters, key=lambda each: each.size) if filters else account
    tests = [*_tests(each for each in filters if each is not driver), *_own(wanted)]
    return Plan(way="scan", postings=driver.postings, tests=tuple(tests), low=low, high=high)


async def _text_plan(
    conn: aiosqlite.Connection,
    wanted: Wanted,
    account: Filter,
    filters: list[Filter],
    limits: tuple[Position, Position],
    match: str,
) -> Plan:
    low, high = limits
    first, last = 0, _MANY
    if (low, high) != (_END, START):
        # Times and numbers rise together unless a clock was set back, so the numbers have to be looked at.
        count, first, last = await _span(conn, account.postings[0], low, high)
        account = Filter(account.postings, None, count)
        filters = [*filters, account]
    rarest = min(filters, key=lambda each: each.size, default=account)
    if rarest.size == 0:
        return Plan(way="nothing")
    if rarest.size <= _SMALL:
        tests = [*_tests(each for each in filters if each is not rarest), *_own(wanted)]
        return Plan(way="set", postings=rarest.postings, tests=tuple(tests), low=low, high=high, match=match)
    tests = [*_tests(filters), *_own(wanted)]
    if account in filters:
        tests.append(Condition("i.created_ms >= ? AND i.created_ms < ?", (low[0], high[0])))
    return Plan(way="text", tests=tuple(tests), low=(0, first), high=(0, last), match=match)


def _filters(wanted: Wanted) -> list[Filter]:
    """Return the filters that have postings of their own: each tag (all) or the tags (any), namespace, format."""
    groups = [(tag,) for tag in wanted.tags] if wanted.tag_mode == "all" else [wanted.tags]
    found = [Filter(tuple(_tag_posting(wanted, tag) for tag in tags), _tagged(wanted, tags)) for tags in groups if tags]
    if wanted.namespace is not None:
        equal = Condition("i.account = ? AND i.namespace = ?", (wanted.account, wanted.namespace))
        test = Condition("i.namespace = ?", (wanted.namespace,))
        found.append(Filter((Posting("images i INDEXED BY images_by_namespace", equal),), test))
    if wanted.format is not None:
        equal = Condition("i.account = ? AND i.format = ?", (wanted.account, wanted.format))
        test = Condition("i.format = ?", (wanted.format,))
        found.append(Filter((Posting("images i INDEXED BY images_by_format", equal),), test))
    return found


def _account_posting(wanted: Wanted) -> Posting:
    return Posting("images i INDEXED BY images_by_account", Condition("i.account = ?", (wanted.account,)))


def _ids_posting(wanted: Wanted) -> Posting:
    marks = ", ".join("?" * len(wanted.ids))
    equal = Condition(f"i.id IN ({marks}) AND i.account = ?", (*wanted.ids, wanted.account))
    return Posting("images i INDEXED BY sqlite_autoindex_images_1", equal)


def _tag_posting(wanted: Wanted, tag: str) -> Posting:
    # The primary key: the name that SQLite gave it is part of its file format.
    equal = Condition("t.account = ? AND t.tag = ?", (wanted.account, tag))
    return Posting("image_tags t INDEXED BY sqlite_autoindex_image_tags_1", equal, "t")


def _tagged(wanted: Wanted, tags: Sequence[str]) -> Condition:
    # By picture, not by tag: all tags of neighbouring pictures lie on one page of this index.
    marks = ", ".join("?" * len(tags))
    sql = (
        "EXISTS (SELECT 1 FROM image_tags o INDEXED BY image_tags_by_image "
        f"WHERE o.image = {{seq}} AND o.account = ? AND o.tag IN ({marks}))"
    )
    return Condition(sql, (wanted.account, *tags))


def _tests(filters: Iterable[Filter]) -> list[Condition]:
    return [each.test for each in filters if each.test is not None]


def _own(wanted: Wanted) -> list[Condition]:
    return [Condition("i.key = ?", (wanted.key,))] if wanted.key is not None else []


async def _sized(
    conn: aiosqlite.Connection, wanted: Wanted, filters: list[Filter], low: Position, high: Position
) -> list[Filter]:
    """Return the filters with their sizes: kept totals for tags and namespaces, counted up to a limit for a format."""
    marks = ", ".join("?" * len(wanted.tags))
    rows = await conn.execute_fetchall(
        f"SELECT name, images FROM tag_totals WHERE account = ? AND name IN ({marks}) "
        "UNION ALL SELECT NULL, images FROM namespace_totals WHERE account = ? AND name = ?",
        (wanted.account, *wanted.tags, wanted.account, wanted.namespace),
    )
    totals: dict[str | None, int] = dict(map(tuple, rows))
    sized = []
    for each in filters:
        posting = each.postings[0]
        if posting.alias == "t":
            size = sum(totals.get(one.equal.values[1], 0) for one in each.postings)
        elif "images_by_namespace" in posting.table:
            size = totals.get(None, 0)
        else:
            size, _, _ = await _span(conn, posting, low, high)
        sized.append(Filter(each.postings, each.test, size))
    return sized


async def _span(
    conn: aiosqlite.Connection, posting: Posting, low: Position, high: Position
) -> tuple[int, int, int]:
    """Return how many entries lie between two positions, and from which number up to which (exclusive).

    More than `_COUNTED` are many, and may have any number.
    """
    where, values = posting.between(low, high)
    rows = await conn.execute_fetchall(
        f"SELECT count(*), min(n), max(n) FROM (SELECT {posting.seq} AS n FROM {posting.table} WHERE {where} LIMIT ?)",
        (*values, _COUNTED + 1),
    )
    count, first, last = next(iter(rows))
    if count > _COUNTED:
        return _MANY, 0, _MANY
    return count, first or 0, (last or 0) + 1


# Reading


async def images_step(
    conn: aiosqlite.Connection, wanted: Wanted, plan: Plan, after: Position, limit: int, window: int
) -> Step:
    """Return up to `limit` pictures that come after a position in the list.

    A windowed plan passes over at most about `window` entries (of each tag) and says where to resume if that did not
    suffice; other plans find what there is in one step.
    """
    if plan.way == "nothing":
        return Step([], None)
    if plan.way == "set":
        return Step((await _set(conn, wanted, plan, after))[:limit], None)
    if plan.way == "text":
        listed, edge = await _text(conn, wanted, plan, after, limit, window)
    else:
        listed, edge = await _scan(conn, wanted, plan, after, limit, window)
    return Step(listed, edge if len(listed) < limit else None)


async def _scan(
    conn: aiosqlite.Connection, wanted: Wanted, plan: Plan, after: Position, limit: int, window: int
) -> tuple[list[Listed], Position | None]:
    high = min(plan.high, after)
    # The edge comes first and from the index alone: wherever the rows change meanwhile, it parts the list in two.
    edges = [await _edge(conn, each, plan.low, high, window) for each in plan.postings if plan.windowed]
    edge = max((found for found in edges if found is not None), default=None)
    parts, values = [], list[Any]()
    for posting in plan.postings:
        sql, its = _select(wanted, plan, posting, edge or plan.low, high)
        parts.append(f"{sql} ORDER BY {posting.created} DESC, {posting.seq} DESC LIMIT ?")
        values += [*its, limit]
    sql = parts[0] if len(parts) == 1 else " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)
    rows = [tuple(row) for row in await conn.execute_fetchall(sql, values)]
    return [_listed(row) for row in _merged(rows, len(parts), limit)], edge


def _merged(rows: list[tuple[Any, ...]], parts: int, limit: int) -> list[tuple[Any, ...]]:
    """Return the first rows of several lists that follow each other, each picture once."""
    if parts == 1:
        return rows
    runs: list[list[tuple[Any, ...]]] = [[]]
    for row in rows:
        if runs[-1] and row[:2] >= runs[-1][-1][:2]:
            runs.append([])
        runs[-1].append(row)
    once = {row[1]: row for row in merge(*runs, key=lambda row: row[:2], reverse=True)}
    return list(once.values())[:limit]


async def _edge(
    conn: aiosqlite.Connection, posting: Posting, low: Position, high: Position, window: int
) -> Position | None:
    """Return the position of the last entry of a window; None if the window holds all there are."""
    where, values = posting.between(low, high)
    rows = await conn.execute_fetchall(
        f"SELECT {posting.created}, {posting.seq} FROM {posting.table} WHERE {where} "
        f"ORDER BY {posting.created} DESC, {posting.seq} DESC LIMIT 1 OFFSET ?",
        (*values, window - 1),
    )
    return next(((row[0], row[1]) for row in rows), None)


def _select(wanted: Wanted, plan: Plan, posting: Posting, low: Position, high: Position) -> tuple[str, list[Any]]:
    """Return the statement, without order and limit, for the pictures of a posting that pass the plan's tests."""
    where, values = posting.between(low, high)
    picture = "CROSS JOIN images i ON i.seq = t.image" if posting.alias == "t" else ""
    tests = [*plan.tests, Condition(_ALIVE, (wanted.now_ms,))]
    sql = " AND ".join([where, *(test.sql.format(seq=posting.seq) for test in tests)])
    return (
        f"{_ROWS} FROM {posting.table} {picture} {_BLOB} WHERE {sql}",
        [*values, *(value for test in tests for value in test.values)],
    )


async def _text(
    conn: aiosqlite.Connection, wanted: Wanted, plan: Plan, after: Position, limit: int, window: int
) -> tuple[list[Listed], Position | None]:
    found = "images_text MATCH ? AND images_text.rowid >= ? AND images_text.rowid < ?"
    low, high = plan.low[1], min(plan.high[1], after[1])
    edge = None
    if plan.windowed:
        rows = await conn.execute_fetchall(
            f"SELECT rowid FROM images_text WHERE {found} ORDER BY rowid DESC LIMIT 1 OFFSET ?",
            (plan.match, low, high, window - 1),
        )
        edge = next((row[0] for row in rows), None)
    tests = [*plan.tests, Condition(f"i.account = ? AND {_ALIVE}", (wanted.account, wanted.now_ms))]
    rows = await conn.execute_fetchall(
        f"{_ROWS} FROM images_text CROSS JOIN images i ON i.seq = images_text.rowid {_BLOB} "
        f"WHERE {found} AND {' AND '.join(test.sql.format(seq='images_text.rowid') for test in tests)} "
        "ORDER BY images_text.rowid DESC LIMIT ?",
        (plan.match, edge or low, high, *(value for test in tests for value in test.values), limit),
    )
    return [_listed(tuple(row)) for row in rows], None if edge is None else (0, edge)


async def _set(conn: aiosqlite.Connection, wanted: Wanted, plan: Plan, after: Position) -> list[Listed]:
    by_seq = bool(plan.match)
    once: dict[int, Listed] = {}
    for posting in plan.postings:
        sql, values = _select(wanted, plan, posting, plan.low, plan.high)
        rows = await conn.execute_fetchall(sql, values)
        once.update((row[1], _listed(tuple(row))) for row in rows)
    listed = list(once.values())
    if plan.match and listed:
        # The index's own definition, so that both cut texts into words alike.
        (made,) = await conn.execute_fetchall("SELECT sql FROM sqlite_schema WHERE name = 'images_text'")
        fitting = await asyncio.to_thread(_judged, made[0], plan.match, listed)
        listed = [each for each in listed if each.position[1] in fitting]
    place = (lambda each: each.position[1:]) if by_seq else (lambda each: each.position)
    bound = after[1:] if by_seq else after
    return sorted((each for each in listed if place(each) < bound), key=place, reverse=True)


def _judged(definition: str, match: str, listed: list[Listed]) -> frozenset[int]:
    """Return the numbers of those pictures that a full-text expression fits."""
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        memory.execute(definition)
        memory.executemany(
            "INSERT INTO images_text (rowid, owner, name, description, tags) VALUES (?, ?, ?, ?, ?)",
            [
                (each.position[1], f"a{each.image.account}", each.image.name, each.image.description, _as_stored(each.image.tags))
                for each in listed
            ],
        )
        rows = memory.execute("SELECT rowid FROM images_text WHERE images_text MATCH ?", (match,))
        return frozenset(row[0] for row in rows)


def _as_stored(tags: Iterable[str]) -> str:
    return json.dumps(list(tags), ensure_ascii=False)


def _listed(row: tuple[Any, ...]) -> Listed:
    return Listed((row[0], row[1]), image_of(row[2:]))


# Text


def text_match(wanted: Wanted) -> str:
    """Return the full-text expression for the words (and tags) of a list; empty without words.

    Each word becomes a quoted phrase, so that nothing in it is an operator, and the last letters may be missing. A
    single letter of an alphabet must stand alone: as a beginning it would be in nearly every text. Words without a
    letter or digit are left out by SQLite; if there are no others, nothing is found.
    """
    if not wanted.words:
        return ""
    phrases = " ".join(_quoted(word) + _open_end(word) for word in wanted.words)
    match = f'owner : "a{wanted.account}" AND {{name description tags}} : ({phrases})'
    # A tag's words are in the index too. It finds more than the tag, which is tested after, but skips most others.
    texts = [_as_stored([tag])[2:-2] for tag in wanted.tags]
    if texts and all(re.search("[a-z0-9]", text) for text in texts):
        joiner = " " if wanted.tag_mode == "all" else " OR "
        match += f" AND tags : ({joiner.join(map(_quoted, texts))})"
    return match


def _quoted(text: str) -> str:
    # A NUL would end the expression in the middle of the quotation.
    return '"' + text.replace("\0", " ").replace('"', '""') + '"'


def _open_end(word: str) -> str:
    last = re.findall(r"[^\W_]+", word)[-1:]
    if last and len(last[0]) == 1 and unicodedata.category(last[0]) != "Lo":
        return ""
    return " *"


# Namespaces and tags


async def namespaces(conn: aiosqlite.Connection, principal: Principal, now_ms: int) -> list[Counted]:
    """Return the principal's namespaces by name, `MAX_NAMES` at most.

    The kept totals still count pictures that have ended and not been cleared away.
    """
    if principal.own_key_only is None:
        return await _counted(
            conn,
            "SELECT name, images, stored_bytes FROM namespace_totals WHERE account = ? ORDER BY name LIMIT ?",
            (principal.account.seq, MAX_NAMES),
        )
    return await _counted(
        conn,
        "SELECT i.namespace, count(*), sum(i.stored_bytes) FROM images i INDEXED BY images_by_namespace "
        f"WHERE i.account = ? AND i.namespace IS NOT NULL AND i.key = ? AND {_ALIVE} "
        "GROUP BY i.namespace ORDER BY i.namespace LIMIT ?",
        (principal.account.seq, principal.own_key_only, now_ms, MAX_NAMES),
    )


async def tags(conn: aiosqlite.Connection, principal: Principal, now_ms: int) -> list[Counted]:
    """Return the principal's tags by name, `MAX_NAMES` at most; counted as namespaces are."""
    if principal.own_key_only is None:
        return await _counted(
            conn,
            "SELECT name, images, stored_bytes FROM tag_totals WHERE account = ? ORDER BY name LIMIT ?",
            (principal.account.seq, MAX_NAMES),
        )
    return await _counted(
        conn,
        "SELECT t.tag, count(*), sum(t.stored_bytes) "
        "FROM image_tags t INDEXED BY sqlite_autoindex_image_tags_1 CROSS JOIN images i ON i.seq = t.image "
        f"WHERE t.account = ? AND i.key = ? AND {_ALIVE} GROUP BY t.tag ORDER BY t.tag LIMIT ?",
        (principal.account.seq, principal.own_key_only, now_ms, MAX_NAMES),
    )


async def _counted(conn: aiosqlite.Connection, sql: str, values: tuple[Any, ...]) -> list[Counted]:
    return [Counted(*row) for row in await conn.execute_fetchall(sql, values)]
