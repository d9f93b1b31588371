"""SQL of what the operator looks at: right, and no walk over the pictures however many there are."""

import time

import pytest

from imgpro.ids import new_account_id, new_key_id, secret_hash
from imgpro.store import queries, queries_accounts, queries_operator
from imgpro.store.db import Database
from imgpro.store.queries_operator import DAY_MS
from tests.samples import NOW_MS, sample_image

DAY = NOW_MS // DAY_MS


@pytest.fixture
async def db(tmp_path):
    database = await Database.open(tmp_path / "imgpro.db", tmp_path, "test", "0")
    yield database
    await database.close()


def account(conn, email, *, verified=True, key=True):
    made = queries_accounts.insert_account(conn, new_account_id(), email, "member", NOW_MS, verified=verified)
    if key:
        hashed = secret_hash(new_key_id())
        queries_accounts.insert_key(
            conn, new_key_id(), made.seq, hashed, "Default", ("read",), None, "192.0.2.1", NOW_MS, confirmed=verified
        )
    return made


async def read(db, function, *values):
    async with db.reader() as conn:
        return await function(conn, *values)


async def test_growth_follows_what_comes_and_goes(db):
    images = [sample_image(b"x" * size, created_ms=NOW_MS + day * DAY_MS) for size, day in ((1, 0), (20, 0), (300, 2))]
    twin = sample_image(b"x" * 20, created_ms=NOW_MS + DAY_MS)  # the same bytes again take no more room
    for image in (*images, twin):
        await db.write(lambda conn, i=image: queries.insert_image(conn, i, None))
    stored = await read(db, queries_operator.growth, DAY)
    # What a row says of its day is when its bytes were stored.
    added = {row.day: (row.added, row.added_bytes) for row in stored}
    assert sum(count for count, _ in added.values()) == 3
    assert sum(size for _, size in added.values()) == 321
    await db.write(lambda conn: queries.delete_images(conn, [images[0].id, images[1].id]))
    today = time.time_ns() // 1_000_000 // DAY_MS
    removed = {row.day: row.removed_bytes for row in await read(db, queries_operator.growth, 0) if row.removed_bytes}
    assert sum(removed.values()) == 1  # the other one is still there by its twin
    assert abs(next(iter(removed)) - today) <= 1
    await db.write(lambda conn: queries.delete_images(conn, [twin.id]))
    removed = {row.day: row.removed_bytes for row in await read(db, queries_operator.growth, 0) if row.removed_bytes}
    assert sum(removed.values()) == 21
    assert await read(db, queries_operator.first_day) == min(added)


async def test_accounts_are_found_by_part_of_their_address_in_pages(db):
    made = [await db.write(lambda conn, n=n: account(conn, f"user{n}@example.org")) for n in range(5)]
    await db.write(lambda conn: account(conn, "other%@nas.local"))
    found = await read(db, queries_operator.accounts_found, "user", 2**62, 2)
    assert [each.email for each in found] == ["user4@example.org", "user3@example.org"]
    rest = await read(db, queries_operator.accounts_found, "user", found[-1].seq, 10)
    assert [each.seq for each in rest] == [each.seq for each in made[2::-1]]
    assert [each.email for each in await read(db, queries_operator.accounts_found, "%", 2**62, 9)] == [
        "other%@nas.local"
    ]
    assert await read(db, queries_operator.accounts_count) == 6


async def test_who_waits_to_be_vouched_for(db):
    await db.write(lambda conn: account(conn, "fine@example.org"))
    await db.write(lambda conn: account(conn, "nokey@example.org", verified=False, key=False))
    blocked = await db.write(lambda conn: account(conn, "blocked@example.org", verified=False))
    await db.write(lambda conn: queries_accounts.set_blocked(conn, blocked.seq, NOW_MS))
    waits = [await db.write(lambda conn, n=n: account(conn, f"new{n}@example.org", verified=False)) for n in range(3)]
    found = await read(db, queries_operator.accounts_to_verify, 2)
    assert [each.seq for each in found] == [waits[2].seq, waits[1].seq]
    assert len(await read(db, queries_operator.accounts_to_verify, 9)) == 3


async def test_the_latest_pictures_of_all(db):
    ann = await db.write(lambda conn: account(conn, "ann@example.org"))
    key = (await db.write(lambda conn: queries_accounts.keys_of_account(conn, ann.seq)))[0]
    first = sample_image(b"1")
    await db.write(lambda conn: queries.insert_image(conn, first, "192.0.2.9"))
    owned = sample_image(b"2", account=ann.seq, key=key.seq, public=False)
    await db.write(lambda conn: queries.insert_image(conn, owned, None))
    ended = sample_image(b"3", expires_ms=NOW_MS + 1)
    await db.write(lambda conn: queries.insert_image(conn, ended, None))
    found = await read(db, queries_operator.latest_uploads, NOW_MS + 5, 10)
    assert [(each.image.id, each.email, each.network) for each in found] == [
        (owned.id, "ann@example.org", None),
        (first.id, None, "192.0.2.9"),
    ]


async def test_nothing_of_the_overview_walks_the_pictures(db):
    sent = []
    async with db.reader() as conn:
        await conn.set_trace_callback(sent.append)
        await queries_operator.latest_uploads(conn, NOW_MS, 24)
        await queries_operator.growth(conn, DAY)
        await queries_operator.first_day(conn)
        await queries_operator.accounts_to_verify(conn, 20)
        await queries_operator.accounts_found(conn, "a", 2**62, 50)
        await queries.totals(conn)
        await conn.set_trace_callback(None)

    def plans(conn):
        return {sql: [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}")] for sql in sent}

    found = await db.write(plans)
    assert len(found) == 6
    for sql, plan in found.items():
        for line in plan:
            # A table of four sums may be read whole; the first day is the first entry of the table's own order.
            small = "FROM totals" in sql or "min(day)" in sql
            assert small or "SCAN" not in line, (sql, plan)
            assert "TEMP B-TREE" not in line, (sql, plan)
