"""Whether the full-text index holds the words of the pictures, and of nothing else.

The index keeps no text, and SQLite cannot compare what it does not have: words are made anew from the pictures, a part
at a time, in an index in memory. Everything here blocks and belongs into a thread.
"""

import array
import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

from imgpro.store.doubts import Doubt, Looked

_PART: Final = 5_000  # pictures whose words are made at a time
_TICK: Final = 100_000
_MASK: Final = (1 << 64) - 1
_INSTANCES: Final = "SELECT doc, col, offset, term FROM temp.images_words"


def documents(conn: sqlite3.Connection) -> Looked:
    """Find pictures that the index does not know, and what it knows of pictures that are not there."""
    missing = (
        "SELECT i.seq, i.id FROM images i LEFT JOIN images_text_docsize d ON d.id = i.seq "
        "WHERE i.account IS NOT NULL AND d.id IS NULL"
    )
    for seq, image_id in conn.execute(missing):
        yield Doubt("search", f"picture {image_id}", "is not found by its words", "unfindable", (seq,))
    foreign = (
        "SELECT count(*) FROM images_text_docsize d LEFT JOIN images i ON i.seq = d.id "
        "WHERE i.seq IS NULL OR i.account IS NULL"
    )
    (count,) = conn.execute(foreign).fetchone()
    if count:
        yield Doubt("search", "search index", f"holds words of pictures that are not there: {count:,}", "text")
    yield 1


def words(conn: sqlite3.Connection) -> Looked:
    """Compare all words of the index with those of the pictures: each picture's words are added up to one number.

    Takes eight bytes of memory for each picture that there ever was.
    """
    conn.execute("PRAGMA query_only = OFF")  # it counts for what is temporary, too; the file itself is open for reading
    conn.execute("BEGIN")
    try:
        conn.execute("CREATE VIRTUAL TABLE temp.images_words USING fts5vocab(main, images_text, instance)")
        (last,) = conn.execute("SELECT coalesce(max(seq), 0) FROM images").fetchone()
        sums = array.array("Q", bytes(8 * (last + 1)))
        foreign = 0
        for number, (doc, value) in enumerate(_words(conn.execute(_INSTANCES))):
            if 0 < doc <= last:
                sums[doc] = (sums[doc] + value) & _MASK
            else:
                foreign = 1
            if number % _TICK == 0:
                yield 0
        for part in _parts(conn):
            for doc, value in part:
                sums[doc] = (sums[doc] - value) & _MASK
            yield 0
        wrong = foreign + sum(1 for value in sums if value)
        if wrong:
            yield Doubt("search", "search index", f"holds other words than the pictures have, of {wrong:,}", "text")
    finally:
        conn.execute("ROLLBACK")
        conn.execute("DROP TABLE IF EXISTS temp.images_words")
    yield 1


def _words(rows: Iterable[tuple[int, str, int, str]]) -> Iterator[tuple[int, int]]:
    """Yield the picture of each word, and a number for word, column and place."""
    for doc, column, offset, term in rows:
        yield doc, hash((column, offset, term)) & _MASK


def _parts(conn: sqlite3.Connection) -> Iterator[Iterator[tuple[int, int]]]:
    """Yield the words that the pictures should have, of some at a time."""
    (made,) = conn.execute("SELECT sql FROM sqlite_schema WHERE name = 'images_text'").fetchone()
    texts = conn.execute(
        "SELECT seq, 'a' || account, name, description, tags FROM images WHERE account IS NOT NULL ORDER BY seq"
    )
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        fresh.execute(made)
        fresh.execute("CREATE VIRTUAL TABLE temp.images_words USING fts5vocab(main, images_text, instance)")
        while part := texts.fetchmany(_PART):
            fresh.execute("BEGIN")
            fresh.executemany(
                "INSERT INTO images_text (rowid, owner, name, description, tags) VALUES (?, ?, ?, ?, ?)", part
            )
            fresh.execute("COMMIT")
            yield _words(fresh.execute(_INSTANCES))
            fresh.execute("INSERT INTO images_text (images_text) VALUES ('delete-all')")
