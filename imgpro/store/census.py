"""Numbers about a data directory for whoever helps its operator: sizes and counts, nothing of what is in it.

Reads only, and stops where reading would take long.
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Final

from imgpro.store import durable, peek, queries_keeping, room
from imgpro.store.queries_keeping import Run

CHECKED_BYTES: Final = 512 * 1024 * 1024  # a larger database is not read from end to end
_MOST_NAMES: Final = 5_000
_NAMES: Final = (
    "SELECT name FROM images ORDER BY seq DESC LIMIT ?",
    "SELECT description FROM images ORDER BY seq DESC LIMIT ?",
    "SELECT name FROM tag_totals LIMIT ?",
    "SELECT name FROM namespace_totals LIMIT ?",
    "SELECT name FROM keys ORDER BY seq DESC LIMIT ?",
    "SELECT email FROM accounts ORDER BY seq DESC LIMIT ?",
    "SELECT id FROM images ORDER BY seq DESC LIMIT ?",
    "SELECT id FROM accounts ORDER BY seq DESC LIMIT ?",
)


def database(path: Path) -> dict[str, Any]:
    """Return the schema, sizes and totals of a database, and whether it is sound. Raises OSError."""
    try:
        return _database(path)
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


def _database(path: Path) -> dict[str, Any]:
    size = room.database_bytes(path)
    with peek.looking(path) as conn:
        found: dict[str, Any] = {
            "bytes": size,
            "schema": _one(conn, "PRAGMA user_version"),
            "written_by": _one(conn, "SELECT value FROM meta WHERE key = 'app_version_last'"),
            "pages": _one(conn, "PRAGMA page_count"),
            "free_pages": _one(conn, "PRAGMA freelist_count"),
            "totals": dict(conn.execute("SELECT name, value FROM totals").fetchall()),
            "accounts": _one(conn, "SELECT count(*) FROM (SELECT 1 FROM accounts LIMIT 100001)"),
            "mail_waiting": _one(conn, "SELECT count(*) FROM (SELECT 1 FROM mail LIMIT 100001)"),
        }
        sound = (
            [row[0] for row in conn.execute("PRAGMA quick_check(5)")] if size <= CHECKED_BYTES else ["not looked at"]
        )
        found["quick_check"] = [str(line) for line in sound]
    return found


def personal(path: Path) -> set[str]:
    """Return the newest names, words and addresses that people gave, so that they can be kept out of other texts."""
    found: set[str] = set()
    with contextlib.suppress(sqlite3.Error, OSError), peek.looking(path) as conn:
        for query in _NAMES:
            with contextlib.suppress(sqlite3.OperationalError):  # an older schema has no such table
                found |= {str(row[0]) for row in conn.execute(query, (_MOST_NAMES,)) if row[0]}
    return found


def compile_options() -> set[str]:
    """Return how this program's SQLite was built, e.g. `THREADSAFE=1`."""
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        return {str(row[0]) for row in conn.execute("PRAGMA compile_options")}


def schema_of(path: Path) -> int:
    """Return the schema of a database. Raises OSError where it cannot be read as one."""
    try:
        with peek.looking(path) as conn:
            return int(_one(conn, "PRAGMA user_version"))
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


def last_runs(path: Path) -> tuple[dict[str, Run], int, int]:
    """Return the last run of each kind of work, how many originals are damaged, and when the database began (Unix ms).

    Raises OSError, also for a database of a version that knew nothing of them.
    """
    try:
        with peek.looking(path) as conn:
            rows = conn.execute(queries_keeping.LAST_RUNS).fetchall()
            damaged = int(_one(conn, "SELECT count(*) FROM damaged_blobs"))
            began = int(_one(conn, "SELECT value FROM meta WHERE key = 'created_ms'") or 0)
    except (sqlite3.Error, TypeError) as error:
        raise OSError(str(error)) from error
    return queries_keeping.runs_of(rows), damaged, began


def disks(folders: dict[str, Path]) -> dict[str, Any]:
    """Return what is known of the file systems that folders lie on."""
    found: dict[str, Any] = {}
    for name, folder in folders.items():
        if not folder.exists():
            continue
        kind = durable.filesystem_type(folder)
        names = {**durable.LOCAL_FILESYSTEMS, **durable.OTHER_FILESYSTEMS}
        system = room.file_system(folder)
        found[name] = {
            "type": names.get(kind or 0, f"0x{kind or 0:x}"),
            "total_bytes": system.total_bytes,
            "free_bytes": system.free_bytes,
            "free_inodes": system.free_inodes,
        }
    return found


def _one(conn: sqlite3.Connection, query: str) -> Any:
    try:
        row = conn.execute(query).fetchone()
    except sqlite3.OperationalError:
        return None
    return row[0] if row else None
