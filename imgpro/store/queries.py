"""Every SQL statement of imgpro, one small function each; rows become values of `model` here.

Functions that write take the writer's connection and run inside `Database.write`; functions that read are
coroutines on a connection of `Database.reader`. Must not decide anything that is not a matter of one transaction.
"""

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

import aiosqlite
import msgspec

from imgpro.errors import Action, RateLimited, StorageFull
from imgpro.model import Blob, Image
from imgpro.store import durable

UPLOAD_LOG_KEPT_MS: Final = 24 * 3600 * 1000
_IN_CHUNK: Final = 500  # parameters in one IN (...): few statements to keep prepared, far below SQLite's limit

_IMAGE_BY_ID: Final = """
    SELECT i.id, i.name, i.description, i.public, i.created_ms, i.expires_ms, i.display_date, i.origin,
           i.metadata_removed,
           b.digest, b.format, b.stored_bytes, b.width, b.height, b.frames, b.has_alpha, b.placeholder, b.phash
    FROM images i JOIN blobs b ON b.seq = i.blob
    WHERE i.id = ?
"""
_BLOB_BY_DIGEST: Final = """
    SELECT digest, format, stored_bytes, width, height, frames, has_alpha, placeholder, phash
    FROM blobs
    WHERE digest = ?
"""


class UploadLimit(msgspec.Struct, frozen=True):
    """At most `count` uploads within any `window_ms` milliseconds."""

    count: int
    window_ms: int


class Deletion(msgspec.Struct, frozen=True):
    """A picture that is gone. `last`: nothing refers to its blob any more, and the blob's row is gone too."""

    id: str
    digest: str
    last: bool


class Totals(msgspec.Struct, frozen=True):
    """Sums over everything stored. `anonymous_bytes` counts a blob once for each anonymous picture of it."""

    images: int
    blobs: int
    blob_bytes: int
    anonymous_bytes: int


# Pictures


async def image_by_id(conn: aiosqlite.Connection, image_id: str) -> Image | None:
    """Return the picture with this id, expired or not."""
    rows = await conn.execute_fetchall(_IMAGE_BY_ID, (image_id,))
    return next((_image(tuple(row)) for row in rows), None)


def insert_image(
    conn: sqlite3.Connection,
    image: Image,
    network: str | None,
    limits: Sequence[UploadLimit] = (),
    anonymous_bytes_limit: int | None = None,
) -> None:
    """Store a picture, and its blob's facts if they are new, within the limits of its anonymous uploader.

    Check and count are one transaction, so that parallel uploads cannot pass a limit together. With `network`
    None (not anonymous) nothing is checked or logged. Raises RateLimited with the seconds to wait, StorageFull.
    """
    if network is not None:
        check_upload_limits(conn, network, image.created_ms, limits)
        _check_anonymous_bytes(conn, image.blob.stored_bytes, anonymous_bytes_limit)
        log_upload(conn, network, image.created_ms)
    values = (
        image.id,
        _blob_seq(conn, image.blob, image.created_ms),
        image.name,
        image.description,
        image.public,
        image.created_ms,
        image.expires_ms,
        image.display_date,
        image.origin,
        json.dumps(image.metadata_removed),
        network,
    )
    conn.execute(
        "INSERT INTO images (id, blob, name, description, public, created_ms, expires_ms, display_date, origin, "
        "metadata_removed, network) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    durable.point("row.inserted")


def delete_image(conn: sqlite3.Connection, image_id: str) -> Deletion | None:
    """Delete a picture, and its blob's row if no other picture refers to it; None if there is no such picture."""
    row = conn.execute("DELETE FROM images WHERE id = ? RETURNING blob", (image_id,)).fetchone()
    if row is None:
        return None
    (seq,) = row
    digest = conn.execute("SELECT digest FROM blobs WHERE seq = ?", (seq,)).fetchone()[0]
    last = conn.execute("SELECT 1 FROM images WHERE blob = ? LIMIT 1", (seq,)).fetchone() is None
    if last:
        conn.execute("DELETE FROM blobs WHERE seq = ?", (seq,))
    return Deletion(image_id, digest.hex(), last)


async def expired_images(conn: aiosqlite.Connection, now_ms: int, limit: int) -> list[str]:
    """Return ids of pictures that have ended, longest ago first."""
    rows = await conn.execute_fetchall(
        "SELECT id FROM images WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?", (now_ms, limit)
    )
    return [row[0] for row in rows]


def delete_images(conn: sqlite3.Connection, image_ids: Iterable[str]) -> list[Deletion]:
    """Delete pictures; those that are gone already are left out of the answer."""
    return [gone for image_id in image_ids if (gone := delete_image(conn, image_id)) is not None]


def delete_expired(conn: sqlite3.Connection, image_ids: Iterable[str], now_ms: int) -> list[Deletion]:
    """Delete those of the pictures that are expired now: an end may have been moved since they were listed."""
    return delete_images(conn, [image_id for image_id in image_ids if _is_expired(conn, image_id, now_ms)])


def _is_expired(conn: sqlite3.Connection, image_id: str, now_ms: int) -> bool:
    found = conn.execute("SELECT 1 FROM images WHERE id = ? AND expires_ms <= ?", (image_id, now_ms)).fetchone()
    return found is not None


# Blobs


async def blob_by_digest(conn: aiosqlite.Connection, digest: str) -> Blob | None:
    """Return what is known of these bytes, if a picture refers to them."""
    rows = await conn.execute_fetchall(_BLOB_BY_DIGEST, (bytes.fromhex(digest),))
    return next((_blob(tuple(row)) for row in rows), None)


def blob_exists(conn: sqlite3.Connection, digest: str) -> bool:
    """Tell whether a row refers to this blob: the sweeper's last look, in the writer, under the blob's guard."""
    found = conn.execute("SELECT 1 FROM blobs WHERE digest = ?", (bytes.fromhex(digest),)).fetchone()
    return found is not None


async def blob_digests_known(conn: aiosqlite.Connection, digests: Sequence[str]) -> frozenset[str]:
    """Return those of `digests` that have a row; the others are orphans, or about to get one."""
    known: set[str] = set()
    for start in range(0, len(digests), _IN_CHUNK):
        chunk = [bytes.fromhex(digest) for digest in digests[start : start + _IN_CHUNK]]
        marks = ", ".join("?" * len(chunk))
        sql = f"SELECT digest FROM blobs WHERE digest IN ({marks})"
        rows = await conn.execute_fetchall(sql, chunk)
        known.update(row[0].hex() for row in rows)
    return frozenset(known)


def _blob_seq(conn: sqlite3.Connection, blob: Blob, now_ms: int) -> int:
    digest = bytes.fromhex(blob.digest)
    found = conn.execute("SELECT seq FROM blobs WHERE digest = ?", (digest,)).fetchone()
    if found is not None:
        return int(found[0])
    values = (
        digest,
        blob.format,
        blob.stored_bytes,
        blob.width,
        blob.height,
        blob.frames,
        blob.has_alpha,
        blob.placeholder,
        blob.phash,
        now_ms,
    )
    added = conn.execute(
        "INSERT INTO blobs (digest, format, stored_bytes, width, height, frames, has_alpha, placeholder, phash, "
        "created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    return int(added.lastrowid or 0)


# Limits of anonymous callers


def uploads_in_window(conn: sqlite3.Connection, network: str, since_ms: int) -> tuple[int, int | None]:
    """Return how many uploads `network` made after `since_ms`, and when the oldest of them was."""
    count, oldest = conn.execute(
        "SELECT count(*), min(at_ms) FROM upload_log WHERE network = ? AND at_ms > ?", (network, since_ms)
    ).fetchone()
    return count, oldest


def check_upload_limits(conn: sqlite3.Connection, network: str, now_ms: int, limits: Sequence[UploadLimit]) -> None:
    """Raise RateLimited if one more upload would pass a limit; the action says how many seconds to wait."""
    waits = [_wait_ms(limit, now_ms, conn.execute(*_nth_upload(network, now_ms, limit)).fetchone()) for limit in limits]
    _refuse_if(max(waits, default=0))


async def check_upload_limits_early(
    conn: aiosqlite.Connection, network: str, now_ms: int, limits: Sequence[UploadLimit]
) -> None:
    """Do the same on a reader, before a body is taken; `insert_image` has the last word."""
    waits = []
    for limit in limits:
        rows = list(await conn.execute_fetchall(*_nth_upload(network, now_ms, limit)))
        waits.append(_wait_ms(limit, now_ms, tuple(rows[0]) if rows else None))
    _refuse_if(max(waits, default=0))


def _nth_upload(network: str, now_ms: int, limit: UploadLimit) -> tuple[str, tuple[str, int, int]]:
    """Ask when the upload was that must leave the window before another one fits; no row: there is room."""
    return (
        "SELECT at_ms FROM upload_log WHERE network = ? AND at_ms > ? ORDER BY at_ms DESC LIMIT 1 OFFSET ?",
        (network, now_ms - limit.window_ms, max(limit.count - 1, 0)),
    )


def _wait_ms(limit: UploadLimit, now_ms: int, nth: tuple[int] | None) -> int:
    if limit.count <= 0:
        return limit.window_ms
    if nth is None:
        return 0
    # An entry from the future (the clock was set back) makes nobody wait longer than the window.
    return min(nth[0] + limit.window_ms - now_ms, limit.window_ms)


def _refuse_if(wait_ms: int) -> None:
    if wait_ms > 0:
        seconds = math.ceil(wait_ms / 1000)
        raise RateLimited(None, Action("wait", label="Wait, or use an API key", seconds=seconds))


def _check_anonymous_bytes(conn: sqlite3.Connection, wanted_bytes: int, limit_bytes: int | None) -> None:
    if limit_bytes is None:
        return
    (stored,) = conn.execute("SELECT value FROM totals WHERE name = 'anonymous_bytes'").fetchone()
    if stored + wanted_bytes > limit_bytes:
        raise StorageFull("There is no room left for uploads without an account.")


def log_upload(conn: sqlite3.Connection, network: str, at_ms: int) -> None:
    """Count one upload against `network`."""
    conn.execute("INSERT INTO upload_log (network, at_ms) VALUES (?, ?)", (network, at_ms))


def prune_upload_log(conn: sqlite3.Connection, now_ms: int) -> int:
    """Forget uploads older than a day, and those that a wrong clock put into the future; return how many."""
    old = conn.execute("DELETE FROM upload_log WHERE at_ms <= ?", (now_ms - UPLOAD_LOG_KEPT_MS,)).rowcount
    future = conn.execute("DELETE FROM upload_log WHERE at_ms > ?", (now_ms + UPLOAD_LOG_KEPT_MS,)).rowcount
    return old + future


# The clock


async def good_clock_ms(conn: aiosqlite.Connection) -> int | None:
    """Return the last time at which the wall clock was found good; None before the first."""
    rows = list(await conn.execute_fetchall("SELECT value FROM meta WHERE key = 'good_clock_ms'"))
    return int(rows[0][0]) if rows else None


def note_good_clock(conn: sqlite3.Connection, now_ms: int) -> None:
    """Note that the wall clock was found good at `now_ms`."""
    conn.execute(
        "INSERT INTO meta (key, value) VALUES ('good_clock_ms', ?) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (str(now_ms),),
    )


# Sums


async def totals(conn: aiosqlite.Connection) -> Totals:
    """Return the sums, each kept up to date in the transaction that changed it."""
    return _totals([tuple(row) for row in await conn.execute_fetchall("SELECT name, value FROM totals")])


def _totals(rows: Iterable[tuple[str, int]]) -> Totals:
    found = dict(rows)
    return Totals(found["images"], found["blobs"], found["blob_bytes"], found["anonymous_bytes"])


# Rows to values


def _image(row: tuple[Any, ...]) -> Image:
    image_id, name, description, public, created_ms, expires_ms, display_date, origin, removed = row[:9]
    return Image(
        id=image_id,
        blob=_blob(row[9:]),
        name=name,
        description=description,
        public=bool(public),
        created_ms=created_ms,
        expires_ms=expires_ms,
        display_date=display_date,
        origin=origin,
        metadata_removed=tuple(json.loads(removed)),
    )


def _blob(row: tuple[Any, ...]) -> Blob:
    digest, fmt, stored_bytes, width, height, frames, has_alpha, placeholder, phash = row
    return Blob(
        digest=digest.hex(),
        format=fmt,
        stored_bytes=stored_bytes,
        width=width,
        height=height,
        frames=frames,
        has_alpha=bool(has_alpha),
        placeholder=placeholder,
        phash=phash,
    )
