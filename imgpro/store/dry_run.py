"""What a start of this program would do to a database, done to a copy of it. The original is only read."""

import contextlib
import re
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from imgpro.errors import Action, DataUnusable
from imgpro.store import copies, durable, peek, schema
from imgpro.store.schema import Migration

_GROWING: Final = frozenset({"totals"})  # a migration may begin to count something


class Before(msgspec.Struct, frozen=True):
    """A database as it was found: its schema, its size with its log, and what a start has before it."""

    schema: int
    target: int
    steps: tuple[str, ...]
    bytes: int
    wanted: dict[Path, int]  # free bytes that a real start needs, and where

    @property
    def lacking(self) -> tuple[Path, int] | None:
        """The first place without enough room, and how much it needs."""
        return copies.lacking(self.wanted) if self.steps else None


class Outcome(msgspec.Struct, frozen=True):
    """What came of the trial. `problems` is empty if a start may do the same for real."""

    copy_s: float
    migrate_s: float
    rows: dict[str, int]
    problems: tuple[str, ...]


def working_bytes(database_bytes: int) -> int:
    """Return how much room the trial takes where it is carried out: a copy, its log, and its change."""
    return 3 * database_bytes + 1_000_000


def look(database: Path, backups: Path, copy: Path, steps: Sequence[Migration]) -> Before:
    """Copy the database to `copy` and return what it is. Raises DataUnusable, StorageFault, StorageFull, Busy."""
    size = sum(_size(Path(f"{database}{ending}")) for ending in ("", "-wal"))
    try:
        peek.copy(database, copy)
    except OSError as error:
        raise durable.fault(error, f"copying {database}") from error
    except sqlite3.DatabaseError as error:
        raise DataUnusable(
            f"{database} cannot be read as a database ({error}).", Action("fix", label=f"Restore it from {backups}")
        ) from error
    found = schema.check_identity(copy, backups, steps[-1].version, named=database)
    due = schema.due_steps(found, steps) if found is not None else []
    return Before(
        schema=found or 0,
        target=steps[-1].version,
        steps=tuple(f"{step.version:04}_{step.name}" for step in due),
        bytes=size,
        wanted=copies.room_wanted(size, backups, database),
    )


def carry_out(copy: Path, before: Before, copy_s: float, steps: Sequence[Migration], instance_id: str) -> Outcome:
    """Migrate the copy and hold the result against what it was. Raises StorageFault, StorageFull, Busy."""
    problems: list[str] = []
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL").fetchone()
        conn.execute("PRAGMA trusted_schema = OFF")
        problems += _damage(conn, "before migrating")
        found = _meta(conn, "instance_id")
        if found not in (None, instance_id):
            problems.append(f"the database belongs to another data directory (instance {found}, not {instance_id})")
        rows = _rows(conn)
        began = time.monotonic()
        due = schema.due_steps(before.schema, steps)
        if due and not problems:
            problems += _migrate(conn, due)
        migrate_s = time.monotonic() - began
        if due and not problems:
            problems += _damage(conn, "after migrating")
            after = _rows(conn)
            problems += [
                f"the table {name} has {after[name]} rows instead of {count}"
                for name, count in rows.items()
                if name in after and after[name] != count and not (name in _GROWING and after[name] > count)
            ]
    return Outcome(copy_s=copy_s, migrate_s=migrate_s, rows=rows, problems=tuple(problems))


def _migrate(conn: sqlite3.Connection, due: Sequence[Migration]) -> list[str]:
    try:
        schema.apply(conn, due)
    except DataUnusable as problem:
        return [problem.message]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise durable.fault(OSError(28, str(error)), "trying the migration") from error
        return [f"a step of the migration failed: {error}"]
    except (sqlite3.Error, ValueError) as error:
        return [f"a step of the migration failed: {error}"]
    return []


def _damage(conn: sqlite3.Connection, when: str) -> list[str]:
    try:
        verdict = [str(row[0]) for row in conn.execute("PRAGMA integrity_check(3)")]
        dangling = len(conn.execute("PRAGMA foreign_key_check").fetchall())
    except sqlite3.DatabaseError as error:
        return [f"{when}: {error}"]
    found = [] if verdict == ["ok"] else [f"{when}: the database is damaged: {'; '.join(verdict)}"]
    return [*found, f"{when}: {dangling} rows refer to nothing"] if dangling else found


def _rows(conn: sqlite3.Connection) -> dict[str, int]:
    """Count the rows of all tables, but for those that SQLite keeps for itself or for full text."""
    found = conn.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    tables = {str(name): str(sql) for name, sql in found}
    virtual = [name for name, sql in tables.items() if re.match(r"CREATE\s+VIRTUAL", sql, re.IGNORECASE)]
    shadows = {f"{name}_{part}" for name in virtual for part in ("data", "idx", "content", "docsize", "config")}
    plain = sorted(set(tables) - set(virtual) - shadows)
    return {name: int(conn.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]) for name in plain}  # noqa: S608


def _meta(conn: sqlite3.Connection, key: str) -> str | None:
    try:
        row = conn.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    except sqlite3.DatabaseError:
        return None
    return str(row[0]) if row else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
