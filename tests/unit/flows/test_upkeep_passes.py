"""The passes of upkeep on a real database, real blobs and a real cache."""

import asyncio
import os
import threading
import time

from blake3 import blake3

from imgpro.flows.upkeep import BATCH
from imgpro.store import journal_ahead, queries
from imgpro.store.doubts import Doubt
from imgpro.store.looks import Looks
from imgpro.store.quarantine import Quarantine
from tests.houses import KEY
from tests.samples import sample_image

DAY_MS = 86_400_000


def ago_ms(milliseconds: int) -> int:
    return time.time_ns() // 1_000_000 - milliseconds


async def test_what_is_over_goes_with_everything_made_of_it(house):
    over = await house.store(b"over", expires_ms=ago_ms(1))
    later = await house.store(b"later", expires_ms=ago_ms(-DAY_MS))
    forever = await house.store(b"forever", expires_ms=None)
    for image in (over, later, forever):
        await house.cache(image.blob.digest)
        house.hot.put(f"/t/{image.id}.webp", image, b"body", "image/webp", '"x"')
    assert await house.upkeep.expire() == 1
    assert await house.records.get(over.id) is None
    assert house.hot.get(f"/t/{over.id}.webp") is None
    assert house.blob_names() == house.cached_names() == {later.blob.digest, forever.blob.digest}
    assert await house.upkeep.expire() == 0


async def test_bytes_that_another_picture_shares_stay(house):
    await house.store(b"shared", expires_ms=ago_ms(1))
    other = await house.store(b"shared", expires_ms=None)
    await house.cache(other.blob.digest)
    assert await house.upkeep.expire() == 1
    assert house.blob_names() == house.cached_names() == {other.blob.digest}
    assert await house.records.get(other.id) == other


async def test_more_than_one_batch_expires_in_one_pass(house):
    images = [sample_image(b"%d" % (n % 3), expires_ms=ago_ms(n + 1)) for n in range(BATCH + 7)]
    await house.db.write(lambda conn: [queries.insert_image(conn, image, None) for image in images])
    assert await house.upkeep.expire() == BATCH + 7


async def test_nothing_expires_while_the_clock_is_in_doubt(house):
    image = await house.store(b"over", expires_ms=ago_ms(1))
    house.clock.trusted = False
    assert await house.upkeep.expire() == 0
    assert house.blob_names() == {image.blob.digest}


async def test_an_end_that_was_moved_after_the_look_is_respected(house):
    image = await house.store(b"moved", expires_ms=ago_ms(1))
    await house.db.write(lambda conn: conn.execute("UPDATE images SET expires_ms = ?", (ago_ms(-DAY_MS),)) and None)
    assert await house.remove.expired([image.id], ago_ms(0)) == 0
    assert house.blob_names() == {image.blob.digest}


async def test_old_orphans_go_and_young_ones_wait(house):
    known = await house.store(b"known")
    os.utime(house.blobs.path(known.blob.digest), (1, 1))
    young, old = await house.place(b"young"), await house.place(b"old", age_s=90_000)
    await house.cache(old)
    assert await house.upkeep.sweep_orphans() == 1
    assert house.blob_names() == {known.blob.digest, young}
    assert house.cached_names() == set()
    assert await house.upkeep.sweep_orphans(grace_s=-1) == 1
    assert house.blob_names() == {known.blob.digest}


async def test_orphans_wait_while_a_journal_is_set_aside(house):
    """It names originals that the database does not know."""
    old = await house.place(b"old", age_s=90_000)
    aside = house.data.journal / "aside-20260101T000000Z"
    aside.mkdir()
    assert await house.upkeep.sweep_orphans() == 0
    assert house.blob_names() == {old}
    looks = Looks(house.data, Quarantine(house.data), 0.0, threading.Event())
    [originals] = [look for look in looks.listed(deep=False) if look.words == "originals"]
    assert [seen for seen in originals.begin() if isinstance(seen, Doubt)] == []
    month_ago = time.time() - journal_ahead.KEPT_S - 60
    os.utime(aside, (month_ago, month_ago))
    assert await house.upkeep.sweep_orphans() == 1
    assert not aside.exists()
    await house.place(b"other", age_s=90_000)
    assert [seen.kind for seen in originals.begin() if isinstance(seen, Doubt)] == ["orphan"]
    looks.close()


async def test_derivatives_without_a_picture_go(house):
    known = await house.store(b"known")
    await house.cache(known.blob.digest)
    await house.cache(blake3(b"gone").hexdigest())
    assert await house.upkeep.sweep_orphans() == 1
    assert house.cached_names() == {known.blob.digest}


async def test_sweeping_and_uploading_the_same_bytes_exclude_each_other(house):
    """However the two meet: a row never stands without its blob, and a swept orphan is stored again."""
    for number in range(30):
        content = b"contested %d" % number
        digest = await house.place(content, age_s=90_000)
        sweep = asyncio.create_task(house.upkeep.sweep_orphans())
        for _ in range(number):
            await asyncio.sleep(0)
        image = await house.store(content)
        await sweep
        assert image.blob.digest == digest
        assert house.blobs.path(digest).read_bytes() == content
    assert len(house.blob_names()) == 30
    assert await house.upkeep.sweep_orphans(grace_s=-1) == 0


async def test_an_upload_between_the_look_and_the_removal_keeps_its_blob(house, monkeypatch):
    digest = await house.place(b"contested", age_s=90_000)
    looked = queries.blob_digests_known

    async def look_and_lose(conn, digests):
        found = await looked(conn, digests)
        await house.store(b"contested")
        return found

    monkeypatch.setattr(queries, "blob_digests_known", look_and_lose)
    assert await house.upkeep.sweep_orphans() == 0
    assert house.blob_names() == {digest}


async def test_the_upload_log_is_pruned(house):
    def fill(conn):
        for at_ms in (ago_ms(0), ago_ms(DAY_MS // 2), ago_ms(2 * DAY_MS), ago_ms(-3 * DAY_MS)):
            queries.log_upload(conn, "192.0.2.1", at_ms)

    await house.db.write(fill)
    await house.upkeep.prune_logs()
    left = await house.db.write(lambda conn: conn.execute("SELECT count(*) FROM upload_log").fetchone()[0])
    assert left == 2


async def test_nothing_is_forgotten_while_the_clock_is_in_doubt(house):
    await house.db.write(lambda conn: queries.log_upload(conn, "192.0.2.1", ago_ms(2 * DAY_MS)))
    house.clock.trusted = False
    await house.upkeep.prune_logs()
    assert await house.db.write(lambda conn: conn.execute("SELECT count(*) FROM upload_log").fetchone()[0]) == 1


async def test_pictures_from_before_the_clock_was_set_live_as_long_as_they_were_meant_to(house):
    early = await house.store(b"early", created_ms=60_000, expires_ms=60_000 + DAY_MS, wanted_end_ms=60_000 + DAY_MS)
    house.hot.put(f"/t/{early.id}.webp", early, b"body", "image/webp", '"x"')
    assert await house.upkeep.expire() == 0
    found = await house.records.get(early.id)
    assert DAY_MS - 60_000 < found.expires_ms - ago_ms(0) <= DAY_MS
    assert found.wanted_end_ms == found.expires_ms
    assert house.hot.get(f"/t/{early.id}.webp") is None
    before = found.expires_ms
    await house.upkeep.expire()
    assert (await house.records.get(early.id)).expires_ms == before, "once"


async def test_ballast_is_taken_when_there_is_room_and_given_up_when_there_is_none(house, monkeypatch):
    path = house.data.root / ".ballast"
    house.blobs.keep_ballast()
    assert path.stat().st_blocks * 512 >= 4_000_000
    image = await house.store(b"last")
    write, calls = house.db.write, []

    async def full_once(function):
        calls.append(path.exists())
        if path.exists():
            raise queries.StorageFull
        return await write(function)

    monkeypatch.setattr(house.db, "write", full_once)
    assert await house.remove.images([image.id]) == 1
    assert calls[:2] == [True, False]
    assert house.blob_names() == set()
    house.blobs.keep_ballast()
    assert path.exists()


async def test_the_other_passes_run(house):
    image = await house.store(b"used")
    await house.cache(image.blob.digest)
    fd, _ = house.derivs.get(image.blob.digest, KEY)
    os.close(fd)
    await house.upkeep.note_uses()
    await house.upkeep.maintain_database()
