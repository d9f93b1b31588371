"""Which tables the journal of metadata holds, how their rows are written down, and why the others are left out.

The columns are asked of the database: a new one is in the journal without being named here.
"""

import sqlite3
from typing import Final

import msgspec


class Kept(msgspec.Struct, frozen=True):
    """A table whose rows are in the journal, found again by `key`.

    A change of nothing but the columns in `quiet` is not written down: they are counters that can be made again, or
    not worth a line each. `personal`: lines that were overtaken have to go soon.
    """

    name: str
    key: tuple[str, ...]
    quiet: tuple[str, ...] = ()
    personal: bool = True


# Those that others refer to come first.
KEPT: Final = (
    Kept("accounts", ("seq",), ("images", "stored_bytes")),
    Kept("keys", ("seq",), ("last_used_ms",)),
    Kept("blobs", ("seq",)),
    Kept("images", ("seq",)),
    Kept("monthly_uploads", ("account", "month", "key"), personal=False),
    Kept("upgrade_requests", ("account",)),
    Kept("old_links", ("path",)),
    Kept("brought_in", ("source", "item")),
    Kept("retention_rules", ("seq",)),
)
# Made again from the rows above.
DERIVED: Final = frozenset(
    {"totals", "image_tags", "tag_totals", "namespace_totals", "images_text", "daily_growth", "damaged_blobs"}
)
# Gone with the database: who is signed in, what works once, mail on its way, answers kept for a day, the uploads of the
# last day, what was looked after when. `meta` goes into the headers.
FORGOTTEN: Final = frozenset({"meta", "sessions", "links", "mail", "replays", "upload_log", "last_runs"})


class Shape(msgspec.Struct, frozen=True):
    """A kept table as this database has it: its columns in order, and those of them that hold bytes."""

    table: Kept
    columns: tuple[str, ...]
    binary: frozenset[str]

    @property
    def row(self) -> str:
        """SQL for a row as a JSON array, made by SQLite itself: its code runs beside ours, not in turn with it."""
        values = [
            f"iif({column} IS NULL, NULL, hex({column}))" if column in self.binary else column
            for column in self.columns
        ]
        return f"json_array({', '.join(values)})"

    @property
    def one(self) -> str:
        """SQL for the row of a key."""
        where = " AND ".join(f"{column} = ?" for column in self.table.key)
        return f"SELECT {self.row} FROM main.{self.table.name} WHERE {where}"  # noqa: S608 - names of our own schema

    def page(self, *, first: bool) -> str:
        """SQL for the next rows in the order of their keys, each with its key; the last parameter is how many."""
        key = ", ".join(self.table.key)
        after = "" if first else f"WHERE ({key}) > ({', '.join('?' * len(self.table.key))})"
        return f"SELECT {self.row}, {key} FROM main.{self.table.name} {after} ORDER BY {key} LIMIT ?"  # noqa: S608

    def triggers(self) -> list[str]:
        """SQL that has the function `journal_note(table, changed, *key)` called for every row that changes.

        Triggers of this connection alone: they may call what the schema itself may not.
        """
        name = self.table.name
        loud = [column for column in self.columns if column not in self.table.quiet]
        new, old = (", ".join(f"{row}.{column}" for column in self.table.key) for row in ("new", "old"))
        moved = " OR ".join(f"old.{column} IS NOT new.{column}" for column in self.table.key)

        def made(event: str, of: str, calls: str) -> str:
            return f"CREATE TEMP TRIGGER journal_{name}_{event} AFTER {of} ON main.{name} {calls}"

        return [
            made("added", "INSERT", f"BEGIN SELECT journal_note('{name}', 0, {new}); END"),
            made("removed", "DELETE", f"BEGIN SELECT journal_note('{name}', 1, {old}); END"),
            made("changed", f"UPDATE OF {', '.join(loud)}", f"BEGIN SELECT journal_note('{name}', 1, {new}); END"),
            made(
                "moved",
                f"UPDATE OF {', '.join(self.table.key)}",
                f"WHEN {moved} BEGIN SELECT journal_note('{name}', 1, {old}); END",
            ),
        ]


def shapes(connection: sqlite3.Connection) -> dict[str, Shape]:
    """Return the kept tables that this database has, those that others refer to first."""
    found: dict[str, Shape] = {}
    for table in KEPT:
        rows = connection.execute("SELECT name, type FROM pragma_table_info(?, 'main')", (table.name,)).fetchall()
        if rows:
            binary = frozenset(name for name, kind in rows if kind == "BLOB")
            found[table.name] = Shape(table, tuple(name for name, _ in rows), binary)
    return found
