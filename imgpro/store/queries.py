"""Every SQL statement of imgpro, one small function each; rows become values of `model` here.

Functions that write take the writer's connection and run inside `Database.write`; functions that read are
coroutines on a connection of `Database.reader`. Must not decide anything that is not a matter of one transaction.
"""

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import aiosqlite
import msgspec

from imgpro.errors import Action, IdempotencyKeyConflict, NotFound, QuotaExceeded, RateLimited, StorageFull
from imgpro.model import Blob, Image, Principal
from imgpro.store import durable, queries_accounts

MAX_TAGS: Final = 10
UPLOAD_LOG_KEPT_MS: Final = 24 * 3600 * 1000
_IN_CHUNK: Final = 500  # parameters in one IN (...): few statements to keep prepared, far below SQLite's limit

REPLAYS_KEPT_MS: Final = 24 * 3600 * 1000
_AHEAD_MS: Final = 60_000  # by which one upload's time may be ahead of another's that looks at it

IMAGE_COLUMNS: Final = """
    i.id, i.name, i.description, i.public, i.created_ms, i.expires_ms, i.display_date, i.origin, i.metadata_removed,
    i.wanted_end_ms, i.account, i.key, i.namespace, i.tags,
    b.digest, b.format, b.stored_bytes, b.width, b.height, b.frames, b.has_alpha, b.placeholder, b.phash
"""
_IMAGE_BY_ID: Final = f"""
    SELECT {IMAGE_COLUMNS}
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


class Allowance(msgspec.Struct, frozen=True):
    """What an account may still store: uploads in `month` (e.g. `2026-11`) and bytes in all. None: any number."""

    month: str
    uploads: int | None
    storage_bytes: int | None


class Replay(msgspec.Struct, frozen=True):
    """An answer to be given again to the same `caller` and idempotency `key`; `fingerprint` is that of its request."""

    caller: str
    key: str
    fingerprint: bytes
    image: str
    answer: bytes


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be changed about a picture; UNSET leaves a field as it is.

    `tags` are put in place of, added to or taken from those that are there, by `tag_mode`. `ttl_s` counts from now;
    None takes the wanted end away, so that only the plan's remains.
    """

    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    public: bool | msgspec.UnsetType = msgspec.UNSET
    namespace: str | msgspec.UnsetType | None = msgspec.UNSET
    display_date: str | msgspec.UnsetType | None = msgspec.UNSET
    ttl_s: int | msgspec.UnsetType | None = msgspec.UNSET
    tags: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    tag_mode: Literal["replace", "add", "remove"] = "replace"


class Deletion(msgspec.Struct, frozen=True):
    """A picture that is gone. `last`: nothing refers to its blob any more, and the blob's row is gone too."""

    id: str
    digest: str
    last: bool
    account: int | None  # whose it was
    key: int | None


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
    return next((image_of(tuple(row)) for row in rows), None)


def insert_image(
    conn: sqlite3.Connection,
    image: Image,
    network: str | None,
    limits: Sequence[UploadLimit] = (),
    anonymous_bytes_limit: int | None = None,
    *,
    allowance: Allowance | None = None,
    replay: Replay | None = None,
    ticket: bytes | None = None,
    blob_ms: int | None = None,
) -> int:
    """Store a picture, and its blob's facts if they are new, within the limits of its uploader.

    Check and count are one transaction: parallel uploads cannot pass a limit together. An anonymous picture (`network`
    given) is held to `limits` and the common ceiling, others to `allowance`. `replay` is stored with it, and the upload
    `ticket` (its hash) used up. `blob_ms` is when its bytes came, where that is not its own time. Returns its number.

    Raises RateLimited with the seconds to wait, StorageFull, QuotaExceeded (bare: the caller knows the plan), NotFound
    for a ticket that is used or was ended, IdempotencyKeyConflict.
    """
    if ticket is not None and not queries_accounts.use_link(conn, ticket, "ticket", image.created_ms):
        raise NotFound("This upload ticket was used already or has ended.")
    if network is not None:
        check_upload_limits(conn, network, image.created_ms, limits)
        _check_anonymous_bytes(conn, image.blob.stored_bytes, anonymous_bytes_limit)
        log_upload(conn, network, image.created_ms)
    elif image.account is not None and allowance is not None:
        _take_allowance(conn, image.account, image.key, image.blob.stored_bytes, allowance)
    seq = _insert_row(conn, image, _blob_seq(conn, image.blob, blob_ms or image.created_ms), network)
    _make_findable(conn, image, seq)
    conn.execute("DELETE FROM damaged_blobs WHERE digest = ?", (bytes.fromhex(image.blob.digest),))  # it is whole now
    if replay is not None:
        insert_replay(conn, replay, image.created_ms)
    durable.point("row.inserted")
    return seq


def _insert_row(conn: sqlite3.Connection, image: Image, blob: int, network: str | None) -> int:
    values = (
        image.id,
        blob,
        image.blob.format,
        image.blob.stored_bytes,
        image.name,
        image.description,
        image.public,
        image.created_ms,
        image.expires_ms,
        image.wanted_end_ms,
        image.display_date,
        image.origin,
        json.dumps(image.metadata_removed),
        network,
        image.account,
        image.key,
        image.namespace,
        _tags_text(image.tags),
    )
    added = conn.execute(
        "INSERT INTO images (id, blob, format, stored_bytes, name, description, public, created_ms, expires_ms, "
        "wanted_end_ms, display_date, origin, metadata_removed, network, account, key, namespace, tags) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    return int(added.lastrowid or 0)


def _make_findable(conn: sqlite3.Connection, image: Image, seq: int) -> None:
    if image.account is not None:
        _add_tags(conn, image, seq, image.tags)
        _index_text(conn, image, seq)


def update_image(
    conn: sqlite3.Connection,
    image_id: str,
    principal: Principal,
    changes: Changes,
    now_ms: int,
    retention_s: int | None,
) -> Image | None:
    """Change a picture of this principal's and return it as it is now; None if there is none such.

    `retention_s` is the plan's. More than `MAX_TAGS` tags raise ValueError.
    """
    found = conn.execute(_IMAGE_BY_ID, (image_id,)).fetchone()
    before = image_of(found) if found is not None else None
    if before is None or before.expired(now_ms) or not principal.owns(before):
        return None
    after = _changed(before, changes, now_ms, retention_s)
    (seq,) = conn.execute("SELECT seq FROM images WHERE id = ?", (image_id,)).fetchone()
    _unindex_text(conn, before, seq)
    conn.execute(
        "UPDATE images SET name = ?, description = ?, public = ?, namespace = ?, display_date = ?, expires_ms = ?, "
        "wanted_end_ms = ?, tags = ? WHERE seq = ?",
        (
            after.name,
            after.description,
            after.public,
            after.namespace,
            after.display_date,
            after.expires_ms,
            after.wanted_end_ms,
            _tags_text(after.tags),
            seq,
        ),
    )
    gone = [tag for tag in before.tags if tag not in after.tags]
    conn.executemany("DELETE FROM image_tags WHERE image = ? AND tag = ?", [(seq, tag) for tag in gone])
    _add_tags(conn, after, seq, [tag for tag in after.tags if tag not in before.tags])
    _index_text(conn, after, seq)
    return after


def _changed(before: Image, changes: Changes, now_ms: int, retention_s: int | None) -> Image:
    values = {
        name: value
        for name in ("name", "description", "public", "namespace", "display_date")
        if (value := getattr(changes, name)) is not msgspec.UNSET
    }
    if changes.tags is not msgspec.UNSET:
        values["tags"] = _merged(before.tags, changes.tags, changes.tag_mode)
    if changes.ttl_s is not msgspec.UNSET:
        # A clock that was set back may say that it is before the picture's time.
        begin_ms = max(now_ms, before.created_ms)
        wanted_ms = None if changes.ttl_s is None else begin_ms + changes.ttl_s * 1000
        values["wanted_end_ms"] = wanted_ms
        values["expires_ms"] = end_ms(before.created_ms, wanted_ms, retention_s)
    return msgspec.structs.replace(before, **values)


def _merged(before: tuple[str, ...], given: tuple[str, ...], mode: str) -> tuple[str, ...]:
    if mode == "remove":
        return tuple(tag for tag in before if tag not in given)
    merged = tuple(dict.fromkeys((*before, *given) if mode == "add" else given))
    if len(merged) > MAX_TAGS:
        raise ValueError(f"A picture has at most {MAX_TAGS} tags.")
    return merged


def end_ms(created_ms: int, wanted_ms: int | None, retention_s: int | None) -> int | None:
    """Return when a picture ends: the wanted end or the plan's, whichever comes first."""
    kept_ms = None if retention_s is None else created_ms + retention_s * 1000
    return min((end for end in (wanted_ms, kept_ms) if end is not None), default=None)


def _tags_text(tags: Iterable[str]) -> str:
    return json.dumps(list(tags), ensure_ascii=False)


def _add_tags(conn: sqlite3.Connection, image: Image, seq: int, tags: Iterable[str]) -> None:
    conn.executemany(
        "INSERT INTO image_tags (account, tag, created_ms, image, stored_bytes) VALUES (?, ?, ?, ?, ?)",
        [(image.account, tag, image.created_ms, seq, image.blob.stored_bytes) for tag in tags],
    )


def _index_text(conn: sqlite3.Connection, image: Image, seq: int) -> None:
    conn.execute(
        "INSERT INTO images_text (rowid, owner, name, description, tags) VALUES (?, ?, ?, ?, ?)", _text(image, seq)
    )


def _unindex_text(conn: sqlite3.Connection, image: Image, seq: int) -> None:
    """Take a picture's words out of the index, which has no copy of them: they must be those that went in."""
    conn.execute(
        "INSERT INTO images_text (images_text, rowid, owner, name, description, tags) VALUES ('delete', ?, ?, ?, ?, ?)",
        _text(image, seq),
    )


def _text(image: Image, seq: int) -> tuple[int, str, str, str, str]:
    return seq, f"a{image.account}", image.name, image.description, _tags_text(image.tags)


def _take_allowance(
    conn: sqlite3.Connection, account: int, key: int | None, wanted_bytes: int, allowance: Allowance
) -> None:
    """Count one upload against an account. Raises QuotaExceeded."""
    (stored,) = conn.execute("SELECT stored_bytes FROM accounts WHERE seq = ?", (account,)).fetchone()
    if allowance.storage_bytes is not None and stored + wanted_bytes > allowance.storage_bytes:
        raise QuotaExceeded("storage")
    conn.execute(
        "INSERT INTO monthly_uploads (account, month, key, uploads) VALUES (?, ?, ?, 1) "
        "ON CONFLICT (account, month, key) DO UPDATE SET uploads = uploads + 1",
        (account, allowance.month, key or 0),
    )
    (used,) = conn.execute(
        "SELECT sum(uploads) FROM monthly_uploads WHERE account = ? AND month = ?", (account, allowance.month)
    ).fetchone()
    if allowance.uploads is not None and used > allowance.uploads:
        raise QuotaExceeded("uploads")


def delete_image(conn: sqlite3.Connection, image_id: str) -> Deletion | None:
    """Delete a picture, and its blob's row if no other picture refers to it; None if there is no such picture."""
    found = conn.execute(_IMAGE_BY_ID, (image_id,)).fetchone()
    if found is None:
        return None
    image = image_of(found)
    (image_seq, seq) = conn.execute("SELECT seq, blob FROM images WHERE id = ?", (image_id,)).fetchone()
    if image.account is not None:
        _unindex_text(conn, image, image_seq)
    conn.execute("DELETE FROM images WHERE seq = ?", (image_seq,))
    # An answer that is kept for repeated requests shows the picture, small and blurred.
    conn.execute("DELETE FROM replays WHERE image = ?", (image_id,))
    digest = conn.execute("SELECT digest FROM blobs WHERE seq = ?", (seq,)).fetchone()[0]
    last = conn.execute("SELECT 1 FROM images WHERE blob = ? LIMIT 1", (seq,)).fetchone() is None
    if last:
        conn.execute("DELETE FROM blobs WHERE seq = ?", (seq,))
        conn.execute("DELETE FROM damaged_blobs WHERE digest = ?", (digest,))
    return Deletion(image_id, digest.hex(), last, image.account, image.key)


def delete_owned(
    conn: sqlite3.Connection, image_ids: Iterable[str], principal: Principal, now_ms: int
) -> list[Deletion]:
    """Delete those of the pictures that are this principal's; an operator's are all."""
    deletions = []
    for image_id in image_ids:
        found = conn.execute(_IMAGE_BY_ID, (image_id,)).fetchone()
        image = image_of(found) if found is not None else None
        if image is None or image.expired(now_ms):
            continue
        if principal.owns(image) or (principal.account.role == "operator" and principal.own_key_only is None):
            deletions.append(delete_image(conn, image_id))
    return [gone for gone in deletions if gone is not None]


def disown_images(conn: sqlite3.Connection, key: int) -> list[str]:
    """Take the pictures that a key brought out of its account; return their ids.

    They belong to nobody then, and keep their links and their end.
    """
    rows = conn.execute(
        f"SELECT {IMAGE_COLUMNS}, i.seq FROM images i JOIN blobs b ON b.seq = i.blob "
        "WHERE i.key = ? AND i.account IS NOT NULL",
        (key,),
    ).fetchall()
    for row in rows:
        _unindex_text(conn, image_of(row[:-1]), row[-1])
        conn.execute("DELETE FROM image_tags WHERE image = ?", (row[-1],))
        conn.execute(
            "UPDATE images SET account = NULL, key = NULL, namespace = NULL, tags = '[]', wanted_end_ms = expires_ms "
            "WHERE seq = ?",
            (row[-1],),
        )
    return [row[0] for row in rows]


async def expired_images(conn: aiosqlite.Connection, now_ms: int, limit: int) -> list[str]:
    """Return ids of pictures that have ended, longest ago first."""
    rows = await conn.execute_fetchall(
        "SELECT id FROM images WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?", (now_ms, limit)
    )
    return [row[0] for row in rows]


def postpone_ends(conn: sqlite3.Connection, image_ids: Iterable[str], begin_ms: int) -> None:
    """Let pictures end as long after `begin_ms` as they would have ended after their upload."""
    conn.executemany(
        "UPDATE images SET expires_ms = expires_ms - created_ms + ?, wanted_end_ms = wanted_end_ms - created_ms + ? "
        "WHERE id = ?",
        [(begin_ms, begin_ms, image_id) for image_id in image_ids],
    )


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


def _nth_upload(network: str, now_ms: int, limit: UploadLimit) -> tuple[str, tuple[str, int, int, int]]:
    """Ask when the upload was that must leave the window before another one fits; no row: there is room.

    Uploads from the future were made before the clock was set back, and count no more.
    """
    return (
        "SELECT at_ms FROM upload_log WHERE network = ? AND at_ms BETWEEN ? AND ? ORDER BY at_ms DESC LIMIT 1 OFFSET ?",
        (network, now_ms - limit.window_ms + 1, now_ms + _AHEAD_MS, max(limit.count - 1, 0)),
    )


def _wait_ms(limit: UploadLimit, now_ms: int, nth: tuple[int] | None) -> int:
    if limit.count <= 0:
        return limit.window_ms
    if nth is None:
        return 0
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


# Repeated requests


async def replay_by_key(conn: aiosqlite.Connection, caller: str, key: str, now_ms: int) -> Replay | None:
    """Return the answer that this caller got for this idempotency key within a day."""
    rows = await conn.execute_fetchall(
        "SELECT caller, key, fingerprint, image, answer FROM replays WHERE caller = ? AND key = ? AND created_ms > ?",
        (caller, key, now_ms - REPLAYS_KEPT_MS),
    )
    return next((Replay(*row) for row in rows), None)


def insert_replay(conn: sqlite3.Connection, replay: Replay, now_ms: int) -> None:
    """Keep an answer for a day. Raises IdempotencyKeyConflict if its key has one already."""
    conn.execute(
        "DELETE FROM replays WHERE caller = ? AND key = ? AND created_ms <= ?",
        (replay.caller, replay.key, now_ms - REPLAYS_KEPT_MS),
    )
    try:
        conn.execute(
            "INSERT INTO replays (caller, key, fingerprint, image, answer, created_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (replay.caller, replay.key, replay.fingerprint, replay.image, replay.answer, now_ms),
        )
    except sqlite3.IntegrityError:
        raise IdempotencyKeyConflict() from None


def prune_replays(conn: sqlite3.Connection, now_ms: int) -> int:
    """Forget answers older than a day, and those that a wrong clock put into the future; return how many."""
    limits = now_ms - REPLAYS_KEPT_MS, now_ms + REPLAYS_KEPT_MS
    return conn.execute("DELETE FROM replays WHERE created_ms <= ? OR created_ms > ?", limits).rowcount


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
    return Totals(*(found.get(name, 0) for name in ("images", "blobs", "blob_bytes", "anonymous_bytes")))


# Rows to values


def image_of(row: tuple[Any, ...]) -> Image:
    """Return the picture of a row of `IMAGE_COLUMNS`."""
    image_id, name, description, public, created_ms, expires_ms, display_date, origin, removed = row[:9]
    wanted_end_ms, account, key, namespace, tags = row[9:14]
    return Image(
        id=image_id,
        blob=_blob(row[14:]),
        name=name,
        description=description,
        public=bool(public),
        created_ms=created_ms,
        expires_ms=expires_ms,
        display_date=display_date,
        origin=origin,
        metadata_removed=tuple(json.loads(removed)),
        wanted_end_ms=wanted_end_ms,
        account=account,
        key=key,
        namespace=namespace,
        tags=tuple(json.loads(tags)),
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
