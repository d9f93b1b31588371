"""A copy of the database as of one moment, made while the server writes on, and made fit for a backup.

Blocking. A copy is used by one thread at a time.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

from imgpro.errors import Action, DataUnusable, StorageFull
from imgpro.forms import show_bytes
from imgpro.store import durable, peek, queries, room, traces
from imgpro.store.layout import DataDir
from imgpro.store.schema import version
from imgpro.store.sqlite_faults import translated

_PAGE: Final = 1_000
_READ_BYTES: Final = 1024 * 1024
# What works once or for a short time. Restored it would let in who was signed out since, revive links that were used,
# send letters a second time, and keep network addresses beyond the day that they are needed for.
_FORGET_SHORT_LIVED: Final = (
    "DELETE FROM sessions",
    "DELETE FROM links",
    "DELETE FROM mail",
    "DELETE FROM replays",
    "DELETE FROM upload_log",
    "DELETE FROM damaged_blobs",  # of the disk it was made on
)


class Counts(msgspec.Struct, frozen=True):
    """What a copy holds."""

    schema: int
    images: int
    blobs: int
    blob_bytes: int


class Snapshot:
    """A copy that is being prepared. Make it with `take`, end it with `close`."""

    def __init__(self, path: Path, conn: sqlite3.Connection) -> None:
        self.path = path
        self._conn = conn

    @classmethod
    def take(cls, database: Path, into: Path) -> "Snapshot":
        """Copy `database` to `into`, which must not exist, and prove the copy sound.

        The connection that reads it cannot write and so never checkpoints (see `pragmas`); the writer goes on.
        Raises DataUnusable when what it holds is not sound, StorageFull, StorageFault.
        """
        try:
            with contextlib.closing(read_only(database)) as source:
                source.execute("VACUUM INTO ?", (str(into),))
            with contextlib.closing(peek.quiet(into)) as copy:
                verdict = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise _damaged(database, verdict)
            conn = sqlite3.connect(into, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _copy_fault(database, error) from error
        snapshot = cls(into, conn)
        try:
            conn.execute("PRAGMA foreign_keys = ON")
            conn.execute("PRAGMA journal_mode = MEMORY")  # it is worth nothing until it is whole
            conn.execute("PRAGMA synchronous = OFF")
            conn.execute("PRAGMA secure_delete = ON")
            conn.execute("BEGIN")
            for statement in _FORGET_SHORT_LIVED:
                conn.execute(statement)
            conn.execute("COMMIT")
            traces.merge(conn)  # its full-text index may still have words of what was deleted
        except sqlite3.Error as error:
            snapshot.close()
            raise _copy_fault(database, error) from error
        return snapshot

    def counts(self) -> Counts:
        """Return what it holds."""
        totals = dict(self._conn.execute("SELECT name, value FROM totals"))
        return Counts(version(self._conn), totals["images"], totals["blobs"], totals["blob_bytes"])

    def blobs(self) -> Iterator[tuple[str, int]]:
        """Yield digest and size of all blobs, in order of digest."""
        return blobs_of(self._conn)

    def forget_blob(self, digest: str) -> int:
        """Delete all pictures that show a blob, as the server deletes them, and return how many those were."""
        rows = self._conn.execute(
            "SELECT i.id FROM images i JOIN blobs b ON b.seq = i.blob WHERE b.digest = ?", (bytes.fromhex(digest),)
        ).fetchall()
        try:
            self._conn.execute("BEGIN")
            queries.delete_images(self._conn, [row[0] for row in rows])
            self._conn.execute("COMMIT")
        except sqlite3.Error as error:
            raise translated(error) from error
        return len(rows)

    def close(self) -> None:
        """Close it; the file stays. Idempotent."""
        self._conn.close()


@contextlib.contextmanager
def scratch(data: DataDir, name: str, wanted_bytes: int) -> Iterator[Path]:
    """Lend an empty folder beside the database, on a disk that SQLite can work on, for the length of a `with`.

    Raises StorageFull where there are not `wanted_bytes` of room, StorageFault.
    """
    home = data.database.parent
    folder = (data.tmp if home == data.root else home) / name
    if room.file_system(home).free_bytes < wanted_bytes:
        raise StorageFull(
            f"{home} has no room for a copy of the database.",
            Action("fix", label=f"Have at least {show_bytes(wanted_bytes)} free there"),
        )
    shutil.rmtree(folder, ignore_errors=True)  # of a killed process
    try:
        durable.make_directory(folder)
        yield folder
    except OSError as error:
        raise durable.fault(error, f"working in {folder}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_only(database: Path) -> sqlite3.Connection:
    """Open a database that is in use, for reading alone. Raises sqlite3.Error."""
    return sqlite3.connect(
        f"{database.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10, check_same_thread=False
    )


def is_live(conn: sqlite3.Connection, digest: str) -> bool:
    """Tell whether any picture of a database shows the blob now."""
    return queries.blob_exists(conn, digest)


def blobs_of(conn: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """Yield digest and size of all blobs of a database, in order of digest, a page at a time."""
    last = b""
    while rows := conn.execute(
        "SELECT digest, stored_bytes FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?", (last, _PAGE)
    ).fetchall():
        yield from ((row[0].hex(), row[1]) for row in rows)
        last = rows[-1][0]


def file_chunks(path: Path, hasher: "blake3 | None" = None) -> Iterator[bytes]:
    """Yield a file of our own in pieces, and hash them on the way. Raises StorageFault."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_READ_BYTES):
                if hasher is not None:
                    hasher.update(chunk)
                yield chunk
    except OSError as error:
        raise durable.fault(error, f"reading {path}") from error


def _damaged(database: Path, verdict: str) -> DataUnusable:
    return DataUnusable(
        f"The database {database} is damaged ({verdict}); it was not backed up.",
        Action("fix", label="imgpro backup restore, or imgpro rebuild"),
    )


def _copy_fault(database: Path, error: sqlite3.Error) -> BaseException:
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return _damaged(database, str(error))
    return translated(error)
