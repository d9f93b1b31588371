"""Databases of earlier versions, filled as those versions filled them, and opened by this one."""

import contextlib
import json
import sqlite3

import pytest

from imgpro.store import queries, queries_accounts, queries_operator, schema
from imgpro.store.db import Database
from imgpro.store.queries_accounts import Link
from imgpro.store.queries_operator import Growth
from tests.samples import NOW_MS, sample_blob, sample_image

FIRST = schema.packaged_migrations()[:1]
SECOND = schema.packaged_migrations()[:2]


def fill_first(conn: sqlite3.Connection) -> dict[str, dict]:
    """Store pictures the way schema 1 did; return what was stored, by id."""
    stored = {}
    rows = [
        ("anonymous000", b"a", "192.0.2.1", NOW_MS + 86_400_000, True),
        ("anonymous001", b"a", "2001:db8::/64", None, False),
        ("anonymous002", b"bb", "192.0.2.1", None, True),
        ("nobodys00000", b"ccc", None, None, True),
        ("deleted00000", b"d", "192.0.2.1", None, True),
    ]
    for image_id, content, network, expires_ms, public in rows:
        blob = sample_blob(content)
        conn.execute(
            "INSERT INTO blobs (digest, format, stored_bytes, width, height, frames, has_alpha, placeholder, phash, "
            "created_ms) VALUES (?, ?, ?, 4, 3, 1, 0, 'data:,', 7, ?) ON CONFLICT DO NOTHING",
            (bytes.fromhex(blob.digest), blob.format, len(content), NOW_MS),
        )
        (seq,) = conn.execute("SELECT seq FROM blobs WHERE digest = ?", (bytes.fromhex(blob.digest),)).fetchone()
        conn.execute(
            "INSERT INTO images (id, blob, name, description, public, created_ms, expires_ms, display_date, origin, "
            "metadata_removed, network) VALUES (?, ?, 'näme.jpg', 'words', ?, ?, ?, '2026-01-01', 'import', ?, ?)",
            (image_id, seq, public, NOW_MS, expires_ms, json.dumps(["gps"]), network),
        )
        stored[image_id] = {"digest": blob.digest, "expires_ms": expires_ms, "public": public, "bytes": len(content)}
    conn.execute("DELETE FROM images WHERE id = 'deleted00000'")
    del stored["deleted00000"]
    conn.execute("INSERT INTO upload_log (network, at_ms) VALUES ('192.0.2.1', ?)", (NOW_MS,))
    return stored


async def test_schema_1_is_taken_over_whole(tmp_path):
    path = tmp_path / "imgpro.db"
    database = await Database.open(path, tmp_path, "test", "0", FIRST)
    stored = await database.write(fill_first)
    before = await database.write(lambda conn: conn.execute("SELECT name, value FROM totals ORDER BY name").fetchall())
    await database.close()

    database = await Database.open(path, tmp_path, "test", "1")
    async with database.reader() as conn:
        for image_id, facts in stored.items():
            image = await queries.image_by_id(conn, image_id)
            assert image is not None
            assert (image.blob.digest, image.public) == (facts["digest"], facts["public"])
            # The end of a picture that belongs to nobody is final.
            assert image.expires_ms == image.wanted_end_ms == facts["expires_ms"]
            assert (image.name, image.description, image.display_date) == ("näme.jpg", "words", "2026-01-01")
            assert (image.origin, image.metadata_removed) == ("import", ("gps",))
            assert (image.account, image.key, image.namespace, image.tags) == (None, None, None, ())
    after = await database.write(lambda conn: conn.execute("SELECT name, value FROM totals ORDER BY name").fetchall())
    assert after == sorted([*before, ("traces", 1)])  # of what was deleted before, to be cleared
    # Numbers are not given twice, limits go on counting, and what was stored can be deleted.
    await database.write(lambda conn: queries.insert_image(conn, sample_image(b"new"), None))
    seqs = await database.write(lambda conn: [row[0] for row in conn.execute("SELECT seq FROM images ORDER BY seq")])
    assert seqs == [1, 2, 3, 4, 6]
    assert (await database.write(lambda conn: queries.uploads_in_window(conn, "192.0.2.1", 0)))[0] == 1
    gone = await database.write(lambda conn: queries.delete_images(conn, list(stored)))
    assert [deletion.last for deletion in gone] == [False, True, True, True]
    totals = dict(await database.write(lambda conn: conn.execute("SELECT name, value FROM totals").fetchall()))
    assert totals == {"images": 1, "blobs": 2, "blob_bytes": 4, "anonymous_bytes": 0, "traces": 5}
    await database.close()
    (copy,) = tmp_path.glob(f"pre-migrate-1-{schema.packaged_migrations()[-1].version}-*.db")
    with sqlite3.connect(copy) as conn:
        assert conn.execute("PRAGMA user_version").fetchone() == (1,)
        assert conn.execute("SELECT count(*) FROM images").fetchone() == (4,)
    conn.close()


async def test_an_empty_schema_1_is_taken_over_too(tmp_path):
    path = tmp_path / "imgpro.db"
    await (await Database.open(path, tmp_path, "test", "0", FIRST)).close()
    database = await Database.open(path, tmp_path, "test", "1")
    image = sample_image()
    await database.write(lambda conn: queries.insert_image(conn, image, None))
    assert await database.write(lambda conn: conn.execute("SELECT seq FROM images").fetchall()) == [(1,)]
    await database.close()


def fill_second(conn: sqlite3.Connection) -> None:
    """Store accounts, keys, links, sessions and pictures the way schema 2 did."""
    conn.execute(
        "INSERT INTO accounts (seq, id, email, role, plan, created_ms, verified_ms) "
        "VALUES (7, 'acc_a', 'ann@example.org', 'member', 'pro', ?, ?)",
        (NOW_MS, NOW_MS),
    )
    conn.execute(
        "INSERT INTO keys (seq, id, account, hash, name, abilities, network, created_ms) "
        "VALUES (3, 'key_a', 7, ?, 'Laptop', 'read,write', '192.0.2.1', ?)",
        (b"k" * 32, NOW_MS),
    )
    for number, (purpose, account, key) in enumerate(
        (("verify", 7, 3), ("verify", 7, None), ("setup", None, None), ("invite", None, None), ("ticket", 7, 3))
    ):
        conn.execute(
            "INSERT INTO links (hash, purpose, account, key, email, details, created_ms, expires_ms) "
            "VALUES (?, ?, ?, ?, 'e@example.org', '{}', ?, ?)",
            (bytes([number]) * 32, purpose, account, key, NOW_MS, NOW_MS + 1_000),
        )
    conn.execute(
        "INSERT INTO sessions (hash, account, key, created_ms, expires_ms) VALUES (?, 7, 3, ?, ?)",
        (b"s" * 32, NOW_MS, NOW_MS + 1_000),
    )
    for content, day in ((b"a", 0), (b"bb", 0), (b"ccc", 5)):
        blob = sample_blob(content)
        conn.execute(
            "INSERT INTO blobs (digest, format, stored_bytes, width, height, frames, has_alpha, placeholder, created_ms) "
            "VALUES (?, 'jpeg', ?, 4, 3, 1, 0, 'data:,', ?)",
            (bytes.fromhex(blob.digest), len(content), NOW_MS + day * 86_400_000),
        )


async def test_schema_2_is_taken_over_whole(tmp_path):
    path = tmp_path / "imgpro.db"
    links = "SELECT hash, purpose, account, key, email, details, created_ms, expires_ms FROM links ORDER BY hash"
    database = await Database.open(path, tmp_path, "test", "0", SECOND)
    await database.write(fill_second)
    before = await database.write(lambda conn: conn.execute(links).fetchall())
    await database.close()

    async with contextlib.AsyncExitStack() as parts:
        database = await Database.open(path, tmp_path, "test", "1")
        parts.push_async_callback(database.close)
        assert await database.write(lambda conn: conn.execute(links).fetchall()) == before
        async with database.reader() as conn:
            account = await queries_accounts.account_by_session(conn, b"s" * 32, NOW_MS)
            assert account is not None
            (session,) = await queries_accounts.sessions_of_account(conn, account.seq, NOW_MS)
            assert (session.key_name, session.browser, session.seen_ms) == ("Laptop", "", 0)
            day = NOW_MS // 86_400_000
            assert await queries_operator.growth(conn, 0) == [Growth(day, 2, 3, 0), Growth(day + 5, 1, 3, 0)]
        # The new purpose is taken, others are refused as before, and a link still goes with its key and its account.
        link = Link(hash=b"n" * 32, purpose="signin", account=7, expires_ms=NOW_MS + 1_000)
        await database.write(lambda conn: queries_accounts.insert_link(conn, link, NOW_MS))
        with pytest.raises(sqlite3.IntegrityError):
            await database.write(lambda conn: conn.execute("UPDATE links SET purpose = 'other'"))
        await database.write(lambda conn: queries_accounts.revoke_keys(conn, 7, [3], NOW_MS))
        await database.write(lambda conn: conn.execute("DELETE FROM accounts WHERE seq = 7"))
        left = await database.write(lambda conn: conn.execute("SELECT purpose FROM links ORDER BY purpose").fetchall())
        assert left == [("invite",), ("setup",)]
        assert await database.write(lambda conn: conn.execute("SELECT count(*) FROM sessions").fetchone()) == (0,)


async def test_a_migrated_database_is_a_fresh_one(tmp_path):
    """Table by table and trigger by trigger: nobody can tell how a database came to its schema."""
    described = []
    for name, steps in (("fresh", None), ("first", FIRST), ("second", SECOND)):
        folder = tmp_path / name
        folder.mkdir()
        if steps:
            await (await Database.open(folder / "imgpro.db", folder, "test", "0", steps)).close()
        database = await Database.open(folder / "imgpro.db", folder, "test", "1")
        sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY 1, 2"
        described.append(await database.write(lambda conn, q=sql: conn.execute(q).fetchall()))
        await database.close()
    assert described[0] == described[1] == described[2]
