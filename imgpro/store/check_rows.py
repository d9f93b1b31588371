"""Whether the database agrees with itself: its pages, its schema, its references, and the sums that are kept.

Everything here blocks and belongs into a thread. Each look is one moment of the database, whatever is written
meanwhile; sums are walked along an index, so that memory does not grow with the rows.
"""

import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any, Final

import msgspec

from imgpro.store import schema
from imgpro.store.doubts import Doubt, Looked, Mend

PAGE: Final = 2_000
_as_tags: Final = msgspec.json.Decoder(list[str]).decode
FOREIGN: Final = "take it back if you made it; else report this"
MOST_LINES: Final = 100  # of what SQLite finds in its own pages
# Rows that are of no use without what they refer to. Pictures, blobs and accounts are not among them.
DEPENDENT: Final = frozenset(
    {
        "brought_in",
        "image_tags",
        "links",
        "mail",
        "monthly_uploads",
        "old_links",
        "retention_rules",
        "sessions",
        "upgrade_requests",
    }
)
TOTALS: Final = (
    ("images", "SELECT count(*) FROM images"),
    ("blobs", "SELECT count(*) FROM blobs"),
    ("blob_bytes", "SELECT coalesce(sum(stored_bytes), 0) FROM blobs"),
    ("anonymous_bytes", "SELECT coalesce(sum(stored_bytes), 0) FROM images WHERE network IS NOT NULL"),
)
# (kind, mend, what is kept, what is true), both in the same order and equal row by row.
_SUMS: Final[tuple[tuple[str, Mend, str, str], ...]] = (
    (
        "account",
        "account",
        "SELECT seq, '', images, stored_bytes FROM accounts WHERE images > 0 OR stored_bytes > 0 ORDER BY seq",
        """SELECT account, '', count(*), sum(stored_bytes) FROM images INDEXED BY images_by_account
        WHERE account IS NOT NULL GROUP BY account ORDER BY account""",
    ),
    (
        "namespace",
        "namespace",
        "SELECT account, name, images, stored_bytes FROM namespace_totals ORDER BY account, name",
        """SELECT account, namespace, count(*), sum(stored_bytes) FROM images INDEXED BY images_by_namespace
        WHERE account IS NOT NULL AND namespace IS NOT NULL GROUP BY account, namespace ORDER BY account, namespace""",
    ),
    (
        "tag",
        "tag",
        "SELECT account, name, images, stored_bytes FROM tag_totals ORDER BY account, name",
        "SELECT account, tag, count(*), sum(stored_bytes) FROM image_tags GROUP BY account, tag ORDER BY account, tag",
    ),
)


def pages(conn: sqlite3.Connection, *, deep: bool) -> Looked:
    """Have SQLite look at its own pages, with `deep` also whether each index holds what its table does."""
    check = "integrity_check" if deep else "quick_check"
    for (line,) in conn.execute(f"PRAGMA {check}({MOST_LINES})"):
        if line != "ok":
            mend: Mend = "reindex" if "index" in line else ""
            yield Doubt("database", "imgpro.db", f"SQLite says: {line}", mend)
    yield 1


def objects(conn: sqlite3.Connection) -> Looked:
    """Compare tables, indexes and triggers with those that this program makes."""
    wanted, found = _objects(reference()), _objects(conn)
    for key in sorted(wanted.keys() | found.keys()):
        kind, name = key
        if key not in found:
            mend: Mend = "object" if kind in ("index", "trigger") else ""
            yield Doubt("database", f"{kind} {name}", "is missing", mend, (wanted[key],))
        elif key not in wanted:
            yield Doubt("database", f"{kind} {name}", "is none of imgpro's", todo=FOREIGN)
        elif wanted[key] != found[key]:
            yield Doubt("database", f"{kind} {name}", "is another one than imgpro makes", todo=FOREIGN)
    yield 1


def reference() -> sqlite3.Connection:
    """Return an empty database in memory as this program makes it."""
    conn = sqlite3.connect(":memory:", isolation_level=None)
    schema.apply(conn, schema.packaged_migrations())
    return conn


def _objects(conn: sqlite3.Connection) -> dict[tuple[str, str], str]:
    rows = conn.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    return {(row[0], row[1]): row[2] for row in rows if not row[1].startswith("images_text_")}


def references(conn: sqlite3.Connection) -> Looked:
    """Find rows that refer to rows that are not there, and blobs that no picture refers to."""
    counted = Counter((row[0], row[2], row[3]) for row in conn.execute("PRAGMA foreign_key_check"))
    for (table, parent, link), count in counted.items():
        mend: Mend = "rows" if table in DEPENDENT else ""
        words = f"refers to rows of {parent} that are not there, {f'{count:,} times' if count > 1 else 'once'}"
        yield Doubt("database", table, words, mend, (table, parent, link))
    unused = "SELECT digest FROM blobs b WHERE NOT EXISTS (SELECT 1 FROM images i WHERE i.blob = b.seq)"
    for (digest,) in conn.execute(unused):
        yield Doubt("database", f"blobs row {digest.hex()}", "belongs to no picture", "blob_row", (digest.hex(),))
    differing = (
        "SELECT i.id FROM images i JOIN blobs b ON b.seq = i.blob "
        "WHERE i.format <> b.format OR i.stored_bytes <> b.stored_bytes"
    )
    for (image_id,) in conn.execute(differing):
        yield Doubt("database", f"picture {image_id}", "says other things of its bytes than their own row")
    yield 1


def tags(conn: sqlite3.Connection) -> Looked:
    """Compare the tags of each picture with the rows that pictures are found by."""
    conn.execute("BEGIN")
    try:
        pictures = _grouped_pictures(conn)
        for seq, (wanted, rows) in _merged(pictures, _grouped_tags(conn)):
            if wanted is None or rows is None or len(wanted) != len(rows) or set(wanted) != set(rows):
                yield Doubt("tags", f"picture {seq}", "is found by other tags than it has", "tags", (seq,))
    finally:
        conn.execute("ROLLBACK")
    yield 1


def _grouped_pictures(conn: sqlite3.Connection) -> Iterator[tuple[int, list[Any]]]:
    rows = conn.execute(
        "SELECT seq, account, tags, created_ms, stored_bytes FROM images WHERE tags <> '[]' ORDER BY seq"
    )
    for seq, account, text, created_ms, size in rows:
        yield seq, [(account, tag, created_ms, size) for tag in _tags_of(text)]


def _tags_of(text: str) -> list[str]:
    try:
        return _as_tags(text)
    except msgspec.MsgspecError:
        return []


def _grouped_tags(conn: sqlite3.Connection) -> Iterator[tuple[int, list[Any]]]:
    rows = conn.execute(
        "SELECT image, account, tag, created_ms, stored_bytes FROM image_tags INDEXED BY image_tags_by_image "
        "ORDER BY image"
    )
    for image, group in itertools.groupby(rows, key=itemgetter(0)):
        yield image, [row[1:] for row in group]


def _merged(left: Iterable[tuple[Any, Any]], right: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, tuple[Any, Any]]]:
    """Yield (key, (value of the left, that of the right)) of two streams in the order of their keys; None: no value."""
    lefts, rights = iter(left), iter(right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield one[0], (one[1], None)
            one = next(lefts, None)
        elif one is None or other[0] < one[0]:
            yield other[0], (None, other[1])
            other = next(rights, None)
        else:
            yield one[0], (one[1], other[1])
            one, other = next(lefts, None), next(rights, None)


def sums(conn: sqlite3.Connection) -> Looked:
    """Compare every sum that is kept with what it is the sum of."""
    conn.execute("BEGIN")
    try:
        kept = dict(conn.execute("SELECT name, value FROM totals").fetchall())
        for name, sql in TOTALS:
            (true,) = conn.execute(sql).fetchone()
            if kept.get(name) != true:
                yield Doubt("totals", name, f"says {kept.get(name)}, but it is {true}", "totals", (name,))
        for kind, mend, kept_sql, true_sql in _SUMS:
            for key, (said, true) in _merged(_pairs(conn, kept_sql), _pairs(conn, true_sql)):
                if said != true:
                    yield Doubt("totals", _named(kind, key), f"{_said(said)}, but it has {_said(true)}", mend, key)
        yield from _growth(conn)
    finally:
        conn.execute("ROLLBACK")
    yield 1


def _pairs(conn: sqlite3.Connection, sql: str) -> Iterator[tuple[Any, Any]]:
    for account, name, images, size in conn.execute(sql):
        yield (account, name), (images, size)


def _named(kind: str, key: tuple[int, str]) -> str:
    return f"account {key[0]}" if kind == "account" else f"{kind} {key[1]} of account {key[0]}"


def _said(pair: tuple[int, int] | None) -> str:
    images, size = pair or (0, 0)
    return f"{images:,} pictures with {size:,} bytes"


def _growth(conn: sqlite3.Connection) -> Iterator[Doubt]:
    """What came less what went is what is there; and of no day less came than is there of it still."""
    added, removed = conn.execute("SELECT sum(added_bytes), sum(removed_bytes) FROM daily_growth").fetchone()
    (there,) = conn.execute("SELECT coalesce(sum(stored_bytes), 0) FROM blobs").fetchone()
    if (added or 0) - (removed or 0) != there:
        words = f"says that {(added or 0) - (removed or 0):,} bytes have come and not gone, but there are {there:,}"
        yield Doubt("totals", "daily_growth", words, "growth")
