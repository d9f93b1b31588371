"""What every user of the blob store may rely on, also when the disk fails, callers leave and all come at once."""

import asyncio
import errno
import os
import random
from pathlib import Path

import pytest
from blake3 import blake3

from imgpro.errors import Busy, FileTooLarge, ImgproError, NotFound, StorageFault, StorageFull
from imgpro.store.blobs import BlobStore, Staged
from imgpro.store.layout import DataDir
from imgpro.store.room import FileSystem

LIMIT = 8 * 1024 * 1024


@pytest.fixture
async def store(tmp_path):
    data = DataDir.open(tmp_path / "data")
    store = BlobStore(data)
    yield store
    await store.close()
    # The rule behind every test in this file: whatever happened, nothing is left lying about.
    assert list(data.tmp.iterdir()) == []
    assert len(store._guards) == len(store._adopting) == 0
    for path in files(store):
        assert path.name == blake3(path.read_bytes()).hexdigest()
        assert path.stat().st_mode & 0o777 == 0o440
    data.close()


def files(store: BlobStore) -> list[Path]:
    return [path for path in store.data.blobs.rglob("*") if path.is_file()]


async def put(store: BlobStore, content: bytes, chunk: int = 65_536) -> Staged:
    async with store.spool(LIMIT) as spool:
        for start in range(0, len(content), chunk):
            await spool.write(content[start : start + chunk])
        staged = await spool.finish()
        await store.adopt(staged)
    return staged


def read(store: BlobStore, digest: str) -> bytes:
    fd = store.open(digest)
    try:
        return os.pread(fd, LIMIT, 0)
    finally:
        os.close(fd)


def failing(code: int, when=lambda *args: True, real=None):
    def fail(*args, **kwargs):
        if when(*args):
            raise OSError(code, os.strerror(code))
        assert real is not None
        return real(*args, **kwargs)

    return fail


def is_directory(fd: int) -> bool:
    return os.path.isdir(f"/proc/self/fd/{fd}")


# In and out


@pytest.mark.parametrize("size", [0, 1, 65_536, 524_288, 524_289, 3_000_001])
async def test_what_goes_in_comes_out(store, size):
    content = random.Random(size).randbytes(size)
    staged = await put(store, content)
    assert staged.size == size
    assert staged.digest == blake3(content).hexdigest()
    assert read(store, staged.digest) == content
    assert store.path(staged.digest).relative_to(store.data.blobs).parts == (
        staged.digest[:2], staged.digest[2:4], staged.digest,
    )  # fmt: skip


async def test_the_staged_bytes_can_be_read_before_they_are_adopted(store):
    async with store.spool(LIMIT) as spool:
        await spool.write(b"picture")
        staged = await spool.finish()
        assert os.pread(spool.fd, 100, 0) == b"picture"
        fd = staged.open()
        assert os.pread(fd, 100, 0) == b"picture"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"other")
        os.close(fd)
    assert not staged.path.exists()


async def test_the_limit_is_met_in_the_stream(store):
    async with store.spool(100_000) as spool:
        await spool.write(b"x" * 100_000)
        with pytest.raises(FileTooLarge):
            await spool.write(b"x")
    assert files(store) == []


async def test_at_most_two_batches_are_held(store, monkeypatch):
    held = most = 0
    real = os.write

    def slow_write(fd, data):
        nonlocal held
        written = real(fd, data)
        held -= written
        return written

    monkeypatch.setattr(os, "write", slow_write)
    async with store.spool(LIMIT) as spool:
        for _ in range(128):
            held += 65_536
            await spool.write(b"x" * 65_536)
            most = max(most, held)
        await store.adopt(await spool.finish())
    assert held == 0
    assert most <= 3 * 512 * 1024


async def test_what_a_worker_left_is_copied_hashed_and_adopted(store):
    async with store.scratch() as scratch, store.spool(LIMIT) as spool:
        await spool.write(b"uploaded")
        await spool.finish()
        os.write(scratch.fd, b"cleaned")
        staged = await spool.replace(scratch)
        assert (staged.size, staged.digest) == (7, blake3(b"cleaned").hexdigest())
        assert await scratch.read(2, 4) == b"eane"
        with pytest.raises(StorageFault, match="shorter"):
            await scratch.read(2, 40)
        # A worker that a picture has taken over still holds the descriptor.
        os.pwrite(scratch.fd, b"SWAPPED", 0)
        await store.adopt(staged)
        os.pwrite(scratch.fd, b"SWAPPED", 0)
    assert read(store, staged.digest) == b"cleaned"
    assert not list(store.data.tmp.iterdir())
    async with store.scratch() as scratch:
        os.write(scratch.fd, b"thrown away")
        assert scratch.path.exists()
    assert not scratch.path.exists()


async def test_a_replaced_upload_that_is_not_adopted_leaves_nothing(store):
    async with store.scratch() as scratch, store.spool(LIMIT) as spool:
        await spool.write(b"uploaded")
        await spool.finish()
        os.write(scratch.fd, b"cleaned")
        await spool.replace(scratch)
    assert not list(store.data.tmp.iterdir())


async def test_names_that_are_no_digest_reach_no_file(store):
    await put(store, b"picture")
    for name in ("", "..", "a" * 63, "A" * 64, "../" * 20 + "a" * 4, "g" * 64, "0" * 64 + "\n", "0" * 64):
        with pytest.raises(NotFound):
            store.open(name)


async def test_a_link_in_the_place_of_a_blob_is_not_followed(store, tmp_path):
    digest = "a" * 64
    (tmp_path / "secret").write_bytes(b"secret")
    store.path(digest).parent.mkdir(parents=True)
    store.path(digest).symlink_to(tmp_path / "secret")
    with pytest.raises(StorageFault):
        store.open(digest)
    store.path(digest).unlink()


async def test_iterate_total_and_remove(store):
    contents = [f"picture {i}".encode() for i in range(40)]
    for content in contents:
        await put(store, content)
    (store.data.blobs / "ab").mkdir(exist_ok=True)
    stray = store.data.blobs / "ab" / "stray"
    stray.write_bytes(b"not ours")
    found = [blob async for blob in store.iterate()]
    stray.unlink()
    assert [blob.digest for blob in found] == sorted(blake3(content).hexdigest() for content in contents)
    assert all(blob.mtime_s > 0 for blob in found)
    total = await store.total()
    assert (total.count, total.bytes) == (40, sum(map(len, contents)))
    await store.remove(found[0].digest)
    await store.remove(found[0].digest)
    with pytest.raises(NotFound):
        store.open(found[0].digest)
    assert (await store.total()).count == 39


# Durable, in this order


async def test_the_order_that_survives_a_power_cut(store, monkeypatch):
    seen = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd):
        seen.append(("fsync", os.readlink(f"/proc/self/fd/{fd}")))
        real_fsync(fd)

    def rename(source, target):
        seen.append(("rename", str(target)))
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    async with store.spool(LIMIT) as spool:
        await spool.write(b"picture")
        staged = await spool.finish()
        path = str(spool._temp.path)
        await store.adopt(staged)
    target = store.path(staged.digest)
    assert seen[:2] == [("fsync", path), ("rename", str(target))]
    assert set(seen[2:]) == {("fsync", str(directory)) for directory in list(target.parents)[:3]}

    # A second time the name is flushed all the same (its first writer may have been killed before it did), but
    # nothing is written, and the parents are known.
    seen.clear()
    await put(store, b"picture")
    assert seen == [("fsync", str(target.parent))]


async def test_nobody_is_answered_before_the_name_is_on_disk(store, monkeypatch):
    flushed = False
    real = os.fsync

    def fsync(fd):
        nonlocal flushed
        real(fd)
        flushed = flushed or is_directory(fd)

    monkeypatch.setattr(os, "fsync", fsync)

    async def one():
        await put(store, b"the same")
        assert flushed

    await asyncio.gather(*(one() for _ in range(20)))


async def test_directories_are_flushed_together(store):
    await asyncio.gather(*(put(store, f"picture {i}".encode()) for i in range(100)))
    assert store._flusher.rounds < 60
    assert (await store.total()).count == 100


# Full disks and broken ones


@pytest.mark.parametrize(
    ("call", "when", "code", "kind"),
    [
        ("write", None, errno.ENOSPC, StorageFull),
        ("write", None, errno.EDQUOT, StorageFull),
        ("write", None, errno.EIO, StorageFault),
        ("fsync", "file", errno.EIO, StorageFault),
        ("fsync", "file", errno.ENOSPC, StorageFull),
        ("fsync", "directory", errno.EIO, StorageFault),
        ("fsync", "directory", errno.ENOSPC, StorageFull),
        ("rename", None, errno.EIO, StorageFault),
        ("rename", None, errno.ENOSPC, StorageFull),
        ("mkdir", None, errno.ENOSPC, StorageFull),
        ("open", None, errno.EMFILE, Busy),
        ("open", None, errno.EROFS, StorageFault),
    ],
)
async def test_a_fault_is_one_clear_error_and_leaves_nothing(store, monkeypatch, call, when, code, kind):
    selects = {
        None: lambda *args: True,
        "file": lambda fd: not is_directory(fd),
        "directory": is_directory,
    }
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(code, selects[when], getattr(os, call)))
        with pytest.raises(kind) as caught:
            await put(store, b"picture" * 100_000)
    assert isinstance(caught.value, ImgproError)
    assert files(store) == []
    # And the next one is fine.
    staged = await put(store, b"picture" * 100_000)
    assert read(store, staged.digest) == b"picture" * 100_000


async def test_a_failed_fsync_is_not_tried_again_on_the_same_file(store, monkeypatch):
    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "fsync", failing(errno.EIO, lambda fd: calls.append(os.readlink(f"/proc/self/fd/{fd}")) or True)
        )
        async with store.spool(LIMIT) as spool:
            await spool.write(b"picture")
            staged = await spool.finish()
            with pytest.raises(StorageFault):
                await store.adopt(staged)
            assert not staged.path.exists()
    assert len(calls) == len(set(calls)) == 1
    with pytest.raises(StorageFault):
        await store.adopt(staged)  # what was withdrawn stays withdrawn


async def test_an_acknowledged_blob_outlives_the_fault_of_a_later_upload(store, monkeypatch):
    staged = await put(store, b"picture")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(StorageFault):
            await put(store, b"picture")
    assert read(store, staged.digest) == b"picture"


async def test_a_damaged_blob_of_another_size_is_replaced(store):
    staged = await put(store, b"picture")
    path = store.path(staged.digest)
    path.chmod(0o640)
    path.write_bytes(b"pict")
    await put(store, b"picture")
    assert read(store, staged.digest) == b"picture"


async def test_a_short_write_loses_nothing(store, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:1000])))
    staged = await put(store, b"0123456789" * 1000)
    assert read(store, staged.digest) == b"0123456789" * 1000


async def test_the_reserve_is_kept_free(store, monkeypatch):
    free = FileSystem(1, 2_000_000, 1_000_000, 10_000)
    monkeypatch.setattr(store.data, "free_space", lambda: free)
    store._reserve_bytes = lambda: 500_000
    await put(store, b"x" * 400_000)
    with pytest.raises(StorageFull) as caught:
        await put(store, b"x" * 600_000)
    assert caught.value.status == 507
    free = FileSystem(1, 2_000_000, 1_000_000, 10)
    with pytest.raises(StorageFull):
        await put(store, b"x")
    with pytest.raises(StorageFull):
        store.check_room()
    free = FileSystem(1, 2_000_000, 1_000_000, None)
    store.check_room(400_000)


async def test_the_reserve_may_be_a_number_or_a_question(store):
    assert BlobStore(store.data, 5)._reserve_bytes() == 5
    assert BlobStore(store.data, lambda: 6)._reserve_bytes() == 6


# All at once


async def test_a_hundred_uploads_of_the_same_bytes_are_one_blob(store):
    content = random.Random(1).randbytes(200_000)
    staged = await asyncio.gather(*(put(store, content) for _ in range(100)))
    assert len({one.digest for one in staged}) == 1
    assert len(files(store)) == 1
    assert read(store, staged[0].digest) == content


async def test_sweeping_and_adopting_exclude_each_other_under_guard(store):
    """A model of the two flows: rows are a set, and a row must always have its blob."""
    rows: dict[str, int] = {}
    contents = [b"one", b"two", b"three"]
    dice = random.Random(7)

    async def upload(content: bytes) -> None:
        await asyncio.sleep(dice.random() / 5)
        async with store.spool(LIMIT) as spool:
            await spool.write(content)
            staged = await spool.finish()
            async with store.guard(staged.digest):
                await store.adopt(staged)
                await asyncio.sleep(dice.random() / 500)
                rows[staged.digest] = rows.get(staged.digest, 0) + 1
                assert read(store, staged.digest) == content

    async def delete(content: bytes) -> None:
        digest = blake3(content).hexdigest()
        await asyncio.sleep(dice.random() / 5)  # uploads reach the disk a little later than deletions
        async with store.guard(digest):
            if rows.get(digest):
                rows[digest] -= 1
            if not rows.get(digest):
                await asyncio.sleep(dice.random() / 500)
                await store.remove(digest)

    work = [(upload if dice.random() < 0.5 else delete)(dice.choice(contents)) for _ in range(300)]
    await asyncio.gather(*work)
    for content in contents:
        if rows.get(blake3(content).hexdigest()):
            assert read(store, blake3(content).hexdigest()) == content
        else:
            with pytest.raises(NotFound):
                store.open(blake3(content).hexdigest())


async def test_guards_of_different_digests_do_not_wait_for_each_other(store):
    async with store.guard("a" * 64), asyncio.timeout(5), store.guard("b" * 64):
        pass


async def test_a_guard_survives_a_waiter_that_gives_up(store):
    async with store.guard("a" * 64):
        waiter = asyncio.create_task(put_under_guard(store))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    await put_under_guard(store)


async def put_under_guard(store: BlobStore) -> None:
    async with store.guard("a" * 64):
        await asyncio.sleep(0)


# Callers that leave


async def cancel_after(task: "asyncio.Task[object]", turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0.0004)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("turns", range(24))
async def test_a_caller_may_leave_at_any_moment(store, turns):
    """The fixture proves that no file is left; here: what was begun is either whole or not there."""
    content = random.Random(turns).randbytes(2_000_000)
    await cancel_after(asyncio.create_task(put(store, content)), turns)
    assert (await put(store, content)).size == len(content)


async def test_a_caller_may_leave_while_a_batch_is_written(store, monkeypatch):
    writing, go_on = asyncio.Event(), asyncio.Event()
    loop, real = asyncio.get_running_loop(), os.write

    def slow(fd, data):
        loop.call_soon_threadsafe(writing.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return real(fd, data)

    monkeypatch.setattr(os, "write", slow)
    task = asyncio.create_task(put(store, b"x" * 3_000_000))
    await writing.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()  # it waits for the write that is under way, so that the descriptor is not reused
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_discard_may_be_called_again_and_again(store):
    spool = store.spool(LIMIT)
    await spool.write(b"x" * 600_000)
    await spool.discard()
    await spool.discard()


async def test_an_adoption_that_was_begun_is_finished(store, monkeypatch):
    started = asyncio.Event()
    loop, real = asyncio.get_running_loop(), os.fsync

    def fsync(fd):
        loop.call_soon_threadsafe(started.set)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    async with store.spool(LIMIT) as spool:
        await spool.write(b"picture")
        staged = await spool.finish()
        task = asyncio.create_task(store.adopt(staged))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with store._adopting.hold(staged.digest):
            assert read(store, staged.digest) == b"picture"


async def test_a_failed_upload_does_not_take_the_blob_of_another_with_it(store, monkeypatch):
    """The first of two at once cannot flush the directory and withdraws; the second must not rely on its file."""
    real, failed = os.fsync, []

    def fsync(fd):
        if is_directory(fd) and not failed:
            failed.append(fd)
            raise OSError(errno.EIO, "injected")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    answers = await asyncio.gather(*(put(store, b"picture") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(answer, StorageFault) for answer in answers) == 1
    assert read(store, blake3(b"picture").hexdigest()) == b"picture"
