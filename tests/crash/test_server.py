"""The whole server killed at every named point and at random under load; its workers killed and stopped."""

import contextlib
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imgpro.store.durable import POINTS
from tests.containers import encode, picture
from tests.law import cached_digests, check_answers, check_disk
from tests.load import Load, small_png
from tests.patience import wait_until
from tests.servers import UNLIMITED, Server, leftovers, running

pytestmark = pytest.mark.crash

ENV = {
    **UNLIMITED,
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_IMAGING_WORKERS": "2",
    "IMGPRO_LOG_ACCESS": "false",
}


def descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found[1:]


def workers(server: Server) -> list[int]:
    """Return the processes that decode: the children of the zygote."""
    return [pid for parent in descendants(server.pid) for pid in descendants(parent)]


def restart_and_check(server: Server, load: Load, kills: int = 1) -> None:
    server.env.pop("IMGPRO_CRASH_AT", None)
    server.start()
    assert leftovers(server.data) == []
    assert check_disk(server.data) <= 8 * kills, "at most what was under way at each kill is an orphan"
    check_answers(server, load)
    assert server.upload(small_png(random.Random(99))).status == 201
    assert server.stop() == 0
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_of_the_write_path(tmp_path, point):
    nth = 5 + POINTS.index(point) * 3 % 11
    with running(tmp_path / "data", {**ENV, "IMGPRO_CRASH_AT": f"{point}:{nth}"}) as server:
        load = Load(server, clients=4, seed=POINTS.index(point), deletes=0.4).start()
        assert load.wait_until_dead() == -signal.SIGKILL
        restart_and_check(server, load)


def rounds(tmp_path, count, seed):
    dice = random.Random(seed)
    with running(tmp_path / "data", ENV) as server:
        owed = None
        for number in range(count):
            load = Load(server, clients=6, seed=seed * 1000 + number, deletes=0.3).start()
            load.wait_for(dice.randrange(1, 40))
            time.sleep(dice.random() * 0.05)
            os.kill(server.pid, signal.SIGKILL)
            assert load.wait_until_dead() == -signal.SIGKILL
            if owed is not None:
                load.merge(owed)
            restart_and_check(server, load, kills=number + 1)
            server.start()
            owed = load


def test_killed_at_random_again_and_again(tmp_path):
    rounds(tmp_path, 5, seed=int(time.time()))


@pytest.mark.slow
def test_killed_at_random_for_a_long_time(tmp_path):
    rounds(tmp_path, 60, seed=int(time.time()))


# Workers


@pytest.fixture
def server(tmp_path):
    with running(tmp_path / "data", {**ENV, "IMGPRO_IMAGING_DEADLINE_S": "3"}) as found:
        yield found


def busy_upload(server, seed=1, size=(5000, 4000)):
    image = picture("RGB", size)
    image.putpixel((seed, 0), (1, 2, 3))
    return encode(image, "JPEG", quality=90)


def busy(pids):
    """Return those of the processes that run at this moment."""
    found = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end while we look
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "R":
                found.append(pid)
    return found


def catch_one_at_work(server):
    """Return a worker in the middle of a job."""
    found = []
    wait_until(lambda: found.extend(busy(workers(server))) or found)
    return found[0]


def all_back(server, without=0):
    wait_until(lambda: len(workers(server)) == 2 and without not in workers(server))
    wait_until(lambda: server.get("/readyz").status == 200)


def test_a_worker_killed_in_an_upload_costs_nothing(server):
    body = busy_upload(server)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.upload, body)
        victim = catch_one_at_work(server)
        os.kill(victim, signal.SIGKILL)
        assert answer.result().status == 201, "the job is done again by another"
    assert server.get(answer.result().json()["src"]).status == 200
    all_back(server, without=victim)
    wait_until(lambda: leftovers(server.data) == [])


def test_workers_killed_again_and_again_give_a_clean_answer(server):
    body = busy_upload(server)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.upload, body)
        while not answer.done():
            for pid in busy(workers(server)):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
    assert answer.result().status in (201, 422, 503), answer.result()  # 503: not one lived long enough to begin
    assert set(answer.result().json()) >= {"error", "message", "action"} or answer.result().status == 201
    all_back(server)
    wait_until(lambda: leftovers(server.data) == [])
    assert server.upload(body).status == 201


def test_a_worker_killed_in_a_render_costs_nothing(server):
    found = server.must_upload(busy_upload(server))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.get, f"/t/{found['id']}.png")
        os.kill(catch_one_at_work(server), signal.SIGKILL)
        assert answer.result().status == 200
    all_back(server)


@pytest.mark.parametrize("job", ["upload", "render"])
def test_a_stopped_worker_costs_one_request_and_is_replaced(server, job):
    found = server.must_upload(busy_upload(server))
    work = {
        "upload": lambda: server.upload(busy_upload(server, 2)),
        "render": lambda: server.get(f"/t/{found['id']}.png"),
    }
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(work[job])
        victim = catch_one_at_work(server)
        os.kill(victim, signal.SIGSTOP)
        # Others are served meanwhile, by the other worker.
        assert server.upload(small_png(random.Random(3))).status == 201
        stopped = answer.result()
    assert (stopped.status, stopped.json()["error"]) == (422, "image_too_large")
    all_back(server, without=victim)
    wait_until(lambda: leftovers(server.data) == [])
    assert server.upload(busy_upload(server, 2)).status == 201


def test_the_parent_of_the_workers_killed_under_load(server):
    load = Load(server, clients=4, deletes=0.2).start()
    load.wait_for(15)
    for pid in descendants(server.pid):
        if descendants(pid):
            os.kill(pid, signal.SIGKILL)
    load.wait_for(45)
    load.stop()
    assert not [status for status in load.statuses if status >= 500], load.statuses
    all_back(server)
    check_answers(server, load)
    assert check_disk(server.data) == 0


def test_after_load_and_deletions_nothing_of_the_deleted_is_on_the_disk(tmp_path):
    with running(tmp_path / "data", ENV) as server:
        load = Load(server, clients=6, deletes=0.5).start()
        load.wait_for(80)
        load.stop()
        assert not [status for status in load.statuses if status >= 500], load.statuses
        check_answers(server, load)
        assert server.stop() == 0
        assert check_disk(server.data) == 0
        stored = {path.name for path in (server.data / "blobs").rglob("*") if path.is_file()}
        assert cached_digests(server.data) <= stored
