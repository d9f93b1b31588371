"""SQL that makes a database whole whose rows came from a journal: what refers to nothing goes, what follows is made.

For a database that nobody else has open, with its triggers taken away. Never called by the server.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator

from imgpro.store import check_rows, journal_tables
from imgpro.store.journal_reading import Named

_DERIVE = (
    "UPDATE accounts SET images = 0, stored_bytes = 0",
    """UPDATE accounts SET images = sums.images, stored_bytes = sums.bytes
    FROM (SELECT account, count(*) AS images, sum(stored_bytes) AS bytes FROM images
          WHERE account IS NOT NULL GROUP BY account) AS sums
    WHERE accounts.seq = sums.account""",
    "DELETE FROM image_tags",
    """INSERT INTO image_tags (account, tag, created_ms, image, stored_bytes)
    SELECT i.account, t.value, i.created_ms, i.seq, i.stored_bytes FROM images i, json_each(i.tags) t
    WHERE i.account IS NOT NULL AND i.tags <> '[]' ORDER BY i.account, t.value, i.created_ms""",
    "DELETE FROM tag_totals",
    """INSERT INTO tag_totals (account, name, images, stored_bytes)
    SELECT account, tag, count(*), sum(stored_bytes) FROM image_tags GROUP BY account, tag""",
    "DELETE FROM namespace_totals",
    """INSERT INTO namespace_totals (account, name, images, stored_bytes)
    SELECT account, namespace, count(*), sum(stored_bytes) FROM images
    WHERE account IS NOT NULL AND namespace IS NOT NULL GROUP BY account, namespace""",
    "DELETE FROM daily_growth",
    """INSERT INTO daily_growth (day, added, added_bytes)
    SELECT created_ms / 86400000, count(*), sum(stored_bytes) FROM blobs GROUP BY created_ms / 86400000""",
    "INSERT INTO images_text (images_text) VALUES ('delete-all')",
    """INSERT INTO images_text (rowid, owner, name, description, tags)
    SELECT seq, 'a' || account, name, description, tags FROM images WHERE account IS NOT NULL""",
)


def derive(conn: sqlite3.Connection) -> None:
    """Make again what the journal leaves out: sums, tags, days, and the words that pictures are found by."""
    for statement in _DERIVE:
        conn.execute(statement)
    for name, sql in check_rows.TOTALS:
        conn.execute(
            f"INSERT INTO totals (name, value) VALUES (?, ({sql})) "  # noqa: S608 - a statement of our own
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name,),
        )


def settle(conn: sqlite3.Connection, dropped: Named) -> None:
    """Take out what refers to rows that are not there: their lines were broken, or their commit never ended.

    A picture outlives its account and its key, and belongs to nobody then. `dropped` is told of every other row.
    """
    for name in journal_tables.shapes(conn):
        references = conn.execute('SELECT "table", "from", "to", on_delete FROM pragma_foreign_key_list(?)', (name,))
        for parent, column, target, on_delete in references.fetchall():
            lonely = f"{column} IS NOT NULL AND {column} NOT IN (SELECT {target} FROM {parent})"  # noqa: S608
            if name == "images" and on_delete != "CASCADE" and parent in ("accounts", "keys"):
                _disown(conn, parent, lonely, dropped)
            else:
                _drop(conn, name, lonely, dropped)
    # Half of an upload that was never acknowledged.
    conn.execute("DELETE FROM blobs WHERE seq NOT IN (SELECT blob FROM images)")


def _disown(conn: sqlite3.Connection, parent: str, lonely: str, dropped: Named) -> None:
    if parent == "keys":
        conn.execute(f"UPDATE images SET key = NULL WHERE {lonely}")  # noqa: S608 - as below
        return
    found = conn.execute(f"SELECT id FROM images WHERE {lonely}").fetchall()  # noqa: S608
    for (image_id,) in found:
        dropped.add(f"the account of picture {image_id}: the picture belongs to nobody now")
    if found and "retention_rules" in journal_tables.shapes(conn):
        # Rules for pictures without an account were never meant for these: the operator looks at them first.
        conn.execute("UPDATE retention_rules SET held_ms = coalesce(held_ms, ?)", (time.time_ns() // 1_000_000,))
    conn.execute(
        "UPDATE images SET account = NULL, key = NULL, namespace = NULL, tags = '[]', "  # noqa: S608
        f"wanted_end_ms = expires_ms WHERE {lonely}"
    )


def _drop(conn: sqlite3.Connection, table: str, lonely: str, dropped: Named) -> None:
    # Names of our own schema; values cannot stand for them.
    label = "'picture ' || id" if table == "images" else f"'a row of {table}'"
    for (words,) in conn.execute(f"SELECT {label} FROM {table} WHERE {lonely}"):  # noqa: S608
        dropped.add(words)
    conn.execute(f"DELETE FROM {table} WHERE {lonely}")  # noqa: S608


@contextlib.contextmanager
def bare(conn: sqlite3.Connection) -> Iterator[None]:
    """Work without triggers and indexes for the length of a `with`; they are made again at its end."""
    found = conn.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE type IN ('trigger', 'index') AND sql IS NOT NULL "
        "AND sql NOT LIKE 'CREATE UNIQUE%' ORDER BY type"
    ).fetchall()
    for kind, name, _ in found:
        conn.execute(f"DROP {kind} {name}")
    yield
    for _, _, sql in found:
        conn.execute(sql)
