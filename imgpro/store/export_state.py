"""What an export has to remember while it runs, on disk and not in memory: a million pictures are one of its uses.

The file has no name and is gone with the process. Knows neither pictures nor folders.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

_TABLES: Final = """
CREATE TABLE before (
    id TEXT PRIMARY KEY, file TEXT NOT NULL, digest TEXT NOT NULL, bytes INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    wanted TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE now (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE digests (digest TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE names (folded TEXT PRIMARY KEY, highest INTEGER NOT NULL) WITHOUT ROWID;
"""
_CACHE_KIB: Final = 16_384
_PUT: Final = "INSERT OR REPLACE INTO before (id, file, digest, bytes, at_ms, wanted) VALUES (?, ?, ?, ?, ?, ?)"
_FIND: Final = "SELECT id, file, digest, bytes, at_ms, wanted FROM before WHERE id = ?"
_NEXT: Final = "SELECT id, file, digest, bytes, at_ms, wanted FROM before WHERE id > ? ORDER BY id LIMIT 1"
_NEXT_GONE: Final = _NEXT.replace("WHERE", "WHERE id NOT IN (SELECT id FROM now) AND")


class Before(msgspec.Struct, frozen=True):
    """A file that an earlier run wrote: of which picture, where, its bytes, and the path it would have had alone."""

    id: str
    file: str
    digest: str
    bytes: int
    at_ms: int
    wanted: str


class ExportState:
    """The earlier run's files, this run's pictures, and the names that are taken. One thread at a time."""

    def __init__(self, fold: Callable[[str], str], number: Callable[[str, int], str]) -> None:
        """`fold` returns what two equal paths have in common, `number` the path of the n-th that wants the same."""
        self._fold = fold
        self._number = number
        self._conn = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._conn.executescript(_TABLES)
        self._conn.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._conn.execute("PRAGMA synchronous = OFF")
        self._conn.execute("BEGIN")  # nobody else looks, and nothing is kept: one transaction that never ends

    def close(self) -> None:
        """Let go of everything."""
        self._conn.close()

    def add_before(self, files: Iterable[Before]) -> None:
        """Remember files of an earlier run; of two with one id the later holds."""
        for each in files:
            self._conn.execute(_PUT, msgspec.structs.astuple(each))

    def take_names_of_before(self) -> None:
        """Have the names of all files of the earlier run taken."""
        for (file,) in self._conn.execute("SELECT file FROM before"):
            self._take(file)

    def before(self, image_id: str) -> Before | None:
        """Return the file of a picture, as an earlier run left it."""
        row = self._conn.execute(_FIND, (image_id,)).fetchone()
        return Before(*row) if row else None

    def handled(self, image_id: str) -> None:
        """Say that this run has seen to the file that an earlier one left of a picture."""
        self._conn.execute("DELETE FROM before WHERE id = ?", (image_id,))

    def want(self, image_id: str, digest: str) -> None:
        """Remember a picture of this run."""
        self._conn.execute("INSERT OR IGNORE INTO now (id) VALUES (?)", (image_id,))
        self._conn.execute("INSERT OR IGNORE INTO digests (digest) VALUES (?)", (digest,))

    def wants(self, image_id: str) -> bool:
        """Tell whether a picture belongs to this run."""
        return self._conn.execute("SELECT 1 FROM now WHERE id = ?", (image_id,)).fetchone() is not None

    def shows(self, digest: str) -> bool:
        """Tell whether some picture of this run has these bytes."""
        return self._conn.execute("SELECT 1 FROM digests WHERE digest = ?", (digest,)).fetchone() is not None

    def gone(self) -> Iterator[Before]:
        """Yield files of the earlier run whose pictures do not belong to this one, and forget them."""
        yield from self._drained(_NEXT_GONE)

    def left(self) -> Iterator[Before]:
        """Yield files of the earlier run that nothing has been said of, and forget them."""
        yield from self._drained(_NEXT)

    def _drained(self, statement: str) -> Iterator[Before]:
        after = ""
        while row := self._conn.execute(statement, (after,)).fetchone():
            found = Before(*row)
            after = found.id
            self.handled(found.id)
            yield found

    def count_gone(self) -> int:
        """Return how many files `gone` would yield."""
        row = self._conn.execute("SELECT count(*) FROM before WHERE id NOT IN (SELECT id FROM now)").fetchone()
        return int(row[0])

    def free(self, file: str) -> None:
        """Say that a name can be given again."""
        self._conn.execute("DELETE FROM names WHERE folded = ?", (self._fold(file),))

    def name(self, wanted: str, is_taken: Callable[[str], bool]) -> str:
        """Give a picture its path: the wanted one, else one with a number. `is_taken` knows of strangers' files."""
        row = self._conn.execute("SELECT highest FROM names WHERE folded = ?", (self._fold(wanted),)).fetchone()
        number = int(row[0]) if row else 1
        path = wanted
        while self._knows(path) or is_taken(path):
            number += 1
            path = self._number(wanted, number)
        self._take(wanted, number)
        self._take(path)
        return path

    def _knows(self, path: str) -> bool:
        return self._conn.execute("SELECT 1 FROM names WHERE folded = ?", (self._fold(path),)).fetchone() is not None

    def _take(self, path: str, number: int = 1) -> None:
        self._conn.execute(
            "INSERT INTO names (folded, highest) VALUES (?, ?) "
            "ON CONFLICT (folded) DO UPDATE SET highest = max(highest, excluded.highest)",
            (self._fold(path), number),
        )
