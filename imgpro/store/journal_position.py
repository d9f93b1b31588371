"""What the database says of its journal: how far that goes which says the same. One row of `meta`.

Knows nothing of the journal's files.
"""

import sqlite3
from typing import Final

import msgspec

from imgpro.store.journal_tail import Position, position_of

META_KEY: Final = "journal"
_BEHIND: Final = "behind"
_TOTALS: Final = (
    "SELECT group_concat(value, ',') FROM "
    "(SELECT value FROM totals WHERE name IN ('images', 'blobs', 'blob_bytes', 'anonymous_bytes') ORDER BY name)"
)


class Noted(msgspec.Struct, frozen=True):
    """What was noted: a position, the sums at that moment, and whether lines before it were overtaken. Without a
    position the journal lacks something; what it has up to the tail `behind` is in the database. `behind` is None
    where that was not noted.
    """

    position: Position | None
    totals: str = ""
    overtaken: bool = False
    behind: int | None = None


def note(connection: sqlite3.Connection, position: Position, *, overtaken: bool) -> None:
    """Write down how far the journal goes that says the same."""
    _set(connection, f"{position} {totals(connection)} {int(overtaken)}")


def note_behind(connection: sqlite3.Connection, number: int | None) -> None:
    """Write down that the journal, up to the tail of this number if that is known, lacks something of the database."""
    _set(connection, f"{_BEHIND} {'' if number is None else number}")


def read(connection: sqlite3.Connection) -> Noted | None:
    """Return what is noted; None if nothing ever was. Raises sqlite3.Error."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (META_KEY,)).fetchone()
    if row is None:
        return None
    first, _, rest = str(row[0]).partition(" ")
    if first == _BEHIND:
        return Noted(None, behind=int(rest) if rest.isdecimal() else None)
    sums, _, overtaken = rest.partition(" ")
    return Noted(position_of(first), sums, overtaken == "1")


def totals(connection: sqlite3.Connection) -> str:
    """Return sums that triggers of the database keep: who changed it behind our back has changed them as well."""
    return str(connection.execute(_TOTALS).fetchone()[0])


def _set(connection: sqlite3.Connection, value: str) -> None:
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (META_KEY, value),
    )
