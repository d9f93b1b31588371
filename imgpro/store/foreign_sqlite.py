"""Reads rows from another program's SQLite database, without changing or locking it. Knows no schema."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from imgpro.errors import SourceUnusable
from imgpro.store import peek

MAX_VALUE_BYTES: Final = 64 * 1024 * 1024  # of one value, or of a row


class ForeignDatabase:
    """A database that somebody else wrote. Made by `opened`."""

    def __init__(self, conn: sqlite3.Connection, path: Path) -> None:
        self._conn = conn
        self._path = path

    def tables(self) -> dict[str, frozenset[str]]:
        """Return the names of the columns of each table, both in lower case."""
        names = [row["name"] for row in self.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            name.lower(): frozenset(
                row["name"].lower() for row in self.rows("SELECT name FROM pragma_table_info(?)", (name,))
            )
            for name in names
        }

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Yield the rows of a SELECT by column, one of them in memory. Raises SourceUnusable."""
        try:
            cursor = self._conn.execute(statement, tuple(values))
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(columns, row, strict=True))
        except sqlite3.Error as error:
            raise SourceUnusable(f"{self._path} cannot be read: {error}.") from None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[ForeignDatabase]:
    """Lend a database for reading; whoever has it open is not disturbed. Raises SourceUnusable."""
    if not path.is_file():
        raise SourceUnusable(f"There is no database at {path}.")
    with contextlib.ExitStack() as held:
        try:
            conn = held.enter_context(peek.looking(path))
            conn.execute("PRAGMA trusted_schema = OFF")
            conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        except (sqlite3.Error, OSError) as error:
            raise SourceUnusable(f"{path} cannot be opened as a database of SQLite: {error}.") from None
        conn.text_factory = lambda raw: raw.decode("utf-8", "replace")
        yield ForeignDatabase(conn, path)
