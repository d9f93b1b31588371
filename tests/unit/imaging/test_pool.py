"""The pool: jobs done right, and whatever happens to a worker, the pool recovers and the caller gets a clean error."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from PIL import Image

from imgpro.errors import Busy, ImageBroken, ImageTooLarge, UnsupportedFormat
from imgpro.imaging.children import WorkerHandle, zygote_environment
from imgpro.imaging.lanes import Lane, Lanes
from imgpro.imaging.pool import Pool, PoolSettings, lane_of, lane_of_upload
from imgpro.model import Ingested, RenderJob, StoredFormat
from imgpro.processors import half
from imgpro.recipes import ALL
from tests.containers import encode, moving, picture
from tests.pictures import encoded, make_image, turned_exif

PHOTO = encoded(make_image("RGB", (1600, 1200)), "JPEG")
TO_WEBP = RenderJob(format="jpeg", recipe=ALL["webp", "s"])


@contextmanager
def files(data: bytes = PHOTO, count: int = 1) -> Iterator[list[int]]:
    """A source with these bytes, and `count` empty files."""
    with ExitStack() as stack:
        source, *others = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(count + 1))
        source.write(data)
        source.flush()
        yield [source.fileno(), *(other.fileno() for other in others)]


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    made = Pool(PoolSettings(workers=2))
    await made.start()
    yield made
    await made.close()


async def works(pool: Pool) -> None:
    with files() as fds:
        done = await asyncio.wait_for(pool.render(fds[0], fds[1], TO_WEBP), 20)
        assert Image.open(BytesIO(os.pread(fds[1], done.length, 0))).size == (426, 320)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def pids(pool: Pool) -> list[int]:
    return [worker.pid for worker in pool._workers]


def at_work(pool: Pool) -> list[WorkerHandle]:
    return [worker for worker in pool._workers if worker.alive and worker not in pool._lanes._free]


@cache
def large() -> bytes:
    return encoded(make_image("RGB", (6000, 5000)), "PNG", compress_level=1)


async def slow_ingest(pool: Pool) -> Ingested:
    """An ingest that takes long enough to be disturbed."""
    with files(large(), 2) as fds:
        return await pool.ingest(*fds)


def halt(pool: Pool) -> None:
    """Keep all workers from getting on, so that what they are given next is under way for as long as wanted."""
    for pid in pids(pool):
        os.kill(pid, signal.SIGSTOP)


def go_on(pool: Pool) -> None:
    for pid in pids(pool):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def test_an_ingest_reports_cleans_and_warms(pool: Pool) -> None:
    data = encoded(make_image("RGB", (1300, 1700)), "JPEG", exif=turned_exif(6), comment=b"a secret")
    with files(data, 2) as fds:
        done = await pool.ingest(*fds)
        assert (done.format, done.width, done.height, done.orientation) == ("jpeg", 1700, 1300, 6)
        assert "comment" in done.removed
        assert done.cleaned_bytes is not None
        cleaned = os.pread(fds[1], done.cleaned_bytes + 1, 0)
        assert len(cleaned) == done.cleaned_bytes
        assert b"a secret" not in cleaned
        assert Image.open(BytesIO(cleaned)).tobytes() == Image.open(BytesIO(data)).tobytes()
        assert [warm.recipe.key.split("-")[0] for warm in done.warm] == ["l", "m", "s"]
        for warm, size in zip(done.warm, ((1412, 1080), (836, 640), (418, 320)), strict=True):
            assert Image.open(BytesIO(os.pread(fds[2], warm.length, warm.offset))).size == size
        assert done.placeholder.startswith("data:image/webp;base64,")
        assert len(done.placeholder) < 400
        assert done.phash is not None


@pytest.mark.parametrize(("data", "error"), [
    (b"", UnsupportedFormat), (b"%PDF-1.7 nothing here", UnsupportedFormat), (PHOTO[:5000], ImageBroken),
])  # fmt: skip
async def test_a_bad_upload_is_the_same_error_here(pool: Pool, data: bytes, error: type[Exception]) -> None:
    with files(data, 2) as fds, pytest.raises(error):
        await pool.ingest(*fds)
    assert pool.status().restarts == 0
    await works(pool)


async def test_a_bomb_is_too_large(pool: Pool) -> None:
    with files(encoded(Image.new("1", (19_000, 19_000)), "PNG"), 2) as fds, pytest.raises(ImageTooLarge):
        await pool.ingest(*fds)


async def test_too_little_memory_is_a_clean_refusal() -> None:
    pool = Pool(PoolSettings(workers=1, worker_memory_bytes=128 << 20))
    await pool.start()
    data = encoded(make_image("RGB", (7000, 7000)), "PNG", compress_level=1)
    with files(data, 2) as fds, pytest.raises((ImageTooLarge, ImageBroken)):
        await pool.ingest(*fds)
    await works(pool)
    await pool.close()


async def test_a_killed_worker_costs_its_caller_nothing(pool: Pool) -> None:
    halt(pool)
    job = asyncio.create_task(slow_ingest(pool))
    await until(lambda: pool.status().busy == 1)
    for pid in pids(pool):
        os.kill(pid, signal.SIGKILL)
    assert (await job).width == 6000
    await until(lambda: pool.status().workers == 2)
    await works(pool)


async def test_a_picture_that_kills_every_worker_is_broken(pool: Pool) -> None:
    job = asyncio.create_task(slow_ingest(pool))
    for _ in range(2):
        await until(lambda: bool(at_work(pool)))
        busy = at_work(pool)[0]
        os.kill(busy.pid, signal.SIGSEGV)
        while busy.alive:
            await asyncio.sleep(0.01)
    with pytest.raises(ImageBroken):
        await job
    await until(lambda: pool.status().workers == 2)
    await works(pool)


async def test_a_stopped_worker_is_killed_on_the_deadline() -> None:
    pool = Pool(PoolSettings(workers=1, deadline_s=1.0))
    await pool.start()
    stopped = pids(pool)[0]
    os.kill(stopped, signal.SIGSTOP)
    with files() as fds, pytest.raises(ImageTooLarge, match="too long"):
        await pool.render(*fds, TO_WEBP)
    assert pool.status().kills == 1
    await works(pool)
    await until(lambda: not Path(f"/proc/{stopped}").exists())
    await pool.close()


async def test_an_idle_worker_that_dies_is_replaced(pool: Pool) -> None:
    for pid in pids(pool):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: pool.status().workers == 2 and pool.status().restarts == 2)
    await works(pool)


async def test_the_zygote_comes_back(pool: Pool) -> None:
    assert pool._zygote is not None
    before = pids(pool)
    os.kill(pool._zygote.pid, signal.SIGKILL)
    await until(lambda: pool.status().workers == 2 and not set(before) & set(pids(pool)))
    await works(pool)


async def test_the_death_of_all_costs_no_caller_its_job(pool: Pool) -> None:
    halt(pool)
    jobs = [asyncio.create_task(slow_ingest(pool)) for _ in range(2)]
    await until(lambda: len(at_work(pool)) == 2)
    assert pool._zygote is not None
    os.kill(pool._zygote.pid, signal.SIGKILL)
    assert [done.width for done in await asyncio.gather(*jobs)] == [6000, 6000]


async def test_a_cancelled_caller_leaves_no_answer_for_the_next(pool: Pool) -> None:
    for _ in range(5):
        halt(pool)
        job = asyncio.create_task(slow_ingest(pool))
        await until(lambda: pool.status().busy == 1)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        go_on(pool)
        await works(pool)
    assert pool.status().busy == 0


async def test_a_full_queue_is_busy() -> None:
    pool = Pool(PoolSettings(workers=1, max_queued=2, queue_deadline_s=0.3, deadline_s=30))
    await pool.start()
    os.kill(pids(pool)[0], signal.SIGSTOP)
    with files() as fds:
        jobs = [asyncio.create_task(pool.render(*fds, TO_WEBP)) for _ in range(3)]
        await until(lambda: pool.status().queued == 2)
        with pytest.raises(Busy):
            await pool.render(*fds, TO_WEBP)
        for late in jobs[1:]:
            with pytest.raises(Busy):
                await late
        os.kill(pids(pool)[0], signal.SIGCONT)
        await jobs[0]
    await pool.close()


async def test_two_hundred_jobs_leave_nothing_open(pool: Pool) -> None:
    small = encoded(make_image("RGB", (340, 330)), "JPEG")
    with files(small) as fds:
        await pool.render(*fds, TO_WEBP)
        before = len(os.listdir("/proc/self/fd")), [len(os.listdir(f"/proc/{pid}/fd")) for pid in sorted(pids(pool))]
        await asyncio.gather(*(pool.render(*fds, TO_WEBP) for _ in range(60)))
        for _ in range(140):
            await pool.render(*fds, TO_WEBP)
        after = len(os.listdir("/proc/self/fd")), [len(os.listdir(f"/proc/{pid}/fd")) for pid in sorted(pids(pool))]
    assert after == before
    assert pool.status().restarts == 0


async def test_a_worker_retires_after_its_share() -> None:
    pool = Pool(PoolSettings(workers=1))
    pool._orders = msgspec.structs.replace(pool._orders, jobs=3)
    await pool.start()
    for _ in range(10):
        await works(pool)
    assert pool.status().restarts == 3
    await pool.close()


async def test_nothing_is_left_after_close(pool: Pool) -> None:
    assert pool._zygote is not None
    everyone = [pool._zygote.pid, *pids(pool)]
    await pool.close()
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in everyone))
    with files() as fds, pytest.raises(Busy):
        await pool.render(*fds, TO_WEBP)


def test_workers_die_with_a_killed_server() -> None:
    code = (
        "import asyncio, os, signal\n"
        "from imgpro.imaging.pool import Pool, PoolSettings\n"
        "async def main():\n"
        "    pool = Pool(PoolSettings(workers=2)); await pool.start()\n"
        "    print(pool._zygote.pid, *(w.pid for w in pool._workers), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60, check=False)
    everyone = done.stdout.split()
    assert len(everyone) == 3
    for _ in range(500):
        if not any(_runs(int(pid)) for pid in everyone):
            return
        subprocess.run(["sleep", "0.01"], check=True)
    pytest.fail("a worker outlived its server")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_server_never_loads_pillow() -> None:
    code = (
        "import asyncio, sys, tempfile\n"
        "from imgpro.imaging.pool import Pool, PoolSettings\n"
        "async def main():\n"
        "    pool = Pool(PoolSettings(workers=1)); await pool.start(); await pool.close()\n"
        "asyncio.run(main())\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('PIL', 'pi_heif', 'pillow_avif')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60, check=True)
    assert done.stdout.strip() == b"[]"


def test_it_runs_under_uvloop() -> None:
    async def main() -> None:
        pool = Pool(PoolSettings(workers=1))
        await pool.start()
        await works(pool)
        os.kill(pids(pool)[0], signal.SIGKILL)
        await works(pool)
        await pool.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_workers_inherit_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGPRO_SECRET", "hush")
    assert "hush" not in str(zygote_environment())


async def test_workers_step_back_and_die_first(pool: Pool) -> None:
    await works(pool)
    for pid in pids(pool):
        assert os.getpriority(os.PRIO_PROCESS, pid) >= 10
        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
    assert pool.sandbox is not None
    assert pool.sandbox.no_new_privs


@pytest.mark.parametrize(("job", "length", "lane"), [
    (("jpeg", "avif", "s"), 100, Lane.HEAVY), (("gif", "webp", "m"), 100, Lane.HEAVY),
    (("jpeg", "webp", "l"), 60 << 20, Lane.LIGHT), (("png", "jpeg", "o"), 60 << 20, Lane.HEAVY),
    (("png", "webp", "m"), 1 << 20, Lane.LIGHT),
])  # fmt: skip
def test_slow_jobs_go_to_the_heavy_lane(job: tuple[StoredFormat, Any, Any], length: int, lane: Lane) -> None:
    assert lane_of(RenderJob(format=job[0], recipe=ALL[job[1], job[2]]), length) is lane


@pytest.mark.parametrize(("kind", "length", "lane"), [
    ("GIF", 300 << 10, Lane.HEAVY), ("GIF", 10 << 10, Lane.LIGHT), ("WEBP", 300 << 10, Lane.HEAVY),
    ("AVIF", 300 << 10, Lane.HEAVY), ("JPEG", 300 << 10, Lane.LIGHT), ("PNG", 13 << 20, Lane.HEAVY),
])  # fmt: skip
def test_uploads_that_may_hold_many_frames_are_heavy(kind: str, length: int, lane: Lane) -> None:
    if kind == "AVIF":
        head = b"\0\0\0\x20ftypavif\0\0\0\0"
    else:
        head = moving(kind) if kind in {"GIF", "WEBP"} else encode(picture("RGB"), kind)
    assert lane_of_upload(head[:32], length) is lane


def test_a_still_webp_and_an_empty_upload_are_light() -> None:
    assert lane_of_upload(encode(picture("RGB"), "WEBP")[:32], 300 << 10) is Lane.LIGHT
    assert lane_of_upload(b"", 0) is Lane.LIGHT
    assert lane_of_upload(b"RIFF\0\0\0\0WEBPVP8X", 16) is Lane.LIGHT


async def queue_up(lanes: Lanes[int], order: str) -> tuple[list[str], list["asyncio.Task[None]"]]:
    """Start one job for each letter: h heavy, l light, each holding its worker for a moment."""
    started: list[str] = []

    async def job(letter: str) -> None:
        lane = Lane.HEAVY if letter == "h" else Lane.LIGHT
        worker = await lanes.take(lane)
        started.append(letter)
        await asyncio.sleep(0)
        lanes.give_back(worker, lane)

    tasks = [asyncio.create_task(job(letter)) for letter in order]
    await asyncio.sleep(0)
    return started, tasks


async def test_light_jobs_overtake_heavy_ones_but_not_for_ever() -> None:
    lanes: Lanes[int] = Lanes(1, 100, 5)
    started, tasks = await queue_up(lanes, "hh" + "l" * 12)
    lanes.add(1)
    await asyncio.gather(*tasks)
    assert "".join(started) == "llllhllllhllll"


async def test_heavy_jobs_never_hold_every_worker() -> None:
    lanes: Lanes[int] = Lanes(1, 100, 5)
    lanes.add(1)
    lanes.add(2)
    first = await lanes.take(Lane.HEAVY)
    waiting = asyncio.create_task(lanes.take(Lane.HEAVY))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await lanes.take(Lane.LIGHT) != first
    lanes.give_back(first, Lane.HEAVY)
    assert await waiting == first


async def test_a_caller_that_leaves_the_queue_takes_no_worker_along() -> None:
    lanes: Lanes[int] = Lanes(1, 100, 5)
    waiting = asyncio.create_task(lanes.take(Lane.LIGHT))
    await asyncio.sleep(0)
    lanes.add(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (lanes.busy, lanes.queued) == (0, 0)
    assert await lanes.take(Lane.LIGHT) == 1


# What nobody waits for


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor for all")
async def test_what_stands_aside_leaves_processors_to_others_and_no_longer_than_it_takes(pool):
    everything = os.sched_getaffinity(0)
    seen: set[frozenset[int]] = set()

    async def watch():
        while True:
            seen.update(frozenset(os.sched_getaffinity(worker.pid)) for worker in at_work(pool))
            await asyncio.sleep(0.001)

    for aside in (True, False):
        seen.clear()
        watching = asyncio.create_task(watch())
        with files(count=2) as fds:
            await pool.ingest(*fds, aside=aside)
        watching.cancel()
        assert (half(everything) in seen) == aside
    assert all(os.sched_getaffinity(pid) == everything for pid in pids(pool))
