"""Races between a read, a write and a transform, each held at its worst moment."""

import asyncio
import contextlib

import pytest

from imgpro.errors import NotFound
from imgpro.flows import records as module
from imgpro.flows.hot import HotPictures
from imgpro.flows.making import Making
from imgpro.flows.records import Records
from imgpro.flows.serve import Serve
from imgpro.recipes import Recipe
from imgpro.signing import Signer
from tests.samples import sample_image


class NoDatabase:
    @contextlib.asynccontextmanager
    async def reader(self):
        yield None


async def test_a_row_read_before_its_deletion_is_not_kept(monkeypatch):
    image, reading, deleted = sample_image(), asyncio.Event(), asyncio.Event()

    async def slow_read(conn, image_id):
        reading.set()
        await deleted.wait()
        return image

    monkeypatch.setattr(module.queries, "image_by_id", slow_read)
    records = Records(NoDatabase(), 10)
    read = asyncio.create_task(records.get(image.id))
    await reading.wait()
    records.forget(image.id)
    deleted.set()
    assert await read == image
    assert records.cached(image.id) is None
    assert await records.get(image.id) == image
    assert records.cached(image.id) == image


async def test_the_oldest_record_makes_room():
    records = Records(NoDatabase(), 2)
    images = [sample_image(b"%d" % n) for n in range(3)]
    for image in images[:2]:
        records.put(image)
    assert records.cached(images[0].id) is not None
    records.put(images[2])
    assert [records.cached(image.id) is not None for image in images] == [True, False, True]


async def test_a_transform_that_begins_after_the_row_went_makes_nothing():
    """The blob may still be there for a moment; opening it would end in a derivative of a deleted picture."""

    class Gone(Records):
        async def refers_to(self, digest):
            assert len(making), "the ticket comes before the look"
            return False

    making = Making()
    untouchable = object()
    serve = Serve(
        untouchable, untouchable, untouchable, Gone(NoDatabase(), 10), HotPictures(1, 1), Signer(b"x" * 32), making
    )
    image = sample_image()
    with pytest.raises(NotFound):
        await serve._make(image, Recipe("m", "webp"))
    assert not len(making)


def test_tickets_are_forbidden_for_one_picture_only():
    making = Making()
    with making.of("a") as first, making.of("a") as second, making.of("b") as other:
        making.forbid("a")
        assert (first.forbidden, second.forbidden, other.forbidden) == (True, True, False)
        with making.of("a") as later:
            assert not later.forbidden
    assert not len(making)
