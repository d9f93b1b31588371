"""The whole server on a disk that fills up, loses its power, or fails: what was acknowledged stays, the rest is clean."""

import random
import re
import resource
import shutil
import signal
import time

import pytest

from tests.crash.disks import disk
from tests.law import check_answers, check_disk
from tests.load import Kept, Load, small_png
from tests.patience import wait_until
from tests.servers import UNLIMITED, Server, leftovers, running

pytestmark = pytest.mark.crash

ENV = {
    **UNLIMITED,
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_IMAGING_WORKERS": "2",
    "IMGPRO_LOG_ACCESS": "false",
}
MB = 1 << 20


def large_png(seed):
    return small_png(random.Random(seed), 1100)  # 3.6 MB that no disk can compress


def kept_of(server, body):
    found = server.must_upload(body)
    return Kept(
        found["id"], found["src"].removeprefix(server.base), found["delete_url"].removeprefix(server.base), body
    )


# Full


def test_a_disk_that_fills_up_refuses_uploads_and_goes_on_serving_and_deleting(tmp_path):
    with (
        disk(tmp_path, 96) as small,
        running(small.root / "data", {**ENV, "IMGPRO_STORAGE_RESERVE_BYTES": "16 MB"}) as server,
    ):
        kept = []
        while (answer := server.upload(large_png(len(kept)), "x.png")).status == 201:
            found = answer.json()
            kept.append(Kept(found["id"], found["src"].removeprefix(server.base),
                             found["delete_url"].removeprefix(server.base), large_png(len(kept))))  # fmt: skip
            assert len(kept) < 40
        assert (answer.status, answer.json()["error"]) == (507, "storage_full")
        assert answer.headers["Retry-After"]
        wait_until(lambda: leftovers(server.data) == [])
        assert small.free_bytes() > 10 * MB, "the reserve is not used up by uploads"
        assert check_disk(server.data) == 0
        # Nothing at all is left, and still it reads and deletes.
        with small.filled():
            assert small.free_bytes() < 64 * 1024
            assert server.upload(small_png(random.Random(1))).status == 507
            for one in kept:
                assert server.get(one.path).body == one.body
            assert server.get(kept[0].webp + "?size=s").status == 200
            for one in kept[:2]:
                assert server.request("POST", one.delete_path).status == 200
                assert server.get(one.path).status == 404
        for one in kept[2:6]:
            assert server.request("POST", one.delete_path).status == 200
        wait_until(lambda: server.get("/readyz").status == 200)
        again = kept_of(server, large_png(1000))
        assert server.get(again.path).body == again.body
        assert server.stop() == 0
        server.start()
        for one in kept[6:]:
            assert server.get(one.path).body == one.body
        assert check_disk(server.data) == 0


def test_a_disk_that_runs_out_in_the_middle_of_uploads(tmp_path):
    with (
        disk(tmp_path, 64) as small,
        running(small.root / "data", {**ENV, "IMGPRO_STORAGE_RESERVE_BYTES": "0"}) as server,
    ):
        first = kept_of(server, small_png(random.Random(5)))
        with small.filled(leave_bytes=9 * MB):
            statuses = [server.upload(large_png(n), "x.png").status for n in range(6)]
            wait_until(lambda: leftovers(server.data) == [])
        assert set(statuses) == {201, 507}, statuses
        assert server.get(first.path).body == first.body
        assert server.upload(large_png(50)).status == 201
        assert server.stop() == 0
        assert check_disk(server.data) == 0
        assert "Traceback" not in server.log()


def test_a_server_starts_on_a_full_disk_and_serves(tmp_path):
    with (
        disk(tmp_path, 64) as small,
        running(small.root / "data", {**ENV, "IMGPRO_STORAGE_RESERVE_BYTES": "4 MB"}) as server,
    ):
        first = kept_of(server, small_png(random.Random(5)))
        server.stop(signal.SIGKILL)
        with small.filled():
            server.start()
            assert server.get(first.path).body == first.body
            assert server.upload(small_png(random.Random(6))).status == 507
            assert server.request("POST", first.delete_path).status == 200
        assert server.upload(small_png(random.Random(7))).status == 201


def test_a_limit_on_file_sizes_while_an_upload_streams(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MB, 2 * MB))

    server = Server(tmp_path / "data", ENV, preexec=limit)
    try:
        server.start()
        first = kept_of(server, small_png(random.Random(1)))
        assert server.upload(large_png(1)).status == 507
        assert server.get(first.path).body == first.body
        assert server.upload(small_png(random.Random(2))).status == 201
        wait_until(lambda: leftovers(server.data) == [])
        assert check_disk(server.data) == 0
        assert server.stop() == 0
    finally:
        server.close()


# Power


def cut(tmp_path, seed, *, apart=False):
    """Cut the power of the pictures' disk; `apart`: the database lies on another one, whose power stays on."""
    dice = random.Random(seed)
    env = {**ENV, "IMGPRO_STORAGE_RESERVE_BYTES": "0"}
    if apart:
        env["IMGPRO_STORAGE_DATABASE_DIR"] = str(tmp_path / "database")
    with disk(tmp_path, 128) as small:
        with running(small.root / "data", env) as server:
            # One client alone: no later upload makes the last one durable by the way.
            load = Load(server, clients=1 if apart else 6, seed=seed, deletes=0.2).start()
            load.wait_for(dice.randrange(10, 80))
            small.cut_power()
            server.stop(signal.SIGKILL)
            load.stop()
            small.unmount()
            small.mount()
            # What no answer was given for may be gone or there; the rest is as it was.
            server.start()
            assert check_disk(server.data, tmp_path / "database" if apart else None) <= 10
            check_answers(server, load)
            assert server.upload(small_png(random.Random(1))).status == 201
            assert server.stop() == 0
        small.unmount()
        small.check()


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("apart", [False, True])
def test_a_power_cut_in_the_middle_of_uploads(tmp_path, seed, apart):
    cut(tmp_path, seed, apart=apart)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 23))
def test_many_power_cuts(tmp_path, seed):
    cut(tmp_path, seed, apart=seed % 2 == 0)


# Faults


def faulty(tmp_path, *injections):
    """Return a server under a tracer that makes some of its system calls fail."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    calls = ",".join(re.match(r"(\w+)", injection)[1] for injection in injections)
    prefix = ["strace", "-f", "-D", "-qq", "-o", str(tmp_path / "trace"), f"--trace={calls}"]
    prefix += [f"--inject={injection}" for injection in injections]
    return Server(tmp_path / "data", {**ENV, "IMGPRO_IMAGING_WORKERS": "1"}, prefix=prefix)


@pytest.mark.parametrize(
    "injection", ["fsync:error=EIO", "fdatasync:error=EIO", "rename:error=EIO", "pwrite64:error=EIO"]
)
def test_a_call_that_fails_is_an_error_and_nothing_is_half(tmp_path, injection):
    """The start makes calls of the same kind, so the failing one is looked for step by step."""
    failed = 0
    with running(tmp_path / "data", ENV) as server:
        first = kept_of(server, small_png(random.Random(1)))
        assert server.stop() == 0
    name = injection.partition(":")[0]
    started = starting_calls(tmp_path, name)
    for nth in range(started + 1, started + 3):
        failed += upload_with_a_failing_call(tmp_path, f"{injection}:when={nth}", first, nth)
    assert failed, "no call failed: the test looked at nothing"


def upload_with_a_failing_call(tmp_path, injection, first, seed):
    """Upload three pictures, of which one may fail, look at what is left, and return how many failed."""
    server = faulty(tmp_path, injection)
    try:
        server.start()
        answers = [server.upload(small_png(random.Random(seed * 10 + n))) for n in range(3)]
        good = [answer.json()["src"].removeprefix(server.base) for answer in answers if answer.status == 201]
        bad = [answer for answer in answers if answer.status != 201]
        for answer in bad:
            assert answer.status in (500, 507)
            assert set(answer.json()) >= {"error", "message", "action"}
            assert "Errno" not in answer.body.decode()
        assert len(good) >= 2, answers
        assert server.get(first.path).body == first.body
        wait_until(lambda: leftovers(tmp_path / "data") == [])
        server.stop(signal.SIGTERM)
    finally:
        server.close()
    with running(tmp_path / "data", ENV) as sound:
        for path in good:
            assert sound.get(path).status == 200
        assert check_disk(sound.data) <= 2 * len(bad) + 2
        assert sound.stop() == 0
    return len(bad)


def starting_calls(tmp_path, name):
    """Count how often a start makes the call, so that the first one after it can be hit."""
    server = faulty(tmp_path, f"{name}:error=EIO:when=60000")
    try:
        server.start()
        time.sleep(0.3)
        return (tmp_path / "trace").read_text().count(f" {name}(")
    finally:
        server.close()
