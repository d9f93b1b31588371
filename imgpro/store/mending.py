"""SQL that puts right what a check has found wrong in the database. Never deletes a picture.

The rules of `queries` hold here: each function runs in the writer, and works out anew what is right in its own
transaction.
"""

import contextlib
import json
import sqlite3
import time
from typing import Any, Final

from imgpro.store import check_rows
from imgpro.store.check_rows import DEPENDENT
from imgpro.store.doubts import Doubt, Mend

_DAY_MS: Final = 86_400_000


def mend(conn: sqlite3.Connection, doubt: Doubt) -> str:
    """Put one thing right whose mend is in `WORK`, and return what was done; nothing where that did not help."""
    done: str = WORK[doubt.mend](conn, *doubt.subject)
    return done


def _reindex(conn: sqlite3.Connection) -> str:
    conn.execute("REINDEX")
    return "the indexes were made anew" if conn.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",) else ""


def _object(conn: sqlite3.Connection, sql: str) -> str:
    conn.execute(sql)
    return "it was made again"


def _rows(conn: sqlite3.Connection, table: str, parent: str, link: int) -> str:
    if table not in DEPENDENT:
        return ""
    pairs = [(row[3], row[4]) for row in conn.execute(f"PRAGMA foreign_key_list({table})") if row[0] == link]
    (column, target) = pairs[0]
    with _sums_let_be(conn):
        # Names of our own schema; a value cannot stand for them.
        conn.execute(f"DELETE FROM {table} WHERE {column} NOT IN (SELECT {target} FROM {parent})")  # noqa: S608
    return "the rows were deleted"


def _blob_row(conn: sqlite3.Connection, digest: str) -> str:
    value = bytes.fromhex(digest)
    conn.execute(
        "DELETE FROM blobs WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM images i WHERE i.blob = blobs.seq)", (value,)
    )
    conn.execute("DELETE FROM damaged_blobs WHERE digest = ?", (value,))
    return "the row was deleted, and its bytes"


def _tags(conn: sqlite3.Connection, seq: int) -> str:
    """Make the rows of a picture's tags anew; triggers change the sums of these tags, which are counted again later."""
    touched = {(row[0], row[1]) for row in conn.execute("SELECT account, tag FROM image_tags WHERE image = ?", (seq,))}
    found = conn.execute(
        "SELECT account, tags, created_ms, stored_bytes FROM images WHERE seq = ? AND account IS NOT NULL", (seq,)
    ).fetchone()
    wanted = [(found[0], tag, found[2], seq, found[3]) for tag in json.loads(found[1])] if found else []
    # A sum that was wrong before could fall below nothing on the way.
    with _sums_let_be(conn):
        conn.execute("DELETE FROM image_tags WHERE image = ?", (seq,))
        conn.executemany(
            "INSERT INTO image_tags (account, tag, created_ms, image, stored_bytes) VALUES (?, ?, ?, ?, ?)", wanted
        )
    for account, name in touched | {(row[0], row[1]) for row in wanted}:
        _tag(conn, account, name)
    return "it is found by its tags again"


@contextlib.contextmanager
def _sums_let_be(conn: sqlite3.Connection) -> Any:
    names = ("tags_added", "tags_removed")
    found = conn.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND name IN (?, ?)", names
    ).fetchall()
    for name, _ in found:
        conn.execute(f"DROP TRIGGER {name}")
    yield
    for _, sql in found:
        conn.execute(sql)


def _totals(conn: sqlite3.Connection, name: str) -> str:
    (true,) = conn.execute(dict(check_rows.TOTALS)[name]).fetchone()
    conn.execute(
        "INSERT INTO totals (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, true),
    )
    return _COUNTED


def _account(conn: sqlite3.Connection, seq: int, _: str) -> str:
    conn.execute(
        "UPDATE accounts SET (images, stored_bytes) = "
        "(SELECT count(*), coalesce(sum(stored_bytes), 0) FROM images WHERE account = ?1) WHERE seq = ?1",
        (seq,),
    )
    return _COUNTED


def _namespace(conn: sqlite3.Connection, account: int, name: str) -> str:
    conn.execute("DELETE FROM namespace_totals WHERE account = ? AND name = ?", (account, name))
    conn.execute(
        "INSERT INTO namespace_totals (account, name, images, stored_bytes) "
        "SELECT ?1, ?2, count(*), sum(stored_bytes) FROM images WHERE account = ?1 AND namespace = ?2 HAVING count(*)",
        (account, name),
    )
    return _COUNTED


def _tag(conn: sqlite3.Connection, account: int, name: str) -> str:
    conn.execute("DELETE FROM tag_totals WHERE account = ? AND name = ?", (account, name))
    conn.execute(
        "INSERT INTO tag_totals (account, name, images, stored_bytes) "
        "SELECT ?1, ?2, count(*), sum(stored_bytes) FROM image_tags WHERE account = ?1 AND tag = ?2 HAVING count(*)",
        (account, name),
    )
    return _COUNTED


def _growth(conn: sqlite3.Connection) -> str:
    """Let the difference have come, or gone, today: nobody knows any more when it was."""
    added, removed = conn.execute("SELECT sum(added_bytes), sum(removed_bytes) FROM daily_growth").fetchone()
    (there,) = conn.execute("SELECT coalesce(sum(stored_bytes), 0) FROM blobs").fetchone()
    excess = (added or 0) - (removed or 0) - there
    conn.execute(
        "INSERT INTO daily_growth (day, added_bytes, removed_bytes) VALUES (?1, ?2, ?3) ON CONFLICT (day) DO UPDATE "
        "SET added_bytes = added_bytes + ?2, removed_bytes = removed_bytes + ?3",
        (int(time.time() * 1000) // _DAY_MS, max(0, -excess), max(0, excess)),
    )
    return "the difference is counted as of today"


def _unfindable(conn: sqlite3.Connection, seq: int) -> str:
    conn.execute(
        "INSERT INTO images_text (rowid, owner, name, description, tags) "
        "SELECT seq, 'a' || account, name, description, tags FROM images "
        "WHERE seq = ? AND account IS NOT NULL AND seq NOT IN (SELECT id FROM images_text_docsize WHERE id = seq)",
        (seq,),
    )
    return "it is found again"


def _text(conn: sqlite3.Connection) -> str:
    """Make the whole index anew. In one transaction: a picture that is changed meanwhile would find no words to take
    out of it."""
    conn.execute("INSERT INTO images_text (images_text) VALUES ('delete-all')")
    conn.execute(
        "INSERT INTO images_text (rowid, owner, name, description, tags) "
        "SELECT seq, 'a' || account, name, description, tags FROM images WHERE account IS NOT NULL"
    )
    return "the index was made anew"


_COUNTED: Final = "it was counted again"
WORK: Final[dict[Mend, Any]] = {
    "reindex": _reindex,
    "object": _object,
    "rows": _rows,
    "blob_row": _blob_row,
    "tags": _tags,
    "totals": _totals,
    "account": _account,
    "namespace": _namespace,
    "tag": _tag,
    "growth": _growth,
    "unfindable": _unfindable,
    "text": _text,
}
