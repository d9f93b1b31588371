"""SQL about what looks after the data: when it last ran and how that ended, and which originals are damaged."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import aiosqlite
import msgspec

RunName = Literal["backup", "verify", "scrub", "check", "retention", "journal"]
Damage = Literal["altered", "missing", "unreadable"]


class Run(msgspec.Struct, frozen=True):
    """The last run of one kind of work. Unix ms. `ended_ms` is None while it runs, or where it was cut off;
    `good_ms` is when one last ended well. `message` says in a sentence what went wrong, or what was done."""

    name: str
    began_ms: int
    ended_ms: int | None
    good_ms: int | None
    message: str
    details: dict[str, Any]

    @property
    def failed(self) -> bool:
        """Tell whether the last one that ended did not end well."""
        return self.ended_ms is not None and self.good_ms != self.ended_ms


def note_began(conn: sqlite3.Connection, name: RunName, now_ms: int) -> None:
    """Write down that a run begins."""
    conn.execute(
        "INSERT INTO last_runs (name, began_ms) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET began_ms = excluded.began_ms, ended_ms = NULL",
        (name, now_ms),
    )


def note_ended(
    conn: sqlite3.Connection, name: RunName, now_ms: int, *, good: bool, message: str = "", **details: Any
) -> None:
    """Write down how a run ended."""
    conn.execute(
        "UPDATE last_runs SET ended_ms = ?1, good_ms = iif(?2, ?1, good_ms), message = ?3, details = ?4 "
        "WHERE name = ?5",
        (now_ms, good, message, json.dumps(details), name),
    )


LAST_RUNS: Final = "SELECT name, began_ms, ended_ms, good_ms, message, details FROM last_runs"


async def last_runs(conn: aiosqlite.Connection) -> dict[str, Run]:
    """Return the last run of each kind, by name."""
    return runs_of(await conn.execute_fetchall(LAST_RUNS))


def runs_of(rows: Iterable[Sequence[Any]]) -> dict[str, Run]:
    """Return what the rows of `LAST_RUNS` say, by name."""
    return {row[0]: Run(row[0], row[1], row[2], row[3], row[4], json.loads(row[5])) for row in rows}


def note_damage(conn: sqlite3.Connection, digest: str, damage: Damage, now_ms: int) -> None:
    """Write down that a blob is not what it should be."""
    conn.execute(
        "INSERT INTO damaged_blobs (digest, damage, found_ms) VALUES (?, ?, ?) "
        "ON CONFLICT (digest) DO UPDATE SET damage = excluded.damage",
        (bytes.fromhex(digest), damage, now_ms),
    )


def note_whole(conn: sqlite3.Connection, digest: str) -> bool:
    """Write down that a blob is whole again; return whether it was not."""
    return conn.execute("DELETE FROM damaged_blobs WHERE digest = ?", (bytes.fromhex(digest),)).rowcount > 0


async def damaged_blobs(conn: aiosqlite.Connection, limit: int) -> list[tuple[str, Damage, int]]:
    """Return damaged blobs, by digest: hex digest, what is wrong, when it was found (Unix ms)."""
    rows = await conn.execute_fetchall(
        "SELECT lower(hex(digest)), damage, found_ms FROM damaged_blobs ORDER BY digest LIMIT ?", (limit,)
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def damaged_count(conn: aiosqlite.Connection) -> int:
    """Return how many blobs are damaged."""
    rows = list(await conn.execute_fetchall("SELECT count(*) FROM damaged_blobs"))
    found: int = rows[0][0]
    return found


async def traces_left(conn: aiosqlite.Connection) -> int:
    """Return how many deletions may have left traces in the database's files."""
    rows = list(await conn.execute_fetchall("SELECT value FROM totals WHERE name = 'traces'"))
    found: int = rows[0][0]
    return found


def take_traces(conn: sqlite3.Connection, count: int) -> None:
    """Write down that the traces of so many deletions are cleared."""
    conn.execute("UPDATE totals SET value = max(0, value - ?) WHERE name = 'traces'", (count,))


# Places that backups went to, by what they are called: one that is empty later is not mounted.
_PLACE = "backup_place:"


def note_backup_place(conn: sqlite3.Connection, place: str, now_ms: int) -> None:
    """Write down that a backup went to a place."""
    conn.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_PLACE + place, str(now_ms)),
    )


async def backup_places(conn: aiosqlite.Connection) -> list[str]:
    """Return the places that backups went to, the last one first."""
    rows = await conn.execute_fetchall(
        "SELECT substr(key, ?) FROM meta WHERE substr(key, 1, ?) = ? ORDER BY CAST(value AS INTEGER) DESC",
        (len(_PLACE) + 1, len(_PLACE), _PLACE),
    )
    return [row[0] for row in rows]


async def created_ms(conn: aiosqlite.Connection) -> int:
    """Return when the database was made (Unix ms)."""
    rows = list(await conn.execute_fetchall("SELECT value FROM meta WHERE key = 'created_ms'"))
    return int(rows[0][0]) if rows else 0


async def counted(conn: aiosqlite.Connection) -> tuple[int, int]:
    """Return how many pictures and how many originals there are, by the sums that are kept."""
    rows = await conn.execute_fetchall("SELECT name, value FROM totals WHERE name IN ('images', 'blobs')")
    found = {row[0]: row[1] for row in rows}
    return found["images"], found["blobs"]
