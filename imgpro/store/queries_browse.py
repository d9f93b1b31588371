"""SQL of lists: an account's pictures with any combination of filters, and its namespaces and tags.

Every list is a walk through postings, index entries that are in the order of the list already, from a position
downwards, so that page 10,000 costs what page 1 costs. Which index is walked is written into the statements (INDEXED
BY, CROSS JOIN); the planner and its statistics have no say. Four ways, chosen by `list_plan`:

- scan: walk the postings of the rarest filter - tag, namespace, format, else the account - and look the other filters
  up for each entry. Any of several tags: one bounded walk per tag, merged.
- text: walk the full-text index. Order is that of arrival (`seq`), which the index has for nothing; by time it would
  have to find and sort all matches for each page.
- set: few pictures come into question (given ids, a rare filter beside a text): read them all, have their text judged
  by a small index in memory, sort. Asking the big index about a single picture costs 0.1 ms.
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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import aiosqlite
import msgspec

from imgpro.model import Image, Principal, StoredFormat
from imgpro.store.queries import IMAGE_COLUMNS, image_of

Position = tuple[int, int]  # (created_ms, seq) of a picture; a text list looks at seq alone
Way = Literal["scan", "text", "set", "nothing"]

START: Final[Position] = (2**62, 2**62)
MAX_NAMES: Final = 10_000  # of namespaces or tags in one answer
CLOCK_SLACK_MS: Final = 86_400_000
_END: Final[Position] = (0, 0)
_MANY: Final = 2**62
_COUNTED: Final = 5_000  # entries counted at most to learn how rare a filter is
_SMALL: Final = 500  # so few pictures are read as a set where there is a text
_NARROW: Final = 1_000  # so few pictures with all of several tags are read as a set

# Numbers come as a JSON list: one text for any count, and its order is kept. IN instead of = is no slip: with
# statistics from a time with few pictures SQLite would walk through all of them first, to make a filter for equality.
_NUMBERED: Final = "json_each(?) n CROSS JOIN images i NOT INDEXED ON i.seq IN (n.value)"
_ALIVE: Final = "(i.expires_ms IS NULL OR i.expires_ms > ?)"
_WITHIN: Final = "i.created_ms >= ? AND i.created_ms < ?"


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


class Placed(msgspec.Struct, frozen=True):
    """A picture in a list and where it stands."""

    position: Position
    image: Image


class Step(msgspec.Struct, frozen=True):
    """What one step found. `resume`: where the walk goes on; None: `placed` is full, or all has been seen."""

    placed: list[Placed]
    resume: Position | None


class Listed(msgspec.Struct, frozen=True):
    """A namespace or tag, how many pictures it has, and their bytes as stored."""

    name: str
    images: int
    stored_bytes: int


class Condition(msgspec.Struct, frozen=True):
    """Part of a WHERE and its values.

    It looks at the picture's row `i`, or, `by_number`, only at its number: `{seq}` stands for the column with that.
    """

    sql: str
    values: tuple[Any, ...]
    by_number: bool = False


class Posting(msgspec.Struct, frozen=True):
    """Index entries in the order of lists: those of `table` that are `equal` to an account and a name.

    The table's alias is `t` for tags and `i` for pictures.
    """

    table: str
    equal: Condition
    alias: Literal["i", "t"] = "i"

    @property
    def created(self) -> str:
        """The column with the time."""
        return f"{self.alias}.created_ms"

    @property
    def seq(self) -> str:
        """The column with the number of the picture."""
        return "t.image" if self.alias == "t" else "i.seq"

    @property
    def order(self) -> str:
        """The order of lists."""
        return f"ORDER BY {self.created} DESC, {self.seq} DESC"

    def between(self, low: Position, high: Position) -> tuple[str, list[Any]]:
        """Return the condition for entries from `low` (inclusive) to `high` (exclusive), and its values."""
        position = f"({self.created}, {self.seq})"
        sql = f"{self.equal.sql} AND {position} >= (?, ?) AND {position} < (?, ?)"
        return sql, [*self.equal.values, *low, *high]


class Filter(msgspec.Struct, frozen=True):
    """One filter, both ways: as `postings` to walk (several: any of them), and as a `test` of a picture.

    `size` says how many pictures it has, as exactly as is known; the numbers of all of them are from `first` to `last`
    (exclusive).
    """

    kind: Literal["ids", "tags", "namespace", "format", "account"]
    postings: tuple[Posting, ...]
    test: Condition | None = None
    size: int = _MANY
    first: int = 0
    last: int = _MANY

    @property
    def names(self) -> list[str]:
        """Of the tags, the namespace or the format."""
        return [posting.equal.values[1] for posting in self.postings]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a list is read; made by `list_plan`, good for the pages of one request.

    `windowed`: many entries may have to be looked up and passed over, so that steps are bounded by their window.
    """

    way: Way
    postings: tuple[Posting, ...] = ()
    tests: tuple[Condition, ...] = ()
    low: Position = _END
    high: Position = START
    match: str = ""
    windowed: bool = False


# Which way


async def list_plan(conn: aiosqlite.Connection, wanted: Wanted) -> Plan:
    """Choose how to read a list; looks at a few counts where there is a choice."""
    low = (wanted.since_ms, 0) if wanted.since_ms is not None else _END
    high = (wanted.until_ms, 0) if wanted.until_ms is not None else START
    match = text_match(wanted, owner=not await _alone(conn, wanted)) if wanted.words else ""
    filters = _filters(wanted)
    account = Filter("account", (_account_posting(wanted),), Condition(_WITHIN, (low[0], high[0])))
    if wanted.ids:
        ids = Filter("ids", (_ids_posting(wanted),))
        return _plan("set", wanted, filters, ids, low=low, high=high, match=match)
    if match and (low, high) != (_END, START):
        filters.append(account)
    if len(filters) > 1 or (match and filters):
        totals = await _totals(conn, wanted)
        filters = [await _sized(conn, totals, each, low, high) for each in filters]
    rarest = min(filters, key=lambda each: each.size, default=account)
    if rarest.size == 0:
        return Plan(way="nothing")
    if not match:
        return _plan("scan", wanted, filters, rarest, low=low, high=high)
    if rarest.size <= _SMALL:
        return _plan("set", wanted, filters, rarest, low=low, high=high, match=match)
    common = [tag for each in filters if each.kind == "tags" and each.size > _COUNTED for tag in each.names]
    match += f" AND {fitting}" if (fitting := _tags_match(wanted, common)) else ""
    low = (0, max((each.first for each in filters), default=0))
    high = (0, min((each.last for each in filters), default=_MANY))
    return _plan("text", wanted, [_looked_up(each) for each in filters], None, low=low, high=high, match=match)


def _plan(
    way: Way,
    wanted: Wanted,
    filters: Sequence[Filter],
    walked: Filter | None,
    *,
    low: Position,
    high: Position,
    match: str = "",
) -> Plan:
    """Return the plan that walks one filter, if any, and tests the others."""
    tests = [each.test for each in filters if each is not walked and each.test is not None]
    if wanted.key is not None:
        tests.append(Condition("i.key = ?", (wanted.key,)))
    postings = walked.postings if walked else ()
    # A look into a list costs next to nothing, and the pictures of a time lie together.
    costly = way == "scan" or any(each.size > _COUNTED for each in filters if each.kind != "account")
    windowed = way in ("scan", "text") and bool(tests) and (costly or wanted.key is not None)
    return Plan(way=way, postings=postings, tests=tuple(tests), low=low, high=high, match=match, windowed=windowed)


def _filters(wanted: Wanted) -> list[Filter]:
    """Return the filters that have postings of their own: each tag (all) or the tags (any), namespace, format."""
    groups = [(tag,) for tag in wanted.tags] if wanted.tag_mode == "all" else [wanted.tags]
    found = [
        Filter("tags", tuple(_tag_posting(wanted, tag) for tag in group), _tagged(wanted, group))
        for group in groups
        if group
    ]
    if wanted.namespace is not None:
        equal = Condition("i.account = ? AND i.namespace = ?", (wanted.account, wanted.namespace))
        posting = Posting("images i INDEXED BY images_by_namespace", equal)
        found.append(Filter("namespace", (posting,), Condition("i.namespace = ?", (wanted.namespace,))))
    if wanted.format is not None:
        equal = Condition("i.account = ? AND i.format = ?", (wanted.account, wanted.format))
        posting = Posting("images i INDEXED BY images_by_format", equal)
        found.append(Filter("format", (posting,), Condition("i.format = ?", (wanted.format,))))
    return found


def _account_posting(wanted: Wanted) -> Posting:
    return Posting("images i INDEXED BY images_by_account", Condition("i.account = ?", (wanted.account,)))


def _ids_posting(wanted: Wanted) -> Posting:
    equal = Condition(f"i.id IN ({_marks(wanted.ids)}) AND i.account = ?", (*wanted.ids, wanted.account))
    return Posting("images i INDEXED BY sqlite_autoindex_images_1", equal)


def _tag_posting(wanted: Wanted, tag: str) -> Posting:
    # The primary key, by the name that SQLite gives it.
    equal = Condition("t.account = ? AND t.tag = ?", (wanted.account, tag))
    return Posting("image_tags t INDEXED BY sqlite_autoindex_image_tags_1", equal, "t")


def _tagged(wanted: Wanted, tags: Sequence[str]) -> Condition:
    # By picture, not by tag: all tags of neighbouring pictures lie on one page of this index.
    sql = (
        "EXISTS (SELECT 1 FROM image_tags o INDEXED BY image_tags_by_image "
        f"WHERE o.image = {{seq}} AND o.account = ? AND o.tag IN ({_marks(tags)}))"
    )
    return Condition(sql, (wanted.account, *tags), by_number=True)


def _looked_up(each: Filter) -> Filter:
    """Return a filter whose test, if it is rare, is a look into a list of numbers instead of into each picture."""
    if each.kind == "account" or each.size > _COUNTED:
        return each
    lists = [f"SELECT {posting.seq} FROM {posting.table} WHERE {posting.equal.sql}" for posting in each.postings]
    values = tuple(value for posting in each.postings for value in posting.equal.values)
    # The plus sign keeps the planner from asking the full-text index for each number of the list.
    test = Condition(f"+{{seq}} IN ({' UNION ALL '.join(lists)})", values, by_number=True)
    return msgspec.structs.replace(each, test=test)


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


async def _totals(conn: aiosqlite.Connection, wanted: Wanted) -> dict[tuple[str, str], int]:
    """Return how many pictures the tags and the namespace have, by kind and name; none are left out."""
    names = wanted.tags or ("",)  # an empty list would be planned as a walk through all
    rows = await conn.execute_fetchall(
        f"SELECT 'tags', name, images FROM tag_totals WHERE account = ? AND name IN ({_marks(names)}) "
        "UNION ALL SELECT 'namespace', name, images FROM namespace_totals WHERE account = ? AND name = ?",
        (wanted.account, *names, wanted.account, wanted.namespace),
    )
    return {(kind, name): images for kind, name, images in rows}


async def _sized(
    conn: aiosqlite.Connection,
    totals: Mapping[tuple[str, str], int],
    each: Filter,
    low: Position,
    high: Position,
) -> Filter:
    """Return a filter with its size: the kept total if that is large, else what is counted up to a limit."""
    if each.kind in ("tags", "namespace"):
        size = sum(totals.get((each.kind, name), 0) for name in each.names)
        if size > _COUNTED:
            return msgspec.structs.replace(each, size=size)
    spans = [await _span(conn, posting, low, high) for posting in each.postings]
    size = sum(count for count, _, _ in spans)
    if size > _COUNTED:
        first, last = await _loose_span(conn, each.postings[0], low, high) if each.kind == "account" else (0, _MANY)
        return msgspec.structs.replace(each, first=first, last=last)
    first, last = min(first for _, first, _ in spans), max(last for _, _, last in spans)
    return msgspec.structs.replace(each, size=size, first=first, last=last)


async def _span(conn: aiosqlite.Connection, posting: Posting, low: Position, high: Position) -> tuple[int, int, int]:
    """Return how many entries lie between two positions, counted up to a limit, and the span of their numbers."""
    where, values = posting.between(low, high)
    rows = await conn.execute_fetchall(
        f"SELECT count(*), min(n), max(n) FROM (SELECT {posting.seq} AS n FROM {posting.table} WHERE {where} LIMIT ?)",
        (*values, _COUNTED + 1),
    )
    count, first, last = next(iter(rows))
    return count, first or 0, (last or 0) + 1


async def _loose_span(conn: aiosqlite.Connection, posting: Posting, low: Position, high: Position) -> tuple[int, int]:
    """Return between which numbers the pictures of a time are, judged by those of a day before and a day after.

    Times and numbers rise together but for what a wrong clock did. Looking at all numbers of a long time would cost
    more than the search itself, so pictures whose time was wrong by more than a day may be missed here. Of the others
    none are, unless there is no picture of a right time among a hundred neighbours.
    """
    ends = []
    for function, start, end, order in (
        ("min", _END, (low[0] - CLOCK_SLACK_MS, 0), posting.order),
        ("max", (high[0] + CLOCK_SLACK_MS, 0), START, posting.order.replace(" DESC", "")),
    ):
        where, values = posting.between(start, end)
        nearest = f"SELECT {posting.seq} AS n FROM {posting.table} WHERE {where} {order} LIMIT 100"
        (row,) = await conn.execute_fetchall(f"SELECT {function}(n) FROM ({nearest})", values)
        ends.append(row[0])
    first, last = ends
    return first or 0, last or _MANY


async def narrowed(conn: aiosqlite.Connection, wanted: Wanted, plan: Plan) -> Plan:
    """Return a better plan after a window was too small for a page of pictures with all of several tags.

    Tags that are common but hardly ever together: the full-text index knows faster than a walk which pictures have
    the words of all, and where these are few, the list is among them. In other cases the plan stays.
    """
    together = plan.way == "scan" and wanted.tag_mode == "all" and len(wanted.tags) > 1
    match = _tags_match(wanted, wanted.tags) if together else ""
    if not match:
        return plan
    if not await _alone(conn, wanted):
        match = f"{_owner(wanted)} AND {match}"
    rows = await conn.execute_fetchall(
        "SELECT rowid FROM images_text WHERE images_text MATCH ? LIMIT ?",
        (match, _NARROW + 1),
    )
    seqs = [row[0] for row in rows]
    if len(seqs) > _NARROW:
        return plan
    if not seqs:
        return Plan(way="nothing")
    few = Filter("ids", (Posting(_NUMBERED, Condition("i.account = ?", (json.dumps(seqs), wanted.account))),))
    return _plan("set", wanted, _filters(wanted), few, low=plan.low, high=plan.high)


# Reading


async def images_step(
    conn: aiosqlite.Connection, wanted: Wanted, plan: Plan, after: Position, limit: int, window: int
) -> Step:
    """Return up to `limit` pictures that come after a position in the list.

    A windowed plan passes over at most about `window` entries (of each tag) and says where to resume if that did not
    suffice; other plans find what there is in one step, unless pictures vanish while they are read.
    """
    if plan.way == "scan":
        return await _scan(conn, wanted, plan, after, limit, window)
    if plan.way == "text":
        return await _text(conn, wanted, plan, after, limit, window)
    if plan.way == "set":
        return await _set(conn, wanted, plan, after, limit)
    return Step([], None)


async def _scan(
    conn: aiosqlite.Connection, wanted: Wanted, plan: Plan, after: Position, limit: int, window: int
) -> Step:
    high = min(plan.high, after)
    # The edge comes first and from the index alone: wherever the rows change meanwhile, it parts the list in two.
    edges = [await _edge(conn, each, plan.low, high, window) for each in plan.postings if plan.windowed]
    edge = max((found for found in edges if found is not None), default=None)
    parts, values = [], []
    for posting in plan.postings:
        sql, its = _select(wanted, plan, posting, edge or plan.low, high)
        parts.append(f"{sql} {posting.order} LIMIT ?")
        values += [*its, limit]
    sql = parts[0] if len(parts) == 1 else " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)
    rows = await conn.execute_fetchall(sql, values)
    found = sorted({(row[0], row[1]) for row in rows}, reverse=True)
    return await _fetched(conn, wanted, found[:limit], edge, limit)


async def _edge(
    conn: aiosqlite.Connection, posting: Posting, low: Position, high: Position, window: int
) -> Position | None:
    """Return the position of the last entry of a window; None if the window holds all there are."""
    where, values = posting.between(low, high)
    rows = await conn.execute_fetchall(
        f"SELECT {posting.created}, {posting.seq} FROM {posting.table} WHERE {where} {posting.order} LIMIT 1 OFFSET ?",
        (*values, window - 1),
    )
    return next(((row[0], row[1]) for row in rows), None)


def _select(wanted: Wanted, plan: Plan, posting: Posting, low: Position, high: Position) -> tuple[str, list[Any]]:
    """Return the statement, without order and limit, for the positions of a posting that pass the plan's tests."""
    where, values = posting.between(low, high)
    passed, its = _passed(plan.tests, wanted, posting.seq, joined=posting.alias == "i")
    return f"SELECT {posting.created}, {posting.seq} FROM {posting.table} WHERE {where} AND {passed}", [*values, *its]


def _passed(tests: Sequence[Condition], wanted: Wanted, seq: str, *, joined: bool) -> tuple[str, list[Any]]:
    """Return the condition that a picture lives and passes all tests; its row is `joined`, or is looked up by number.

    Never by a join: where the planner believes, from statistics or for want of them, that few get so far, it holds
    any way of finding a row for equally good and may walk through the table.
    """
    numbers = [test for test in tests if test.by_number]
    rows = [Condition("i.account = ?", (wanted.account,)), *(test for test in tests if not test.by_number)]
    rows.append(Condition(_ALIVE, (wanted.now_ms,)))
    sql = " AND ".join(test.sql for test in rows)
    if not joined:
        sql = f"EXISTS (SELECT 1 FROM images i NOT INDEXED WHERE i.seq = {seq} AND {sql})"
    sql = " AND ".join([*(test.sql.format(seq=seq) for test in numbers), sql])
    return sql, [value for test in [*numbers, *rows] for value in test.values]


async def _fetched(
    conn: aiosqlite.Connection, wanted: Wanted, found: Sequence[Position], edge: Position | None, limit: int
) -> Step:
    """Return the pictures at positions that were found a moment ago; they may be fewer now."""
    rows = await conn.execute_fetchall(
        f"SELECT i.created_ms, i.seq, {IMAGE_COLUMNS} FROM {_NUMBERED} "
        f"CROSS JOIN blobs b NOT INDEXED ON b.seq IN (i.blob) WHERE {_ALIVE}",
        (json.dumps([seq for _, seq in found]), wanted.now_ms),
    )
    placed = [Placed((row[0], row[1]), image_of(tuple(row)[2:])) for row in rows]
    if len(placed) == limit:
        return Step(placed, None)
    return Step(placed, found[-1] if len(found) == limit else edge)


async def _text(
    conn: aiosqlite.Connection, wanted: Wanted, plan: Plan, after: Position, limit: int, window: int
) -> Step:
    found = (
        "SELECT rowid FROM images_text WHERE images_text MATCH ? AND images_text.rowid >= ? AND images_text.rowid < ?"
    )
    low, high = plan.low[1], min(plan.high[1], after[1])
    edge: int | None = None
    if plan.windowed:
        rows = await conn.execute_fetchall(
            f"{found} ORDER BY rowid DESC LIMIT 1 OFFSET ?", (plan.match, low, high, window - 1)
        )
        edge = next((row[0] for row in rows), None)
    passed, its = _passed(plan.tests, wanted, "images_text.rowid", joined=False)
    rows = await conn.execute_fetchall(
        f"{found} AND {passed} ORDER BY rowid DESC LIMIT ?", (plan.match, edge or low, high, *its, limit)
    )
    return await _fetched(conn, wanted, [(0, row[0]) for row in rows], None if edge is None else (0, edge), limit)


async def _set(conn: aiosqlite.Connection, wanted: Wanted, plan: Plan, after: Position, limit: int) -> Step:
    found: set[Position] = set()
    for posting in plan.postings:
        sql, values = _select(wanted, plan, posting, plan.low, plan.high)
        found |= {(row[0], row[1]) for row in await conn.execute_fetchall(sql, values)}
    if not plan.match:
        ordered = sorted((each for each in found if each < after), reverse=True)
        return await _fetched(conn, wanted, ordered[:limit], None, limit)
    rows = await conn.execute_fetchall(
        f"SELECT i.seq, i.name, i.description, i.tags FROM {_NUMBERED}",
        (json.dumps([seq for _, seq in found if seq < after[1]]),),
    )
    texts = [tuple(row) for row in rows]
    if not texts:
        return Step([], None)
    # The index's own definition, so that both cut texts into words alike.
    (made,) = await conn.execute_fetchall("SELECT sql FROM sqlite_schema WHERE name = 'images_text'")
    seqs = await asyncio.to_thread(_judge, made[0], plan.match, wanted.account, texts)
    return await _fetched(conn, wanted, [(0, seq) for seq in seqs[:limit]], None, limit)


def _judge(definition: str, match: str, account: int, texts: Iterable[tuple[Any, ...]]) -> list[int]:
    """Return the numbers of those texts that a full-text expression fits, last first."""
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        memory.execute(definition)
        memory.executemany(
            "INSERT INTO images_text (rowid, owner, name, description, tags) VALUES (?1, ?5, ?2, ?3, ?4)",
            ((*text, f"a{account}") for text in texts),
        )
        rows = memory.execute("SELECT rowid FROM images_text WHERE images_text MATCH ? ORDER BY rowid DESC", (match,))
        return [row[0] for row in rows]


# Text


def text_match(wanted: Wanted, *, owner: bool) -> str:
    """Return the full-text expression for the words of a list, restricted to its `owner` if that is wished.

    Each word becomes a quoted phrase, so that nothing in it is an operator, and the last letters may be missing. A
    single letter of an alphabet must stand alone: as a beginning it would be in nearly every text. Words without a
    letter or digit are left out by SQLite; if there are no others, nothing is found.
    """
    phrases = " ".join(_quoted(word) + _open_end(word) for word in wanted.words)
    match = f"{{name description tags}} : ({phrases})"
    return f"{_owner(wanted)} AND {match}" if owner else match


def _owner(wanted: Wanted) -> str:
    return f'owner : "a{wanted.account}"'


async def _alone(conn: aiosqlite.Connection, wanted: Wanted) -> bool:
    """Tell whether nearly all pictures here are this account's.

    Then the index need not be asked for them: a word that is in every text doubles the work, and the few others are
    sorted out by looking at the pictures.
    """
    rows = await conn.execute_fetchall(
        "SELECT 20 * a.images >= 19 * t.value FROM accounts a CROSS JOIN totals t "
        "WHERE a.seq = ? AND t.name = 'images'",
        (wanted.account,),
    )
    return any(row[0] for row in rows)


def _tags_match(wanted: Wanted, tags: Sequence[str]) -> str:
    """Return an expression that all pictures with (any or all of) the tags fit, and few others; empty without one."""
    texts = [json.dumps(tag, ensure_ascii=False)[1:-1] for tag in tags]  # as they stand in `images.tags`
    if not texts or not all(re.search("[a-z0-9]", text) for text in texts):
        return ""  # SQLite would leave out one that is no word, and too little would be found
    joiner = " " if wanted.tag_mode == "all" else " OR "
    return f"tags : ({joiner.join(map(_quoted, texts))})"


def _quoted(text: str) -> str:
    # A NUL would end the expression in the middle of the quotation.
    return '"' + text.replace("\0", " ").replace('"', '""') + '"'


def _open_end(word: str) -> str:
    last = re.findall(r"[^\W_]+", word)[-1:]
    alone = bool(last) and len(last[0]) == 1 and unicodedata.category(last[0]) != "Lo"
    return "" if alone else " *"


# Neighbours


async def neighbours(conn: aiosqlite.Connection, wanted: Wanted, image_id: str) -> tuple[Image | None, Image | None]:
    """Return the pictures before and after one in the list of its account, or of a namespace: newer and older.

    Of `wanted` only account, namespace and time count.
    """
    rows = await conn.execute_fetchall(
        "SELECT i.created_ms, i.seq FROM images i INDEXED BY sqlite_autoindex_images_1 "
        "WHERE i.id = ? AND i.account = ?",
        (image_id, wanted.account),
    )
    for created_ms, seq in rows:
        posting = _filters(wanted)[0].postings[0] if wanted.namespace is not None else _account_posting(wanted)
        newer = await _nearest(conn, wanted, posting, (created_ms, seq + 1), START)
        older = await _nearest(conn, wanted, posting, _END, (created_ms, seq))
        return newer, older
    return None, None


async def _nearest(
    conn: aiosqlite.Connection, wanted: Wanted, posting: Posting, low: Position, high: Position
) -> Image | None:
    """Return the living picture at the end of a span that is bounded by a picture: the first above or below it."""
    sql, values = _select(wanted, Plan(way="scan"), posting, low, high)
    order = posting.order if low == _END else posting.order.replace(" DESC", "")
    rows = await conn.execute_fetchall(f"{sql} {order} LIMIT 1", values)
    found = [(row[0], row[1]) for row in rows]
    step = await _fetched(conn, wanted, found, None, 1)
    return next((each.image for each in step.placed), None)


# Namespaces and tags


async def namespaces(conn: aiosqlite.Connection, principal: Principal, now_ms: int) -> list[Listed]:
    """Return the principal's namespaces by name, `MAX_NAMES` at most.

    The kept totals still count pictures that have ended and not been cleared away.
    """
    if principal.own_key_only is None:
        return await _listed(
            conn,
            "SELECT name, images, stored_bytes FROM namespace_totals WHERE account = ? ORDER BY name LIMIT ?",
            (principal.account.seq, MAX_NAMES),
        )
    return await _listed(
        conn,
        "SELECT i.namespace, count(*), sum(i.stored_bytes) FROM images i INDEXED BY images_by_namespace "
        f"WHERE i.account = ? AND i.namespace IS NOT NULL AND i.key = ? AND {_ALIVE} "
        "GROUP BY i.namespace ORDER BY i.namespace LIMIT ?",
        (principal.account.seq, principal.own_key_only, now_ms, MAX_NAMES),
    )


async def tags(conn: aiosqlite.Connection, principal: Principal, now_ms: int) -> list[Listed]:
    """Return the principal's tags by name, `MAX_NAMES` at most; counted as namespaces are."""
    if principal.own_key_only is None:
        return await _listed(
            conn,
            "SELECT name, images, stored_bytes FROM tag_totals WHERE account = ? ORDER BY name LIMIT ?",
            (principal.account.seq, MAX_NAMES),
        )
    return await _listed(
        conn,
        "SELECT t.tag, count(*), sum(t.stored_bytes) FROM image_tags t INDEXED BY sqlite_autoindex_image_tags_1 "
        "WHERE t.account = ? AND EXISTS (SELECT 1 FROM images i NOT INDEXED WHERE i.seq = t.image AND i.key = ? "
        f"AND {_ALIVE}) GROUP BY t.tag ORDER BY t.tag LIMIT ?",
        (principal.account.seq, principal.own_key_only, now_ms, MAX_NAMES),
    )


async def _listed(conn: aiosqlite.Connection, sql: str, values: tuple[Any, ...]) -> list[Listed]:
    return [Listed(*row) for row in await conn.execute_fetchall(sql, values)]
