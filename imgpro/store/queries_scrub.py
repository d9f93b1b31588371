"""SQL of reading originals again: in which order, how far a round has come, and which pictures a bad one is of.

The rules of `queries` hold here.
"""

import sqlite3
from typing import Final

import aiosqlite
import msgspec

from imgpro.store.queries_keeping import Damage

START: Final = ""
_STATE: Final = "scrub"


class Round(msgspec.Struct, frozen=True):
    """How far a round has come: the last digest read (hex), what was read and found so far, when it began (Unix ms)."""

    began_ms: int
    cursor: str = START
    checked: int = 0
    bytes: int = 0
    bad: int = 0
    healed: int = 0


class Named(msgspec.Struct, frozen=True):
    """The pictures that share a blob: how many, and id and name of the first few."""

    count: int
    first: tuple[tuple[str, str], ...]


async def digests_after(conn: aiosqlite.Connection, digest: str, limit: int) -> list[tuple[str, int]]:
    """Return blobs and their bytes in the order of digests, those after `digest` (hex; empty: from the first)."""
    rows = await conn.execute_fetchall(
        "SELECT digest, stored_bytes FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?",
        (bytes.fromhex(digest), limit),
    )
    return [(row[0].hex(), row[1]) for row in rows]


def stored_bytes(conn: sqlite3.Connection, digest: str) -> int | None:
    """Return how many bytes a blob should have; None if no row refers to it: the last look, in the writer."""
    row = conn.execute("SELECT stored_bytes FROM blobs WHERE digest = ?", (bytes.fromhex(digest),)).fetchone()
    return None if row is None else int(row[0])


async def round_under_way(conn: aiosqlite.Connection) -> Round | None:
    """Return how far the round has come that is under way; None between two rounds."""
    rows = list(await conn.execute_fetchall("SELECT value FROM meta WHERE key = ?", (_STATE,)))
    try:
        return msgspec.json.decode(rows[0][0], type=Round) if rows else None
    except msgspec.MsgspecError:  # of another version: a round that begins anew is no loss
        return None


def note_round(conn: sqlite3.Connection, found: Round | None) -> None:
    """Write down how far a round has come; None: it is over."""
    if found is None:
        conn.execute("DELETE FROM meta WHERE key = ?", (_STATE,))
        return
    conn.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_STATE, msgspec.json.encode(found).decode()),
    )


async def images_of(conn: aiosqlite.Connection, digest: str, after: str, limit: int) -> list[tuple[str, str]]:
    """Return id and name of pictures that share a blob, in the order of their ids, those after the id `after`."""
    rows = await conn.execute_fetchall(
        "SELECT i.id, i.name FROM images i JOIN blobs b ON b.seq = i.blob WHERE b.digest = ? AND i.id > ? "
        "ORDER BY i.id LIMIT ?",
        (bytes.fromhex(digest), after, limit),
    )
    return [(row[0], row[1]) for row in rows]


async def named(conn: aiosqlite.Connection, digest: str) -> Named:
    """Return which pictures share a blob."""
    counted = list(
        await conn.execute_fetchall(
            "SELECT count(*) FROM images i JOIN blobs b ON b.seq = i.blob WHERE b.digest = ?", (bytes.fromhex(digest),)
        )
    )
    return Named(counted[0][0], tuple(await images_of(conn, digest, "", 3)))


async def damage_of(conn: aiosqlite.Connection, digest: str) -> Damage | None:
    """Return what is known to be wrong with a blob."""
    rows = list(
        await conn.execute_fetchall("SELECT damage FROM damaged_blobs WHERE digest = ?", (bytes.fromhex(digest),))
    )
    found: Damage | None = rows[0][0] if rows else None
    return found


async def damaged_after(conn: aiosqlite.Connection, digest: str, limit: int) -> list[str]:
    """Return the hex digests of blobs that are noted as damaged, those after `digest`."""
    rows = await conn.execute_fetchall(
        "SELECT digest FROM damaged_blobs WHERE digest > ? ORDER BY digest LIMIT ?", (bytes.fromhex(digest), limit)
    )
    return [row[0].hex() for row in rows]
