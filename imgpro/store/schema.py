"""Who may open this database, and how an older one becomes today's.

The gate changes nothing in a database it refuses. A migration runs in one transaction, after a verified copy was
made, so that a failing one leaves the old database as it was. Knows no table besides `meta`.
"""

import contextlib
import functools
import logging
import re
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from imgpro.errors import Action, DataUnusable
from imgpro.store import copies, durable, journal_format, peek

SQLITE_VERSION: Final = sqlite3.sqlite_version
APPLICATION_ID: Final = 0x494D4750  # "IMGP", at byte 68 of the file
_FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

log = logging.getLogger(__name__)


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema: the database is at `version` once `sql` has run."""

    version: int
    name: str
    sql: str


@functools.cache
def packaged_migrations() -> tuple[Migration, ...]:
    """Return the migrations that come with this program, in order, numbered 1, 2, 3, ...

    Read once: who restores as another user may not be able to read them later.
    """
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


def check_identity(path: Path, backups: Path, supported: int, *, named: Path | None = None) -> int | None:
    """Return the schema version of the database at `path`, None if there is none yet; raises DataUnusable.

    Nothing may write to it meanwhile. A newer or foreign database is not touched by as much as a checkpoint. `named`
    is what errors call it, where `path` is a copy.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    named = named or path
    try:
        with contextlib.closing(peek.quiet(path)) as conn:
            application, version, tables = conn.execute(
                "SELECT (SELECT application_id FROM pragma_application_id), "
                "(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)"
            ).fetchone()
            if application == 0 and version == 0 and tables == 0:
                return None  # a first start that was killed before its first transaction
            if application != APPLICATION_ID:
                raise DataUnusable(
                    f"{named} is not a database of imgpro.",
                    Action("fix", label="Name another data directory with --data, or move that file away"),
                )
            if version > supported:
                raise _newer(named, backups, version, supported, _written_by(conn))
    except sqlite3.DatabaseError as error:
        raise DataUnusable(
            f"{named} cannot be read as a database ({error}).",
            Action("fix", label=_way_back(backups)),
        ) from error
    return int(version)


def _way_back(backups: Path) -> str:
    root = shlex.quote(str(backups.parent))
    restore = f"imgpro backup restore --force --data {root}"
    return (
        f"imgpro rebuild --data {root}, or {restore}"
        if journal_format.is_there(backups.parent / "journal")
        else restore
    )


def _written_by(conn: sqlite3.Connection) -> str:
    try:
        row = conn.execute("SELECT value FROM meta WHERE key = 'app_version_last'").fetchone()
    except sqlite3.DatabaseError:
        row = None
    return f"imgpro {row[0]}" if row else "a newer imgpro"


def _newer(path: Path, backups: Path, found: int, supported: int, writer: str) -> DataUnusable:
    return DataUnusable(
        f"{path} was written by {writer}: its schema is {found}, this program knows up to {supported}.",
        Action("fix", label=copies.way_back(path, backups, supported)),
    )


def migrate(
    conn: sqlite3.Connection, database: Path, backups: Path, current: int | None, steps: Sequence[Migration]
) -> None:
    """Bring the database at `database` to the last of `steps`; copies an existing one to `backups` first.

    Raises StorageFull when there is no room, DataUnusable when the result is not sound, and whatever a step raises;
    the database is then unchanged, and the copy is taken away again.
    """
    due = due_steps(current, steps)
    if not due:
        return
    if current is None:
        apply(conn, due)
        _fold(conn)
        return
    log.warning("the database is migrated from schema %d to %d; this may take a while", current, due[-1].version)
    copy = copies.make(conn, database, backups, current, due[-1].version)
    durable.point("migrate.copied")
    try:
        apply(conn, due)
    except BaseException:
        # It says nothing that the database does not say itself, and a start that is tried again makes another one.
        if version(conn) == current:
            copy.unlink(missing_ok=True)
        raise
    _fold(conn)
    copies.prune(backups, copy)
    log.warning("the database has schema %d now; a copy from before is %s", due[-1].version, copy)


def due_steps(current: int | None, steps: Sequence[Migration]) -> list[Migration]:
    """Return the steps that a database at `current` has before it."""
    return [step for step in steps if step.version > (current or 0)]


def apply(conn: sqlite3.Connection, due: Sequence[Migration]) -> None:
    """Run steps in one transaction; raises what `migrate` says, and has then changed nothing."""
    # Tables that are rebuilt would trip over references to them; the check below makes up for it.
    conn.execute("PRAGMA foreign_keys = OFF")
    try:
        conn.execute("BEGIN IMMEDIATE")
        for step in due:
            for statement in statements(step.sql):
                conn.execute(statement)
            durable.point("migrate.stepped")
        broken = conn.execute("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise DataUnusable(
                f"Migrating to schema {due[-1].version} would leave {len(broken)} rows that refer to nothing.",
                Action("fix", label="Start the version of imgpro that ran before, and report this"),
            )
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        conn.execute(f"PRAGMA user_version = {due[-1].version}")
        conn.execute("COMMIT")
        durable.point("migrate.committed")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        conn.execute("PRAGMA foreign_keys = ON")


def version(conn: sqlite3.Connection) -> int:
    """Return the schema that a database has."""
    return int(conn.execute("PRAGMA user_version").fetchone()[0])


def _fold(conn: sqlite3.Connection) -> None:
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
