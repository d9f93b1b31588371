"""Holds rows of somebody else's database while pictures are taken over from it: looked up by SQL, gone afterwards.

Knows no schema. SQLite keeps them in a file without a name (in TMPDIR), so that a killed import leaves nothing.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from imgpro.errors import StorageFault

_FULL: Final = "Is TMPDIR full?"


class StagedRows:
    """Tables of text, or NULL. To be closed; may be used from one thread after the other."""

    def __init__(self, tables: Mapping[str, Sequence[str]]) -> None:
        # An empty name: a file of its own that SQLite deletes at once and fills only when the cache does not do.
        self._conn = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._conn.execute("PRAGMA journal_mode = OFF")
        self._conn.execute("PRAGMA synchronous = OFF")
        self._conn.execute("PRAGMA cache_size = -32000")
        self._widths = {table: len(columns) for table, columns in tables.items()}
        for table, columns in tables.items():
            named = ", ".join(f'"{name}" TEXT' for name in columns)
            self._conn.execute(f'CREATE TABLE "{table}" ({named})')

    def close(self) -> None:
        """Forget everything."""
        self._conn.close()

    def add(self, table: str, rows: Iterable[Sequence[str | None]]) -> None:
        """Take rows in, one after the other. Raises StorageFault if there is no room for them."""
        marks = ", ".join("?" * self._widths[table])
        try:
            self._conn.execute("BEGIN")
            self._conn.executemany(f'INSERT INTO "{table}" VALUES ({marks})', rows)  # noqa: S608
            self._conn.execute("COMMIT")
        except sqlite3.Error as error:
            raise StorageFault(f"The other host's rows cannot be held for a while: {error}. {_FULL}") from None

    def index(self, table: str, *columns: str) -> None:
        """Make look-ups by `columns` quick."""
        name = "_".join((table, "by", *columns))
        try:
            self._conn.execute(f'CREATE INDEX "{name}" ON "{table}" ({", ".join(columns)})')
        except sqlite3.Error as error:
            raise StorageFault(f"The other host's rows cannot be sorted: {error}. {_FULL}") from None

    def count(self, table: str) -> int:
        """Return how many rows there are."""
        return int(self._conn.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])  # noqa: S608

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Yield the rows of a SELECT by column, one of them in memory. Raises StorageFault."""
        try:
            cursor = self._conn.execute(statement, tuple(values))
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(columns, row, strict=True))
        except sqlite3.Error as error:
            raise StorageFault(f"The other host's rows cannot be looked up: {error}. {_FULL}") from None
