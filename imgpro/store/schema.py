"""Who may open this database, and how an older one becomes today's.

The gate changes nothing in a database it refuses. A migration runs in one transaction, after a verified copy was
made, so that a failing one leaves the old database as it was. Knows no table besides `meta`.
"""

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from imgpro.errors import Action, DataUnusable, StorageFull
from imgpro.store import durable

SQLITE_VERSION: Final = sqlite3.sqlite_version
APPLICATION_ID: Final = 0x494D4750  # "IMGP", at byte 68 of the file
_FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_KEPT_COPIES: Final = 3
_COPY_PREFIX: Final = "pre-migrate-"


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema: the database is at `version` once `sql` has run."""

    version: int
    name: str
    sql: str


def packaged_migrations() -> tuple[Migration, ...]:
    """Return the migrations that come with this program, in order, numbered 1, 2, 3, ..."""
    files = (resources.files("imgpro.store") / "migrations").iterdir()
    named = [(match, file) for file in files if (match := _FILE_NAME.fullmatch(file.name))]
    found = [Migration(int(match[1]), match[2], file.read_text("utf-8")) for match, file in named]
    found.sort(key=lambda migration: migration.version)
    if not found or [m.version for m in found] != list(range(1, len(found) + 1)):
        raise RuntimeError("the packaged migrations are not numbered 1, 2, 3, ...")
    return tuple(found)


def statements(sql: str) -> Iterator[str]:
    """Split a script into statements; semicolons in strings, comments and triggers do not split.

    `executescript` is no choice: it commits what is open before it starts.
    """
    statement = ""
    for piece in re.split(r"(?<=;)", sql):
        statement += piece
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""
    rest = re.sub(r"--[^\n]*|/\*.*?\*/", "", statement, flags=re.DOTALL).strip()
    if rest:
        raise ValueError(f"a migration ends inside a statement: {rest[:60]!r}")


def check_identity(path: Path, backups: Path, supported: int) -> int | None:
    """Return the schema version of the database at `path`, None if there is none yet; raises DataUnusable.

    Opened read-only, so that a newer or foreign database is not touched by as much as a checkpoint.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as conn:
            application, version, tables = conn.execute(
                "SELECT (SELECT application_id FROM pragma_application_id), "
                "(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)"
            ).fetchone()
            if application == 0 and version == 0 and tables == 0:
                return None  # a first start that was killed before its first transaction
            if application != APPLICATION_ID:
                raise DataUnusable(
                    f"{path} is not a database of imgpro.",
                    Action("fix", label="Name another data directory with --data, or move that file away"),
                )
            if version > supported:
                raise _newer(path, backups, version, supported, _written_by(conn))
    except sqlite3.DatabaseError as error:
        raise DataUnusable(
            f"{path} cannot be read as a database ({error}).",
            Action("fix", label=f"Restore it from {backups}"),
        ) from error
    return int(version)


def _written_by(conn: sqlite3.Connection) -> str:
    try:
        row = conn.execute("SELECT value FROM meta WHERE key = 'app_version_last'").fetchone()
    except sqlite3.DatabaseError:
        row = None
    return f"imgpro {row[0]}" if row else "a newer imgpro"


def _newer(path: Path, backups: Path, found: int, supported: int, writer: str) -> DataUnusable:
    copies = [copy.name for copy in _copies(backups)]
    restore = f", or restore the copy {backups / copies[-1]}" if copies else ""
    return DataUnusable(
        f"{path} was written by {writer}: its schema is {found}, this program knows up to {supported}.",
        Action("fix", label=f"Start a newer imgpro{restore}"),
    )


def migrate(conn: sqlite3.Connection, backups: Path, current: int | None, steps: Sequence[Migration]) -> None:
    """Bring the database to the last of `steps`; copies an existing one to `backups` first.

    Raises StorageFull when there is no room for the copy, DataUnusable when the result is not sound, and
    whatever a step raises; the database is then unchanged.
    """
    due = [step for step in steps if step.version > (current or 0)]
    if not due:
        return
    if current is not None:
        _copy_before(conn, backups, current, due[-1].version)
    # Tables that are rebuilt would trip over references to them; the check below makes up for it.
    conn.execute("PRAGMA foreign_keys = OFF")
    try:
        conn.execute("BEGIN IMMEDIATE")
        for step in due:
            for statement in statements(step.sql):
                conn.execute(statement)
        broken = conn.execute("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise DataUnusable(
                f"Migrating to schema {due[-1].version} would leave {len(broken)} rows that refer to nothing.",
                Action("fix", label="Start the version of imgpro that ran before, and report this"),
            )
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        conn.execute(f"PRAGMA user_version = {due[-1].version}")
        conn.execute("COMMIT")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        conn.execute("PRAGMA foreign_keys = ON")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _copies(backups: Path) -> list[Path]:
    found = backups.glob(f"{_COPY_PREFIX}*.db") if backups.is_dir() else ()
    return sorted(found, key=lambda copy: (copy.stat().st_mtime, copy.name))


def _copy_before(conn: sqlite3.Connection, backups: Path, old: int, new: int) -> None:
    """Write a compact, checked and durable copy of the whole database beside it."""
    pages, page_bytes = conn.execute("SELECT page_count, page_size FROM pragma_page_count, pragma_page_size").fetchone()
    free = os.statvfs(backups)
    if free.f_bavail * free.f_frsize < 2 * pages * page_bytes:
        raise StorageFull(
            f"{backups} has no room for the copy of the database that is made before it is migrated.",
            Action("fix", label=f"Free at least {2 * pages * page_bytes // 1_000_000 + 1} MB and start again"),
        )
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = backups / f"{_COPY_PREFIX}{old}-{new}-{stamp}.db"
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    try:
        conn.execute("VACUUM INTO ?", (str(partial),))
        with contextlib.closing(sqlite3.connect(f"{partial.as_uri()}?mode=ro", uri=True)) as copy:
            verdict = copy.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise DataUnusable(
                f"The database is damaged ({verdict}); it was not migrated.",
                Action("fix", label=f"Restore it from {backups}"),
            )
        fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
        try:
            durable.fsync_fd(fd)
        finally:
            os.close(fd)
        os.rename(partial, target)
        durable.fsync_directory(backups)
    finally:
        partial.unlink(missing_ok=True)
    for surplus in _copies(backups)[:-_KEPT_COPIES]:
        surplus.unlink()
