"""Requests that come twice, apart from HTTP: who owns a key, what counts as the same request."""

import time

import pytest

from imgpro.errors import IdempotencyKeyConflict, IdempotencyKeyInProgress, ValidationError
from imgpro.flows.replays import Replays, fingerprint
from imgpro.model import Caller, UploadOptions
from imgpro.store import queries
from imgpro.store.db import Database
from tests.samples import sample_image

CALLER = Caller("192.0.2.1")


@pytest.fixture
async def db(tmp_path):
    database = await Database.open(tmp_path / "imgpro.db", tmp_path, "test", "0")
    yield database
    await database.close()


def render(image):
    return f"answer {image.id}".encode()


async def store(db, replays, key, *parts, caller=CALLER):
    with await replays.begin(caller, key, render) as attempt:
        first = attempt.first_answer(*parts)
        if first is not None:
            return first
        image = sample_image(created_ms=time.time_ns() // 1_000_000)
        replay = attempt.to_store(image, *parts)
        await db.write(lambda conn: queries.insert_image(conn, image, None, replay=replay))
        return attempt.answer


async def test_the_same_request_gets_the_first_answer(db):
    replays = Replays(db)
    first = await store(db, replays, "one", "upload", "digest", UploadOptions())
    assert await store(db, replays, "one", "upload", "digest", UploadOptions()) == first
    assert await store(db, Replays(db), "one", "upload", "digest", UploadOptions()) == first  # after a restart


async def test_another_request_is_a_conflict(db):
    replays = Replays(db)
    await store(db, replays, "one", "upload", "digest", UploadOptions())
    for parts in (
        ("import", "digest", UploadOptions()),
        ("upload", "other", UploadOptions()),
        ("upload", "digest", UploadOptions(public=False)),
    ):
        with pytest.raises(IdempotencyKeyConflict):
            await store(db, replays, "one", *parts)


async def test_without_a_key_nothing_is_remembered(db):
    replays = Replays(db)
    assert await store(db, replays, None, "a") != await store(db, replays, None, "a")


async def test_keys_belong_to_their_callers(db):
    replays = Replays(db)
    first = await store(db, replays, "one", "a")
    assert await store(db, replays, "one", "a", caller=Caller("192.0.2.2")) != first


async def test_the_second_of_two_at_once_is_told_to_wait(db):
    replays = Replays(db)
    with await replays.begin(CALLER, "one", render):
        with pytest.raises(IdempotencyKeyInProgress):
            await replays.begin(CALLER, "one", render)
        with await replays.begin(CALLER, "two", render):
            pass
    with await replays.begin(CALLER, "one", render) as attempt:
        assert not attempt.repeated


async def test_a_request_that_failed_may_be_tried_again(db):
    replays = Replays(db)
    with pytest.raises(RuntimeError), await replays.begin(CALLER, "one", render):
        raise RuntimeError
    assert (await store(db, replays, "one", "a")).startswith(b"answer")


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "a\x00b", "ü"])
async def test_a_key_that_is_none_is_refused(db, key):
    with pytest.raises(ValidationError):
        await Replays(db).begin(CALLER, key, render)


async def test_an_answer_goes_with_its_picture_and_after_a_day(db):
    replays = Replays(db)
    first = await store(db, replays, "one", "a")
    image_id = first.decode().split()[1]
    await db.write(lambda conn: queries.delete_image(conn, image_id))
    second = await store(db, replays, "one", "a")
    assert second != first
    replay = queries.Replay("n192.0.2.1", "one", fingerprint("b"), "x" * 12, b"late")
    await db.write(lambda conn: conn.execute("UPDATE replays SET created_ms = 1"))
    await db.write(lambda conn: queries.insert_replay(conn, replay, queries.REPLAYS_KEPT_MS + 2))
    async with db.reader() as conn:
        found = await queries.replay_by_key(conn, replay.caller, "one", queries.REPLAYS_KEPT_MS + 3)
        assert found is not None
        assert found.answer == b"late"
        late = found and await queries.replay_by_key(conn, replay.caller, "one", 2 * queries.REPLAYS_KEPT_MS + 3)
        assert late is None
    assert await db.write(lambda conn: queries.prune_replays(conn, 2 * queries.REPLAYS_KEPT_MS + 3)) == 1


def test_two_requests_are_told_apart_by_all_their_parts():
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint("a", None) != fingerprint("a", "")
    assert len(fingerprint()) == 32
