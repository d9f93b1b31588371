"""Every statement against a real database: values round the trip, limits are exact, sums agree, plans use indexes."""

import asyncio
import sqlite3

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.errors import RateLimited, StorageFull
from imgpro.store import queries, schema
from imgpro.store.db import Database
from imgpro.store.queries import Totals, UploadLimit
from tests.samples import NOW_MS, sample_blob, sample_image

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LIMITS = (UploadLimit(3, HOUR_MS), UploadLimit(5, DAY_MS))
NET = "192.0.2.7"


@pytest.fixture
async def db(tmp_path):
    (tmp_path / "backups").mkdir()
    db = await Database.open(tmp_path / "imgpro.db", tmp_path / "backups", "instance", "1.0")
    yield db
    await db.write(check_sums)
    await db.close()


def check_sums(conn: sqlite3.Connection) -> None:
    """Recount what the triggers keep."""
    counted = conn.execute(
        "SELECT (SELECT count(*) FROM images), count(*), coalesce(sum(stored_bytes), 0), (SELECT "
        "coalesce(sum(b.stored_bytes), 0) FROM images i JOIN blobs b ON b.seq = i.blob WHERE i.network IS NOT NULL) "
        "FROM blobs"
    ).fetchone()
    names = ("images", "blobs", "blob_bytes", "anonymous_bytes")
    kept = dict(conn.execute("SELECT name, value FROM totals"))
    assert tuple(kept[name] for name in names) == counted
    assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
    orphans = "SELECT count(*) FROM blobs WHERE seq NOT IN (SELECT blob FROM images)"
    assert conn.execute(orphans).fetchone() == (0,)


async def insert(db, image, network=None, limits=(), ceiling=None):
    await db.write(lambda conn: queries.insert_image(conn, image, network, limits, ceiling))
    return image


async def ask(db, query, *args):
    async with db.reader() as conn:
        return await query(conn, *args)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"public": False, "description": "schön\n" * 100, "name": "Ä" * 255},
        {"expires_ms": NOW_MS + 1, "display_date": "2026-01-01", "origin": "import", "metadata_removed": ()},
        {"blob": sample_blob(b"other", phash=None, has_alpha=True, frames=7, format="gif")},
        {"blob": sample_blob(b"edge", phash=-(2**63))},
    ],
)
async def test_a_picture_comes_back_as_it_was(db, changes):
    image = await insert(db, sample_image(**changes))
    assert await ask(db, queries.image_by_id, image.id) == image
    assert await ask(db, queries.blob_by_digest, image.blob.digest) == image.blob


async def test_what_is_not_there(db):
    assert await ask(db, queries.image_by_id, "0" * 12) is None
    assert await ask(db, queries.blob_by_digest, "0" * 64) is None
    assert await db.write(lambda conn: queries.delete_image(conn, "0" * 12)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "short"},
        {"id": "../../../etc"},
        {"created_ms": 0},
        {"expires_ms": NOW_MS},
        {"description": "x" * 2001},
        {"origin": "magic"},
        {"blob": sample_blob(stored_bytes=0)},
        {"blob": sample_blob(width=0)},
        {"blob": sample_blob(frames=0)},
        {"blob": sample_blob(format="tiff")},
        {"blob": sample_blob(digest="ab")},
    ],
)
async def test_nonsense_is_refused_by_the_tables_themselves(db, changes):
    with pytest.raises(sqlite3.IntegrityError):
        await insert(db, sample_image(**changes))
    assert await ask(db, queries.totals) == Totals(0, 0, 0, 0)


async def test_a_blob_cannot_change_nor_go_while_it_is_referred_to(db):
    await insert(db, sample_image())
    for sql in (
        "UPDATE blobs SET stored_bytes = 1",
        "UPDATE images SET network = 'x'",
        "DELETE FROM blobs",
        "INSERT INTO images SELECT * FROM images",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            await db.write(lambda conn, sql=sql: conn.execute(sql))


async def test_the_last_picture_takes_its_blob_with_it(db):
    one, two = await insert(db, sample_image()), await insert(db, sample_image(), NET)
    assert await ask(db, queries.totals) == Totals(2, 1, 7, 7)
    gone = await db.write(lambda conn: queries.delete_image(conn, one.id))
    assert (gone.id, gone.digest, gone.last) == (one.id, one.blob.digest, False)
    assert await db.write(lambda conn: queries.blob_exists(conn, one.blob.digest))
    gone = await db.write(lambda conn: queries.delete_image(conn, two.id))
    assert gone.last
    assert not await db.write(lambda conn: queries.blob_exists(conn, one.blob.digest))
    assert await ask(db, queries.totals) == Totals(0, 0, 0, 0)
    await insert(db, sample_image())
    assert await ask(db, queries.totals) == Totals(1, 1, 7, 0)


async def test_expiry_is_exact_and_looked_at_again(db):
    ends = [NOW_MS + 5, NOW_MS + 1, None, NOW_MS + 9]
    images = [await insert(db, sample_image(bytes([i]), expires_ms=end)) for i, end in enumerate(ends)]
    assert await ask(db, queries.expired_images, NOW_MS, 10) == []
    assert await ask(db, queries.expired_images, NOW_MS + 1, 10) == [images[1].id]
    listed = await ask(db, queries.expired_images, NOW_MS + 99, 10)
    assert listed == [images[1].id, images[0].id, images[3].id]
    assert await ask(db, queries.expired_images, NOW_MS + 99, 1) == [images[1].id]
    await db.write(lambda conn: conn.execute("UPDATE images SET expires_ms = NULL WHERE id = ?", (images[0].id,)))
    gone = await db.write(lambda conn: queries.delete_expired(conn, [*listed, "0" * 12], NOW_MS + 5))
    assert [deletion.id for deletion in gone] == [images[1].id]
    gone = await db.write(lambda conn: queries.delete_images(conn, [image.id for image in images]))
    assert len(gone) == 3


async def test_which_digests_are_known(db):
    images = [await insert(db, sample_image(str(i).encode())) for i in range(3)]
    unknown = [f"{i:064x}" for i in range(1_200)]
    digests = [image.blob.digest for image in images]
    assert await ask(db, queries.blob_digests_known, [*unknown, *digests]) == frozenset(digests)
    assert await ask(db, queries.blob_digests_known, []) == frozenset()


# Limits


async def upload(db, at_ms, network=NET):
    return await insert(db, sample_image(created_ms=at_ms), network, LIMITS)


async def test_the_window_slides_exactly(db):
    for step in range(3):
        await upload(db, NOW_MS + step * 1_000)
    with pytest.raises(RateLimited) as caught:
        await upload(db, NOW_MS + 10_000)
    assert caught.value.action.seconds == 3_590
    with pytest.raises(RateLimited) as early:
        await ask(db, queries.check_upload_limits_early, NET, NOW_MS + 10_000, LIMITS)
    assert early.value.action == caught.value.action
    with pytest.raises(RateLimited):
        await upload(db, NOW_MS + HOUR_MS - 1)
    await ask(db, queries.check_upload_limits_early, NET, NOW_MS + HOUR_MS, LIMITS)
    await upload(db, NOW_MS + HOUR_MS)
    with pytest.raises(RateLimited) as caught:
        await upload(db, NOW_MS + HOUR_MS)
    assert caught.value.action.seconds == 1
    await upload(db, NOW_MS + HOUR_MS + 2_000)
    with pytest.raises(RateLimited) as caught:
        await upload(db, NOW_MS + 3 * HOUR_MS)  # the fifth of this day was the last
    assert caught.value.action.seconds == 21 * 3600
    await upload(db, NOW_MS, network="192.0.2.8")
    await insert(db, sample_image(created_ms=NOW_MS + 10_000), None, LIMITS)


async def test_a_deleted_picture_does_not_give_its_upload_back(db):
    for _ in range(3):
        image = await upload(db, NOW_MS)
        await db.write(lambda conn, image=image: queries.delete_image(conn, image.id))
    with pytest.raises(RateLimited):
        await upload(db, NOW_MS)
    assert await db.write(lambda conn: queries.uploads_in_window(conn, NET, NOW_MS - HOUR_MS)) == (3, NOW_MS)
    assert await db.write(lambda conn: queries.uploads_in_window(conn, NET, NOW_MS)) == (0, None)


async def test_a_refused_upload_leaves_nothing_and_is_not_counted(db):
    with pytest.raises(RateLimited):
        await insert(db, sample_image(), NET, [UploadLimit(0, HOUR_MS)])
    with pytest.raises(StorageFull):
        await insert(db, sample_image(), NET, LIMITS, 6)
    assert await ask(db, queries.totals) == Totals(0, 0, 0, 0)
    assert await db.write(lambda conn: queries.uploads_in_window(conn, NET, 0)) == (0, None)
    await insert(db, sample_image(), NET, LIMITS, 7)
    await insert(db, sample_image(), None, LIMITS, 7)


async def test_parallel_uploads_at_the_edge_are_exactly_as_many_as_allowed(db):
    limits = [UploadLimit(20, HOUR_MS)]
    answers = await asyncio.gather(
        *(insert(db, sample_image(str(i).encode()), NET, limits) for i in range(100)), return_exceptions=True
    )
    assert sum(isinstance(answer, RateLimited) for answer in answers) == 80
    assert (await ask(db, queries.totals)).images == 20


async def test_a_clock_that_was_set_back_locks_nobody_out(db):
    for _ in range(3):
        await upload(db, NOW_MS + 10 * DAY_MS)
    for _ in range(3):
        await upload(db, NOW_MS)
    with pytest.raises(RateLimited):
        await upload(db, NOW_MS)
    assert await db.write(lambda conn: queries.prune_upload_log(conn, NOW_MS)) == 3


async def test_the_log_is_pruned_after_a_day(db):
    await upload(db, NOW_MS)
    await upload(db, NOW_MS + 1)
    assert await db.write(lambda conn: queries.prune_upload_log(conn, NOW_MS + DAY_MS)) == 1
    assert await db.write(lambda conn: queries.uploads_in_window(conn, NET, 0)) == (1, NOW_MS + 1)


@given(st.lists(st.tuples(st.sampled_from("ud"), st.integers(0, 3), st.booleans()), max_size=30))
def test_sums_agree_whatever_happens(steps):
    conn = sqlite3.connect(":memory:", isolation_level=None)
    conn.execute("PRAGMA foreign_keys = ON")
    conn.execute("PRAGMA trusted_schema = OFF")
    for step in schema.packaged_migrations():
        for statement in schema.statements(step.sql):
            conn.execute(statement)
    alive: list[str] = []
    for step, content, anonymous in steps:
        if step == "u":
            image = sample_image(b"x" * (content + 1))
            queries.insert_image(conn, image, NET if anonymous else None)
            alive.append(image.id)
        elif alive:
            queries.delete_image(conn, alive.pop(content % len(alive)))
        check_sums(conn)
    conn.close()


# Plans


async def test_no_hot_query_walks_a_table(db):
    """Ask SQLite how it would answer each statement that the functions really send."""
    sent: list[str] = []
    image = await insert(db, sample_image(), NET, LIMITS, 10**9)
    other = sample_image(b"another", expires_ms=NOW_MS + 1)

    def write_all(conn: sqlite3.Connection) -> None:
        conn.set_trace_callback(sent.append)
        queries.insert_image(conn, other, NET, LIMITS, 10**9)
        queries.uploads_in_window(conn, NET, NOW_MS)
        queries.blob_exists(conn, image.blob.digest)
        queries.delete_expired(conn, [other.id], NOW_MS + 1)
        queries.delete_image(conn, image.id)
        queries.prune_upload_log(conn, NOW_MS)
        conn.set_trace_callback(None)

    await db.write(write_all)
    async with db.reader() as conn:
        await conn.set_trace_callback(sent.append)
        await queries.image_by_id(conn, image.id)
        await queries.blob_by_digest(conn, image.blob.digest)
        await queries.expired_images(conn, NOW_MS, 10)
        await queries.blob_digests_known(conn, [image.blob.digest, "0" * 64])
        await queries.check_upload_limits_early(conn, NET, NOW_MS, LIMITS)
        await conn.set_trace_callback(None)

    def plans(conn: sqlite3.Connection) -> dict[str, list[str]]:
        asked = [sql for sql in sent if sql.lstrip().split()[0] in ("SELECT", "INSERT", "DELETE", "UPDATE")]
        return {sql: [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}")] for sql in asked}

    found = await db.write(plans)
    assert len(found) >= 15
    for sql, plan in found.items():
        if "network = " in sql:
            assert "upload_log_by_network" in plan[0], (sql, plan)
        for line in plan:
            assert "SCAN" not in line, (sql, plan)
            assert "TEMP B-TREE" not in line, (sql, plan)


async def test_the_schema_says_what_the_model_says(db):
    """A format or origin that is added to the model must be added to the tables too."""
    for fmt in msgspec.inspect.type_info(type(sample_blob())).fields[1].type.values:
        await insert(db, sample_image(fmt.encode(), blob=sample_blob(fmt.encode(), format=fmt)))
