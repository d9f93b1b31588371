"""Clearing the database's files of what was deleted. Knows how SQLite keeps things, not what they mean.

`secure_delete` overwrites a deleted row where it lies, and still three traces are left: the full-text index keeps words
until its parts are merged, pages keep stale copies of rows that were moved to another page when theirs was full, and
the write-ahead log keeps old pages until it is written over. Each has its function here. All take the writer's
connection: only it may write and fold the log.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

_MERGE_PAGES: Final = 200  # in one step, about 20 ms
_FOLD_PATIENCE_MS: Final = 500  # readers take a moment each
_REWRITE_PATIENCE_MS: Final = 2_000


def begin_merge(conn: sqlite3.Connection) -> None:
    """Have `merge_step` work towards a full-text index of one part; within a transaction."""
    conn.execute("INSERT INTO images_text (images_text, rank) VALUES ('merge', ?)", (-_MERGE_PAGES,))


def merge_step(conn: sqlite3.Connection) -> bool:
    """Go a bounded step on; tell whether there is more to do. Within a transaction."""
    before = conn.total_changes
    conn.execute("INSERT INTO images_text (images_text, rank) VALUES ('merge', ?)", (_MERGE_PAGES,))
    return conn.total_changes - before >= 2


def merge(conn: sqlite3.Connection) -> None:
    """Do all of that on a connection that commits each step, to a copy that nobody else uses."""
    begin_merge(conn)
    while merge_step(conn):
        pass


def rewrite(database: Path) -> None:
    """Write the whole database anew, without stale copies and free pages; between transactions, in the writer's thread.

    Needs twice its size in free room, and as long as copying it takes. Raises sqlite3.Error.
    """
    # A connection of its own: this one may build the copy in a file, the writer has temporary tables in memory.
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as conn:
        conn.execute(f"PRAGMA busy_timeout = {_REWRITE_PATIENCE_MS}")
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("PRAGMA trusted_schema = OFF")
        conn.execute("PRAGMA secure_delete = ON")
        conn.execute("PRAGMA temp_store = FILE")
        conn.execute("VACUUM")


def room_wanted(database: Path) -> int:
    """Return how many bytes `rewrite` needs beside the database: for the log, and for the copy if it goes there too."""
    return 2 * os.stat(database).st_size


def fold(conn: sqlite3.Connection) -> bool:
    """Copy the whole log into the database and empty it; tell whether no reader was in the way. Between transactions.

    Raises sqlite3.Error.
    """
    before = conn.execute("PRAGMA busy_timeout").fetchone()[0]
    conn.execute(f"PRAGMA busy_timeout = {_FOLD_PATIENCE_MS}")
    try:
        return bool(conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
    finally:
        conn.execute(f"PRAGMA busy_timeout = {before}")
