"""What is beside a picture: as the list of its namespace, or of its account, has it; by one step along an index."""

import time

import pytest

from imgpro.flows.browse import Browse, Neighbours
from imgpro.model import Principal
from imgpro.signing import Signer
from imgpro.store import queries, queries_accounts, queries_browse
from imgpro.store.db import Database
from imgpro.store.queries_browse import Wanted
from tests.samples import NOW_MS, sample_blob, sample_image

PAST_MS, FUTURE_MS = NOW_MS + 10**6, 4 * 10**12


@pytest.fixture
async def db(tmp_path):
    (tmp_path / "backups").mkdir()
    db = await Database.open(tmp_path / "imgpro.db", tmp_path / "backups", "instance", "1.0")
    yield db
    await db.close()


async def account(db, name):
    made = await db.write(
        lambda conn: queries_accounts.insert_account(conn, f"acc_{name}", f"{name}@img.test", "member", NOW_MS)
    )
    return Principal(made, None)


async def fill(db, owner, count=60):
    """Store pictures of three namespaces and none, some of one time, some ended; return them by number."""
    images = [
        sample_image(
            blob=sample_blob(b"%d" % (number % 9)),
            account=owner.account.seq,
            created_ms=NOW_MS + number * 7 % 20,
            namespace=(None, "home", "work")[number % 7 % 3],
            expires_ms=(None, PAST_MS, FUTURE_MS)[number % 5 % 3],
        )
        for number in range(count)
    ]

    def write(conn):
        for image in images:
            queries.insert_image(conn, image, None)
        return dict(conn.execute("SELECT id, seq FROM images"))

    seqs = await db.write(write)
    return {seqs[image.id]: image for image in images}


async def test_beside_a_picture_is_what_its_list_has_there(db):
    mine, theirs = await account(db, "mine"), await account(db, "theirs")
    stored = await fill(db, mine)
    await fill(db, theirs)
    browse = Browse(db, Signer(b"k" * 32))
    now_ms, looked_at = time.time() * 1000, 0
    for image in stored.values():
        if image.expired(now_ms):
            continue
        kin = [
            (other.created_ms, seq, other.id)
            for seq, other in stored.items()
            if not other.expired(now_ms) and image.namespace in (None, other.namespace)
        ]
        ids = [each[2] for each in sorted(kin, reverse=True)]
        at = ids.index(image.id)
        found = await browse.neighbours(mine, image)
        assert found.newer is None if at == 0 else found.newer.id == ids[at - 1]
        assert found.older is None if at == len(ids) - 1 else found.older.id == ids[at + 1]
        looked_at += 1
    assert looked_at > 30


async def test_nobody_learns_what_is_beside_a_picture_of_others(db):
    mine, theirs = await account(db, "mine"), await account(db, "theirs")
    images = list((await fill(db, theirs)).values())
    await fill(db, mine)
    browse = Browse(db, Signer(b"k" * 32))
    assert {await browse.neighbours(mine, image) for image in images} == {Neighbours(None, None)}
    async with db.reader() as conn:
        wanted = Wanted(account=mine.account.seq, now_ms=NOW_MS)
        assert await queries_browse.neighbours(conn, wanted, images[9].id) == (None, None)


async def test_a_key_that_reaches_only_its_own_pictures_is_told_of_no_others(db):
    mine = await account(db, "mine")
    key = await db.write(
        lambda conn: queries_accounts.insert_key(
            conn, "key_one", mine.account.seq, b"k" * 32, "", ("read",), None, "-", NOW_MS, confirmed=False
        )
    )
    image = sample_image(blob=sample_blob(), account=mine.account.seq, key=key.seq)
    await db.write(lambda conn: queries.insert_image(conn, image, None))
    await fill(db, mine)
    browse = Browse(db, Signer(b"k" * 32))
    assert await browse.neighbours(Principal(mine.account, key), image) == Neighbours(None, None)
    assert (await browse.neighbours(mine, image)).newer is not None


@pytest.mark.parametrize("namespace", [None, "home"])
async def test_one_step_along_an_index_whatever_analyze_found(db, namespace):
    mine, sent = await account(db, "mine"), []
    stored = await fill(db, mine)
    image = next(each for each in stored.values() if each.namespace == "home" and each.expires_ms is None)
    async with db.reader() as conn:
        await conn.set_trace_callback(sent.append)
        wanted = Wanted(account=mine.account.seq, now_ms=NOW_MS, namespace=namespace)
        await queries_browse.neighbours(conn, wanted, image.id)
        await conn.set_trace_callback(None)

    def explain(conn):
        return [[row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}")] for sql in sent]

    index = "images_by_account" if namespace is None else "images_by_namespace"
    plans = await db.write(explain)
    walks = [lines for lines in plans if any(index in line for line in lines)]
    assert len(walks) == 2
    for lines in walks:
        assert len(lines) == 1
        assert lines[0].startswith(f"SEARCH i USING INDEX {index} (account=?")
        assert "created_ms>? AND created_ms<?" in lines[0]
    assert not any("TEMP B-TREE" in line for lines in plans for line in lines)
    await db.write(lambda conn: conn.execute("ANALYZE"))
    assert await db.write(explain) == plans
