"""All looks of a check in their order, each as a stream of doubts from one thread.

What mends the doubts of one look is done before the next begins: sums are compared once what they are the sum of is
right. Knows nothing of mending.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from imgpro.ids import random_base62
from imgpro.store import check_files, check_journal, check_rows, check_text, durable, journal_ahead
from imgpro.store.desk import Desk
from imgpro.store.doubts import Doubt, Looked, connect, place_of
from imgpro.store.layout import DataDir
from imgpro.store.quarantine import Quarantine
from imgpro.store.sqlite_faults import primary_code

BROKEN: Final = "cannot be read on"
_BROKEN: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)


class Look(msgspec.Struct, frozen=True):
    """What one of them looks at, in words, and its stream. `reads_database`: it is left out where that is broken."""

    words: str
    begin: Callable[[], Looked]
    counts_blobs: bool = False
    reads_database: bool = True


def look_at(desk: Desk, data: DataDir, grace_s: float, number: int, deep: bool) -> Looked:
    """Go through one of the looks, by its place in the list; for a `SideProcess`."""
    looks = Looks(data, Quarantine(data), grace_s, desk.stop)
    try:
        yield from looks.begin(looks.listed(deep=deep)[number])
    finally:
        looks.close()


class Looks:
    """The looks of one check. `open` and everything that comes of it belong into one thread."""

    def __init__(
        self, data: DataDir, quarantine: Quarantine, grace_s: float, stop: threading.Event | None = None
    ) -> None:
        self._data = data
        self._quarantine = quarantine
        self._grace_s = grace_s
        self._stop = stop or threading.Event()
        self._conn: sqlite3.Connection | None = None

    def listed(self, *, deep: bool) -> list[Look]:
        """Return the looks; `deep` adds what takes long."""
        found = [
            Look("the database", lambda: check_rows.pages(self._open(), deep=deep)),
            Look("its tables", lambda: check_rows.objects(self._open())),
            Look("its references", lambda: check_rows.references(self._open())),
            Look("tags", lambda: check_rows.tags(self._open())),
            Look("sums", lambda: check_rows.sums(self._open())),
            Look("the search index", lambda: check_text.documents(self._open())),
        ]
        if deep:
            found.append(Look("words of the search index", lambda: check_text.words(self._open())))
            found.append(Look("rows of the journal", self._journal_rows))
        return [
            *found,
            Look("originals", self._originals, counts_blobs=True),
            Look("notes of damage", self._notes),
            Look("sizes and formats", lambda: check_files.derivatives(self._data.cache, self._rows())),
            Look("quarantine", self._quarantined),
            Look("the journal", lambda: check_journal.files(self._data.journal, self._data.instance_id)),
            Look("leftovers", lambda: check_files.litter(self._data.tmp, self._data.backups), reads_database=False),
        ]

    def begin(self, look: Look) -> Looked:
        """Start a look; a database that breaks on the way is one more doubt, and its end."""
        try:
            yield from look.begin()
        except sqlite3.DatabaseError as error:
            if self._stop.is_set():
                return
            if primary_code(error) not in _BROKEN:
                raise
            yield Doubt("database", self._data.database.name, f"{BROKEN}: {error}")
        except OSError as error:
            raise durable.fault(error, f"looking at {look.words}") from error

    def close(self) -> None:
        """Close the connection; idempotent. In the thread."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _open(self) -> sqlite3.Connection:
        if self._conn is None:
            self._conn = connect(Path(self._data.database), self._stop)
        return self._conn

    def _rows(self) -> Iterator[tuple[str, int]]:
        """Yield the digests that the database knows in pages, each of its own moment, with the bytes of each."""
        after = b""
        sql = "SELECT digest, stored_bytes FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?"
        while page := self._open().execute(sql, (after, check_files.PAGE)).fetchall():
            for digest, size in page:
                yield digest.hex(), size
            after = page[-1][0]

    def _originals(self) -> Looked:
        modes = check_files.keeps_modes(self._data.tmp, random_base62(16))
        # A journal that was set aside names originals that the database does not know.
        grace_s = float("inf") if journal_ahead.asides(self._data.journal) else self._grace_s
        return check_files.originals(self._data.blobs, self._rows(), grace_s=grace_s, modes=modes)

    def _notes(self) -> Looked:
        """Yield blobs that are noted as damaged and are there, or have no picture any more."""
        after = b""
        sql = "SELECT digest, EXISTS (SELECT 1 FROM blobs b WHERE b.digest = d.digest) FROM damaged_blobs d"
        sql += " WHERE digest > ? ORDER BY digest LIMIT ?"
        while page := self._open().execute(sql, (after, check_files.PAGE)).fetchall():
            for value, known in page:
                digest = value.hex()
                where = place_of(digest)
                if not known:
                    yield Doubt("note", where, "is noted as damaged, and no picture has it", "note", (digest,))
                elif os.path.lexists(self._data.root / where):
                    yield Doubt("note", where, "is noted as damaged, and is there", "note", (digest,))
            after = page[-1][0]
            yield len(page)

    def _journal_rows(self) -> Looked:
        return check_journal.rows(self._open(), self._data.journal, self._data.instance_id)

    def _quarantined(self) -> Looked:
        for kept in self._quarantine.kept():
            row = self._open().execute("SELECT 1 FROM blobs WHERE digest = ?", (bytes.fromhex(kept.digest),)).fetchone()
            if row is None:
                where = f"quarantine/{kept.digest}"
                yield Doubt("quarantine", where, "is of a picture that was deleted", "quarantine", (kept.digest,))
        yield 1
