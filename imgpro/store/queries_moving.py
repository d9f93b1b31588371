"""SQL about pictures that came from elsewhere: what was brought already, and the addresses that they had there."""

import sqlite3
from collections.abc import Sequence

import aiosqlite
import msgspec

from imgpro.model import LeadsTo, OldLink


class Led(msgspec.Struct, frozen=True):
    """Where an old address leads: the id of a picture, and to what of it."""

    path: str
    image: str
    leads_to: LeadsTo


def note_brought(conn: sqlite3.Connection, source: str, item: str, image_seq: int) -> None:
    """Write down that a picture has come from there."""
    conn.execute("INSERT INTO brought_in (source, item, image) VALUES (?, ?, ?)", (source, item, image_seq))


def brought(conn: sqlite3.Connection, source: str, item: str) -> str | None:
    """Return the id of the picture that an item became."""
    found = conn.execute(
        "SELECT i.id FROM brought_in b JOIN images i ON i.seq = b.image WHERE b.source = ? AND b.item = ?",
        (source, item),
    ).fetchone()
    return None if found is None else str(found[0])


async def brought_items(conn: aiosqlite.Connection, source: str, items: Sequence[str]) -> dict[str, str]:
    """Return which of a few hundred items have been brought: item to picture id."""
    rows = await conn.execute_fetchall(
        "SELECT b.item, i.id FROM brought_in b JOIN images i ON i.seq = b.image "
        f"WHERE b.source = ? AND b.item IN ({_marks(items)})",
        (source, *items),
    )
    return {row[0]: row[1] for row in rows}


def digest_of(conn: sqlite3.Connection, image_id: str) -> str | None:
    """Return the digest (hex) of the picture that has an id."""
    found = conn.execute(
        "SELECT b.digest FROM images i JOIN blobs b ON b.seq = i.blob WHERE i.id = ?", (image_id,)
    ).fetchone()
    return None if found is None else bytes(found[0]).hex()


async def digests_of(conn: aiosqlite.Connection, image_ids: Sequence[str]) -> dict[str, str]:
    """Return the digests (hex) of those of a few hundred pictures that are there, by id."""
    rows = await conn.execute_fetchall(
        f"SELECT i.id, lower(hex(b.digest)) FROM images i JOIN blobs b ON b.seq = i.blob WHERE i.id IN "
        f"({_marks(image_ids)})",
        tuple(image_ids),
    )
    return {row[0]: row[1] for row in rows}


async def known_digests(conn: aiosqlite.Connection, digests: Sequence[str]) -> set[str]:
    """Return those of a few hundred digests (hex) whose bytes are stored."""
    rows = await conn.execute_fetchall(
        f"SELECT lower(hex(digest)) FROM blobs WHERE digest IN ({_marks(digests)})",
        tuple(bytes.fromhex(digest) for digest in digests),
    )
    return {row[0] for row in rows}


def add_old_link(conn: sqlite3.Connection, link: OldLink, image_seq: int) -> bool:
    """Have an old address lead to a picture; False where it leads to another already."""
    conn.execute(
        "INSERT INTO old_links (path, image, leads_to) VALUES (?, ?, ?) ON CONFLICT (path) DO NOTHING",
        (link.path, image_seq, link.leads_to),
    )
    (owner,) = conn.execute("SELECT image FROM old_links WHERE path = ?", (link.path,)).fetchone()
    return bool(owner == image_seq)


def add_old_link_to(conn: sqlite3.Connection, link: OldLink, image_id: str) -> bool:
    """Have an old address lead to a picture; False where it leads somewhere already, or the picture is gone."""
    added = conn.execute(
        "INSERT INTO old_links (path, image, leads_to) SELECT ?, seq, ? FROM images WHERE id = ? "
        "ON CONFLICT (path) DO NOTHING",
        (link.path, link.leads_to, image_id),
    )
    return added.rowcount > 0


async def led(conn: aiosqlite.Connection, paths: Sequence[str]) -> list[Led]:
    """Return where those of a few hundred old addresses lead that lead anywhere."""
    rows = await conn.execute_fetchall(
        "SELECT o.path, i.id, o.leads_to FROM old_links o JOIN images i ON i.seq = o.image "
        f"WHERE o.path IN ({_marks(paths)})",
        tuple(paths),
    )
    return [Led(row[0], row[1], row[2]) for row in rows]


async def has_old_links(conn: aiosqlite.Connection) -> bool:
    """Tell whether there are any."""
    return bool(list(await conn.execute_fetchall("SELECT 1 FROM old_links LIMIT 1")))


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
