"""A second look at what seemed wrong, while pictures are deleted."""

import asyncio
import contextlib

from imgpro.flows.remove import AT_ONCE
from imgpro.store.doubts import Doubt, place_of


def doubts(digest: str) -> list[Doubt]:
    return [
        Doubt("original", place_of(digest), "is of no picture", "orphan", (digest,)),
        Doubt("derivative", f"cache/{digest[:2]}/{digest}", "is of no picture", "derivative", (digest, False)),
    ]


async def test_files_of_a_deletion_under_way_are_not_forgotten_ones(house):
    """Whoever looks is before it at the guard: the row has gone, and the files are there."""
    image = await house.store(b"going")
    await house.cache(image.blob.digest)
    for doubt in doubts(image.blob.digest):
        async with house.blobs.guard(image.blob.digest):
            looking = asyncio.create_task(house.second.confirms(doubt))
            await asyncio.sleep(0)
            deleting = asyncio.create_task(house.remove.images([image.id]))
            while await house.db.write(lambda conn: conn.execute("SELECT count(*) FROM images").fetchone()[0]):
                pass
        assert await looking is False
        await deleting
        image = await house.store(b"going", id="0" * 12)
        await house.cache(image.blob.digest)


async def test_nor_are_those_of_a_long_deletion_that_wait_for_their_turn(house):
    images = [await house.store(b"%d" % number) for number in range(3 * AT_ONCE)]
    digests = [image.blob.digest for image in images]
    async with contextlib.AsyncExitStack() as held:
        for digest in digests[: 2 * AT_ONCE]:  # whichever are begun with, some of the rest wait
            await held.enter_async_context(house.blobs.guard(digest))
        deleting = asyncio.create_task(house.remove.images([image.id for image in images]))
        while await house.db.write(lambda conn: conn.execute("SELECT count(*) FROM images").fetchone()[0]):
            pass
        for digest in digests[2 * AT_ONCE :]:
            assert await house.second.confirms(doubts(digest)[0]) is False
    await deleting
    assert house.blob_names() == set()
    assert not any(house.remove.is_going(digest) for digest in digests)


async def test_what_a_deletion_left_is_confirmed(house):
    digest = await house.place(b"left")
    await house.cache(digest)
    assert [await house.second.confirms(doubt) for doubt in doubts(digest)] == [True, True]
