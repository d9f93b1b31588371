"""The whole appliance in this process: one transform per key, exact caches, nothing blocking, nothing leaking."""

import asyncio
import contextlib
import gc
import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop
from blockbuster import BlockBuster, BlockingError

from imgpro.settings import Cache
from tests.containers import encode, picture
from tests.http.inside import children, descriptors, inside, pss_bytes, settings, tree
from tests.law import cached_digests, check_disk
from tests.load import small_png
from tests.servers import running

# Calls that count as blocking and may all the same be made on the loop, each bounded and rarer than once a picture.
ALLOWED = {
    # One look at the free space before a body is let in: microseconds, and later is too late.
    "os.statvfs": [("imgpro/store/layout.py", "free_space")],
    # sendfile on a socket that does not block moves what fits into the socket's buffer and returns.
    "os.sendfile": [("imgpro/web/sendfile.py", "_send")],
}


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine to its end on either loop, as the server would."""

    def on_loop(work):
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(work, 100))

    return on_loop


@contextlib.contextmanager
def nothing_blocks():
    """Make blocking calls on the loop fail. Starting and closing, when nobody is served, may block."""
    buster = BlockBuster()
    for name, places in ALLOWED.items():
        for place in places:
            buster.functions[name].can_block_in(*place)
    buster.activate()
    try:
        yield
    finally:
        buster.deactivate()


def jpeg(seed=1, size=(1600, 1200)):
    small = picture("RGB", size)
    small.putpixel((seed % size[0], 1), (seed % 256, seed // 256 % 256, 7))
    return encode(small, "JPEG", quality=92)


# One transform


def test_two_hundred_clients_on_one_cold_key_cost_one_transform(tmp_path, run):
    async def story():
        async with inside(tmp_path / "data") as here:
            found = await here.must_upload(jpeg())
            path = f"/t/{found['id']}.webp?size=m"
            answers = await asyncio.gather(*(here.get(path) for _ in range(200)))
            assert {answer.status for answer in answers} == {200}
            assert len({answer.body for answer in answers}) == 1
            assert here.appliance.serve.transforms == 1

    run(story())


def test_whoever_asks_while_a_derivative_is_written_to_the_disk_causes_no_second_one(tmp_path, run):
    async def story():
        cold = settings(cache=Cache(memory_bytes=0))  # or the memory would answer
        async with inside(tmp_path / "data", cold) as here:
            found = await here.must_upload(jpeg())
            gate = threading.Event()
            here.appliance.derivs._writer.submit(gate.wait)  # the disk is busy
            try:
                for size in ("?size=m", ""):
                    here.appliance.serve.transforms = 0
                    for _ in range(3):
                        assert (await here.get(f"/t/{found['id']}.webp{size}")).status == 200
                    assert here.appliance.serve.transforms == 1
            finally:
                gate.set()
            await here.appliance.derivs.settled()
            assert here.appliance.serve._made == {}
            assert (await here.get(f"/t/{found['id']}.webp")).status == 200
            assert here.appliance.serve.transforms == 1

    run(story())


def test_clients_that_leave_take_nothing_from_the_others(tmp_path, run):
    async def story():
        async with inside(tmp_path / "data") as here:
            found = await here.must_upload(jpeg())
            path = f"/t/{found['id']}.png"
            tasks = [asyncio.create_task(here.get(path)) for _ in range(30)]
            while not here.appliance.pool.status().busy:
                await asyncio.sleep(0.001)
            for task in tasks[:20]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert [answer.status for answer in answers[20:]] == [200] * 10
            assert here.appliance.serve.transforms == 1
            # Even when all of them leave, the work is kept for the next one.
            path = f"/t/{found['id']}.png?size=l"
            tasks = [asyncio.create_task(here.get(path)) for _ in range(3)]
            while not here.appliance.pool.status().busy:
                await asyncio.sleep(0.001)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (await here.get(path)).status == 200
            assert here.appliance.serve.transforms == 2

    run(story())


def test_a_full_queue_is_503_with_a_time_to_come_back(tmp_path, run):
    async def story():
        async with inside(tmp_path / "data", settings(workers=1, max_queued=2)) as here:
            found = await here.must_upload(jpeg())
            forms = [f"{ext}{size}" for ext in ("png", "webp", "avif", "gif") for size in ("", "?size=l", "?size=m")]
            answers = await asyncio.gather(*(here.get(f"/t/{found['id']}.{form}") for form in forms))
            refused = [answer for answer in answers if answer.status == 503]
            assert {answer.status for answer in answers} == {200, 503}
            for answer in refused:
                assert int(answer.headers["Retry-After"]) >= 1
                assert answer.json()["error"] == "busy"
                assert answer.json()["action"]["type"] == "wait"
                assert "immutable" not in answer.headers["Cache-Control"]
            # Nothing of that is remembered.
            for form in forms:
                assert (await here.get(f"/t/{found['id']}.{form}")).status == 200

    run(story())


# Deletion


@contextlib.asynccontextmanager
async def in_the_middle(here):
    """Wait until a worker has the job, and let it not go on before the end of the block."""
    while not here.appliance.pool.status().busy:
        await asyncio.sleep(0)
    held = tree(os.getpid())[1:]
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("form", ["png", "webp?size=l"])
def test_a_picture_deleted_while_it_is_transformed_leaves_nothing(tmp_path, run, form):
    async def story():
        async with inside(tmp_path / "data") as here:
            found = await here.must_upload(jpeg())
            await here.appliance.derivs.settled()
            view = asyncio.create_task(here.get(f"/t/{found['id']}.{form}"))
            async with in_the_middle(here):
                assert (await here.delete(found)).status == 200
                assert (await here.get(f"/t/{found['id']}.{form}")).status == 404
            assert (await view).status == 404
            assert here.appliance.hot.held_bytes == 0
            await here.appliance.derivs.settled()
            assert cached_digests(tmp_path / "data") == set()
            assert list((tmp_path / "data/tmp").iterdir()) == []

    run(story())


def test_the_other_link_to_the_same_bytes_lives_on(tmp_path, run):
    async def story():
        async with inside(tmp_path / "data") as here:
            body = jpeg()
            first, second = await here.must_upload(body), await here.must_upload(body)
            views = [asyncio.create_task(here.get(f"/t/{found['id']}.png")) for found in (first, second)]
            async with in_the_middle(here):
                assert (await here.delete(first)).status == 200
            mine, others = await asyncio.gather(*views)
            assert mine.status == 404
            assert others.status == 200
            assert (await here.get(f"/t/{second['id']}.png")).body == others.body
            assert here.appliance.serve.transforms == 1

    run(story())


def test_a_deletion_is_carried_through_when_its_caller_goes(tmp_path, run):
    async def story():
        async with inside(tmp_path / "data") as here:
            found = await here.must_upload(small_png(random.Random(1)))
            for link in (found["src"], found["sizes"]["s"]["src"]):
                assert (await here.get(link)).status == 200
            task = asyncio.create_task(here.appliance.remove.images([found["id"]]))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for _ in range(200):
                statuses = [(await here.get(link)).status for link in (found["src"], found["sizes"]["s"]["src"])]
                if statuses == [404, 404]:
                    break
                await asyncio.sleep(0.01)
            assert statuses == [404, 404]

    run(story())


@pytest.mark.parametrize("records", [0, 3, 10_000])
def test_caches_are_exact_under_viewers_and_deletions(tmp_path, run, records):
    """Once a deletion was answered, no later request sees the picture, whatever was under way meanwhile."""

    async def viewer(here, live, gone, dice):
        for _ in range(60):
            found = dice.choice(live)
            was_gone = found["id"] in gone
            answer = await here.get(f"/t/{found['id']}.{dice.choice(['png', 'png?size=s', 'webp?size=s'])}")
            assert answer.status == 404 if was_gone else answer.status in (200, 404)
            assert answer.status == 200 or found["id"] in gone or found.get("going")

    async def deleter(here, live, gone, dice):
        for _ in range(8):
            await asyncio.sleep(dice.random() * 0.05)
            found = dice.choice(live)
            found["going"] = True
            answer = await here.delete(found)
            assert answer.status in (200, 404)
            gone.add(found["id"])
            live.append(await here.must_upload(found["bytes"]))
            live[-1]["bytes"] = found["bytes"]

    async def story():
        dice = random.Random(records)
        async with inside(tmp_path / "data", settings(cache=Cache(records=records))) as here:
            live, gone = [], set()
            for n in range(6):
                body = small_png(random.Random(n // 2))  # pairs of links share their bytes
                live.append(await here.must_upload(body))
                live[-1]["bytes"] = body
            await asyncio.gather(
                *(viewer(here, live, gone, random.Random(dice.random())) for _ in range(8)),
                *(deleter(here, live, gone, random.Random(dice.random())) for _ in range(3)),
            )
            for found in live:
                assert (await here.get(f"/t/{found['id']}.png")).status == (404 if found["id"] in gone else 200)
                if found["id"] in gone:
                    assert (await here.delete(found)).status == 404
            await here.appliance.derivs.settled()
            stored = {path.name for path in (tmp_path / "data/blobs").rglob("*") if path.is_file()}
            assert cached_digests(tmp_path / "data") <= stored
        assert check_disk(tmp_path / "data") == 0

    run(story())


# Blocking and leaks


def test_nothing_blocks_the_loop(tmp_path, run):
    async def one(here, n):
        found = await here.must_upload(jpeg(n, (800, 600)))
        for form in ("jpeg", "jpeg?size=s", "webp", "webp?size=m", "png"):
            for _ in range(2):
                answer = await here.get(f"/t/{found['id']}.{form}")
                assert answer.status == 200, answer
        for page in ("/", f"/{found['id']}", f"/v1/media/{found['id']}", "/healthz", "/readyz", "/robots.txt"):
            assert (await here.get(page)).status == 200, page
        assert (await here.get("/t/nothing00000.png")).status == 404
        assert (await here.upload(b"not a picture")).status == 415
        assert (await here.upload(jpeg(n, (800, 600)))).status == 201
        assert (await here.delete(found)).status == 200

    async def story():
        async with inside(tmp_path / "data", settings(cache=Cache(memory_item_bytes=20_000))) as here:
            with nothing_blocks():
                await asyncio.gather(*(one(here, n) for n in range(3)))
                upkeep = here.appliance.upkeep
                await upkeep.expire()
                await upkeep.sweep_orphans()
                await upkeep.prune_logs()
                await upkeep.note_uses()
                await upkeep.maintain_database()

    run(story())


def test_the_blocking_detector_detects(run, tmp_path):
    async def story():
        with nothing_blocks():
            (tmp_path / "x").write_bytes(b"x")

    with pytest.raises(BlockingError):
        run(story())


def test_fifty_openings_leak_nothing(tmp_path):
    async def once(round_):
        async with inside(tmp_path / "data", settings(workers=1)) as here:
            if round_ % 10 == 0:
                found = await here.must_upload(small_png(random.Random(round_)))
                assert (await here.get(f"/t/{found['id']}.webp?size=s")).status == 200
        return len(asyncio.all_tasks())

    def rounds(count):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for n in range(count):
                assert runner.run(once(n)) == 1
            gc.collect()
            return descriptors(), threading.active_count(), len(children())

    before = rounds(2)
    after = rounds(50)
    # The loop's own pool of threads grows to its limit and stays there.
    assert after[0] <= before[0]
    assert after[2] == before[2]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("db-", "blobs", "derivs"))]


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs smaps_rollup")
def test_memory_is_bounded_and_comes_back(tmp_path, photos):
    body = (photos / "photo-24mp.jpg").read_bytes()
    env = {"IMGPRO_IMAGING_WORKERS": "2", "IMGPRO_ANONYMOUS_UPLOADS_PER_HOUR": "unlimited"}
    with running(tmp_path / "data", env) as server:
        found = server.must_upload(body)
        forms = [f"{ext}?size={size}" for ext in ("webp", "png") for size in ("s", "m", "l")]
        forms += ["webp", "png", "avif?size=l", "avif?size=m", "avif?size=s", "gif?size=s", "gif?size=m", "gif?size=l",
                  "jpeg?size=l", "jpeg?size=m"]  # fmt: skip
        idle = pss_bytes(tree(server.pid))
        peak, done = idle, threading.Event()

        def watch():
            nonlocal peak
            while not done.wait(0.05):
                peak = max(peak, pss_bytes(tree(server.pid)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with ThreadPoolExecutor(16) as pool:
                statuses = list(pool.map(lambda form: server.get(f"/t/{found['id']}.{form}").status, forms))
        finally:
            done.set()
            watcher.join()
        assert len(forms) == 16
        assert set(statuses) <= {200, 503}, statuses
        assert statuses.count(200) >= 8
        # Two workers, each with the pixels of 24 megapixels (96 MB) a few times over, and the server itself.
        assert peak < 1_000_000_000
        for _ in range(100):
            after = pss_bytes(tree(server.pid))
            if after < 1.6 * idle:
                break
            threading.Event().wait(0.1)
        assert after < 1.6 * idle, (idle, peak, after)
