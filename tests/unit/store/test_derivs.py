"""The derivative cache: bounded, complete or absent, forgetful at once, and never the reason a request fails."""

import asyncio
import errno
import os
import threading
import time
from pathlib import Path

import pytest

from imgpro import recipes
from imgpro.store.blobs import BlobStore
from imgpro.store.derivs import DerivativeCache
from imgpro.store.layout import DataDir

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32
S = recipes.Recipe("webp", "s").key
M = recipes.Recipe("webp", "m").key


@pytest.fixture
def data(tmp_path):
    data = DataDir.open(tmp_path / "data")
    yield data
    assert list(data.tmp.iterdir()) == []
    data.close()


@pytest.fixture
async def cache(data):
    cache = DerivativeCache(data.cache, data.tmp, 1_000)
    cache.start()
    await cache.settled()
    yield cache
    await cache.close()


def read(cache: DerivativeCache, digest: str, key: str) -> bytes | None:
    found = cache.get(digest, key)
    if found is None:
        return None
    fd, size = found
    try:
        content = os.pread(fd, 10_000, 0)
    finally:
        os.close(fd)
    assert len(content) == size
    return content


def on_disk(data: DataDir) -> list[str]:
    return sorted(str(path.relative_to(data.cache)) for path in data.cache.rglob("*.*") if path.name != "CACHEDIR.TAG")


async def store(cache: DerivativeCache, digest: str, key: str, content: bytes) -> None:
    cache.put(digest, key, content)
    await cache.settled()


class Gate:
    """Holds the writing thread at its fsync until it is opened."""

    def __init__(self, monkeypatch) -> None:
        self.reached, self._go = threading.Event(), threading.Event()
        real = os.fsync

        def fsync(fd):
            self.reached.set()
            self._go.wait(10)
            real(fd)

        monkeypatch.setattr(os, "fsync", fsync)

    async def wait(self) -> None:
        await asyncio.to_thread(self.reached.wait, 10)

    def open(self) -> None:
        self._go.set()


async def test_what_goes_in_comes_out(cache, data):
    assert cache.get(A, M) is None
    await store(cache, A, M, b"derivative")
    assert read(cache, A, M) == b"derivative"
    assert read(cache, A, S) is None
    assert on_disk(data) == [f"aa/{A}/{M}"]
    assert (cache.stats().files, cache.stats().bytes, cache.stats().stored) == (1, 10, 1)
    await store(cache, A, M, b"another")
    assert read(cache, A, M) == b"another"
    assert (cache.stats().files, cache.stats().bytes) == (1, 7)


async def test_a_scratch_file_is_moved_in(cache, data):
    blobs = BlobStore(data)
    async with blobs.scratch() as scratch:
        os.write(scratch.fd, b"rendered")
        cache.put(A, M, scratch)
    await cache.settled()
    assert read(cache, A, M) == b"rendered"
    async with blobs.scratch() as scratch:
        os.write(scratch.fd, b"x" * 2_000)
        cache.put(A, S, scratch)  # larger than the whole cache: refused, and removed by its own context
    assert cache.stats().refused == 1
    await blobs.close()


@pytest.mark.parametrize(
    ("digest", "key"),
    [(A, "../../x"), (A, "m-999.webp"), (A, "m-1.exe"), ("..", M), (A.upper(), M), (A + "\n", M), ("", ""), (A, "")],
)
async def test_names_are_checked(cache, digest, key):
    with pytest.raises(ValueError, match="not a derivative"):
        cache.get(digest, key)
    with pytest.raises(ValueError, match="not a derivative"):
        cache.put(digest, key, b"x")


async def test_the_least_recently_used_go_first(cache, data):
    for digest in (A, B, C):
        await store(cache, digest, M, digest[:1].encode() * 300)
    assert read(cache, A, M) is not None
    await store(cache, A, S, b"s" * 200)  # 1,100 bytes: one has to go, and A was just used
    await cache.settled()
    assert read(cache, B, M) is None
    assert read(cache, A, M) is not None
    assert read(cache, C, M) is not None
    assert on_disk(data) == sorted([f"aa/{A}/{M}", f"aa/{A}/{S}", f"cc/{C}/{M}"])
    assert cache.stats().bytes == 800
    assert cache.stats().evicted == 1
    assert not (data.cache / "bb" / B).exists()


async def test_a_restart_keeps_content_and_rough_order(data):
    first = DerivativeCache(data.cache, data.tmp, 1_000)
    first.start()
    for digest in (A, B, C):
        await store(first, digest, M, b"x" * 300)
        os.utime(data.cache / digest[:2] / digest / M, (1_000, 1_000 + ord(digest[0])))
    assert read(first, A, M) is not None  # used last; `close` writes that down
    await first.close()

    second = DerivativeCache(data.cache, data.tmp, 700)
    second.start()
    await second.settled()
    assert read(second, B, M) is None
    assert read(second, A, M) is not None
    assert second.stats().bytes == 600
    await second.close()


async def test_the_disk_answers_until_the_scan_is_done(data, monkeypatch):
    first = DerivativeCache(data.cache, data.tmp, 1_000)
    await store(first, A, M, b"old")
    await store(first, C, M, b"gone soon")
    await first.close()

    go = threading.Event()
    real = DerivativeCache._read_disk

    def slow(self):
        found = real(self)
        go.wait(10)
        return found

    monkeypatch.setattr(DerivativeCache, "_read_disk", slow)
    second = DerivativeCache(data.cache, data.tmp, 1_000)
    second.start()
    assert not second.stats().scanned
    assert read(second, A, M) == b"old"
    assert read(second, B, M) is None
    second.put(B, M, b"while scanning")
    await second.drop(C)
    assert read(second, C, M) is None
    go.set()
    await second.settled()
    assert second.stats().scanned
    assert (second.stats().files, second.stats().bytes) == (2, len(b"old") + len(b"while scanning"))
    assert read(second, C, M) is None
    await second.close()


async def test_the_scan_removes_what_no_recipe_asks_for(data):
    folder = data.cache / "aa" / A
    folder.mkdir(parents=True)
    for name in (M, "m-0.webp", "junk"):
        (folder / name).write_bytes(b"x")
    other = data.cache / "bb" / B
    other.mkdir(parents=True)
    (other / "s-0.jpeg").write_bytes(b"x")
    (data.cache / "zz").mkdir()
    cache = DerivativeCache(data.cache, data.tmp, 1_000)
    cache.start()
    await cache.settled()
    assert sorted(p.name for p in folder.iterdir()) == [M]
    assert not other.exists()
    assert (data.cache / "CACHEDIR.TAG").exists()
    assert cache.stats().files == 1
    await cache.close()


async def test_drop_forgets_at_once_and_unlinks(cache, data):
    await store(cache, A, M, b"x")
    await store(cache, A, S, b"x")
    await store(cache, B, M, b"x")
    dropping = asyncio.ensure_future(cache.drop(A))
    await asyncio.sleep(0)
    assert cache.get(A, M) is None
    await dropping
    assert on_disk(data) == [f"bb/{B}/{M}"]
    assert cache.stats().bytes == 1
    await store(cache, A, M, b"again")
    assert read(cache, A, M) == b"again"


async def test_drop_is_at_once_even_while_only_the_disk_knows(data):
    first = DerivativeCache(data.cache, data.tmp, 1_000)
    await store(first, A, M, b"x")
    await first.close()
    second = DerivativeCache(data.cache, data.tmp, 1_000)  # not started: every look goes to the disk
    assert read(second, A, M) == b"x"
    dropping = asyncio.ensure_future(second.drop(A))
    await asyncio.sleep(0)
    (data.cache / "aa" / A).mkdir(exist_ok=True)
    (data.cache / "aa" / A / M).write_bytes(b"x")  # as if the thread had not come to it yet
    assert second.get(A, M) is None
    await dropping
    (data.cache / "aa" / A / M).unlink(missing_ok=True)
    await second.close()


async def test_drop_also_stops_what_is_being_written(cache, data, monkeypatch):
    gate = Gate(monkeypatch)
    cache.put(A, M, b"under way")
    cache.put(A, S, b"queued")
    cache.put(B, M, b"of another picture")
    await gate.wait()
    dropping = asyncio.ensure_future(cache.drop(A))
    await asyncio.sleep(0.01)
    gate.open()
    await dropping
    await cache.settled()
    assert on_disk(data) == [f"bb/{B}/{M}"]
    assert cache.get(A, M) is None
    assert cache.get(A, S) is None
    assert cache.stats().bytes == len(b"of another picture")


async def test_drop_between_rename_and_return_leaves_nothing(cache, data, monkeypatch):
    renamed, go = threading.Event(), threading.Event()
    real = os.rename

    def rename(source, target):
        go_on = str(target).endswith(M)
        if go_on:
            renamed.set()
            go.wait(10)  # the drop's unlink runs first, then the file appears: the worst order
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    cache.put(A, M, b"x")
    await asyncio.to_thread(renamed.wait, 10)
    await cache.drop(A)
    go.set()
    await cache.settled()
    assert on_disk(data) == []
    assert cache.get(A, M) is None


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_a_failing_disk_fails_nobody(cache, data, monkeypatch, call, code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        await store(cache, A, M, b"x")
    assert cache.stats().failed == 1
    assert cache.stats().stored == cache.stats().queued == 0
    assert cache.get(A, M) is None
    assert on_disk(data) == []
    await store(cache, A, M, b"x")
    assert read(cache, A, M) == b"x"


async def test_a_file_appears_only_complete_and_flushed(cache, data, monkeypatch):
    gate = Gate(monkeypatch)
    cache.put(A, M, b"x" * 100)
    await gate.wait()
    assert on_disk(data) == []
    gate.open()
    await cache.settled()
    assert read(cache, A, M) == b"x" * 100


async def test_a_file_that_vanished_is_a_miss(cache, data):
    await store(cache, A, M, b"x")
    (data.cache / "aa" / A / M).unlink()
    assert cache.get(A, M) is None
    assert cache.stats().bytes == 0


async def test_the_queue_is_bounded(data, monkeypatch):
    gate = Gate(monkeypatch)
    cache = DerivativeCache(data.cache, data.tmp, 10**9)
    for index in range(300):
        cache.put(f"{index:064x}", M, b"x")
    assert cache.stats().queued == 256
    assert cache.stats().refused == 44
    gate.open()
    await cache.settled()
    cache.put(A, M, bytes(65 * 1024 * 1024))
    assert cache.stats().refused == 45
    await cache.close()
    assert cache.stats().stored == 256


async def test_off_and_low_on_disk(data):
    off = DerivativeCache(data.cache, data.tmp, 0)
    await store(off, A, M, b"x")
    await off.close()
    low = DerivativeCache(data.cache, data.tmp, 1_000, has_room=lambda: False)
    await store(low, A, M, b"x")
    await low.close()
    assert on_disk(data) == []


async def test_uses_are_written_in_bulk(cache, data):
    await store(cache, A, M, b"x")
    path = Path(data.cache / "aa" / A / M)
    os.utime(path, (1_000, 1_000))
    before = time.time()
    assert read(cache, A, M) == b"x"
    assert path.stat().st_mtime == 1_000
    await cache.note_uses()
    assert path.stat().st_mtime >= before - 1
