"""Disks that get full, run out of inodes or stop taking writes under a server that goes on: what is refused, what is not.

What is stored stays, and all of it ends by itself once there is room again.
"""

import contextlib
import os
import random
import re
import shutil
import subprocess
import time

import pytest

from imgpro.store import room
from tests.crash.disks import disk
from tests.crash.test_disk import ENV, MB, kept_of, large_png
from tests.law import check_disk
from tests.load import small_png
from tests.patience import wait_until
from tests.servers import leftovers, running
from tests.signed_in import claimed

pytestmark = pytest.mark.crash

SMALL = {
    **ENV,
    "IMGPRO_STORAGE_RESERVE_BYTES": "16 MB",
    "IMGPRO_STORAGE_LOW_BYTES": "0",
    "IMGPRO_METRICS_ENABLED": "true",
}


def readiness(server):
    return server.get("/readyz").json()


def metric(server, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", server.get("/metrics").body.decode(), re.MULTILINE)
    return float(found[1])


def said(server, words):
    return server.log().count(words)


def uploads_again(server):
    return server.upload(small_png(random.Random(time.time_ns()))).status == 201


@contextlib.contextmanager
def immutable(*paths):
    """Forbid writing even to root, as a disk that has become read-only does."""
    if shutil.which("chattr") is None:
        pytest.skip("chattr is not installed")
    subprocess.run(["chattr", "+i", *map(str, paths)], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *map(str, paths)], check=True)


def test_low_space_is_said_once_and_the_cache_gives_way_before_uploads_do(tmp_path):
    env = {**SMALL, "IMGPRO_STORAGE_LOW_BYTES": "60 MB"}
    with disk(tmp_path, 144) as small, running(small.root / "data", env) as server:
        operator = claimed(server)
        assert 'role="status"' not in operator.get("/operator").body.decode()
        kept = [kept_of(server, large_png(n)) for n in range(3)]
        for one in kept:
            for kind in ("png?size=m", "webp", "webp?size=l", "jpg"):
                assert server.get(one.path.replace("png", kind)).status == 200
        wait_until(lambda: metric(server, 'imgpro_storage_bytes{kind="cache"}') > 9 * MB)
        held = metric(server, 'imgpro_storage_bytes{kind="cache"}')
        assert readiness(server)["status"] == "ok"
        # Low: half of the way to the reserve is left to the cache, whose oldest files go.
        with small.filled(leave_bytes=44 * MB):
            wait_until(lambda: metric(server, 'imgpro_storage_bytes{kind="cache"}') <= held - 3 * MB)
            found = readiness(server)
            assert (found["status"], found["checks"]["disk"]) == ("degraded", "degraded")
            assert re.fullmatch(r"low: [\d.]+ MB free, uploads are refused below 16 MB", found["reasons"]["disk"])
            assert metric(server, 'imgpro_storage_low{disk="pictures"}') == 1
            assert metric(server, 'imgpro_storage_full{disk="pictures"}') == 0
            page = operator.get("/operator").body.decode()
            assert re.search(r'role="status">The disk is low: [\d.]+ MB free, uploads are refused below 16 MB\.', page)
            assert uploads_again(server)
            # What is not cached is still answered, and what is cached takes no more room than it did.
            assert server.get(kept[0].path.replace("png", "avif?size=s")).status == 200
            time.sleep(2.6)
            assert metric(server, 'imgpro_storage_bytes{kind="cache"}') < held
            assert said(server, "the disk is low: ") == 2, "once that it is low, once that the cache gave way"
        wait_until(lambda: readiness(server)["status"] == "ok", 8)
        assert metric(server, 'imgpro_storage_low{disk="pictures"}') == 0
        assert "Traceback" not in server.log()


def test_a_disk_at_its_reserve_does_not_flap(tmp_path):
    with disk(tmp_path, 96) as small, running(small.root / "data", SMALL) as server:
        first = kept_of(server, small_png(random.Random(1)))
        with small.filled(leave_bytes=15 * MB):
            film = small.root / "holiday-film"
            wait_until(lambda: not uploads_again(server))
            answer = server.upload(small_png(random.Random(3)))
            assert answer.json()["message"] == "This server has no room for more pictures."
            reason = readiness(server)["reasons"]["disk"]
            assert re.fullmatch(r"full: 1\d(\.\d)? MB free, uploads need 16 MB", reason), reason
            stranger = server.get("/readyz", X_Forwarded_For="203.0.113.9")
            assert (stranger.status, "reasons" in stranger.json()) == (503, False)
            # A little more than the reserve is not enough, until it is a little more than a little.
            os.truncate(film, film.stat().st_size - (16 * MB + 500_000 - small.free_bytes()))
            time.sleep(2.5)
            assert server.upload(small_png(random.Random(4))).status == 507
            assert server.get(first.webp + "?size=s").status == 200
            os.truncate(film, film.stat().st_size - 3 * MB)
            wait_until(lambda: uploads_again(server), 4)
        assert said(server, "the disk is full: ") == 1
        assert said(server, "uploads are taken again") == 1


def test_a_disk_without_inodes(tmp_path):
    with disk(tmp_path, 64, "-N", "1600") as small, running(small.root / "data", SMALL) as server:
        first, second = (kept_of(server, small_png(random.Random(n), 400)) for n in (1, 2))
        folder = small.root / "mails"
        folder.mkdir()
        with contextlib.suppress(OSError):
            for number in range(2_000):
                (folder / str(number)).touch()
        assert os.statvfs(small.root).f_favail == 0
        assert small.free_bytes() > 20 * MB
        answer = server.upload(small_png(random.Random(3)))
        assert (answer.status, answer.json()["error"]) == (507, "storage_full")
        found = readiness(server)
        assert found["status"] == "unavailable"
        assert re.fullmatch(
            r"full: .* free and [0-9] inodes, uploads need 16 MB and 256 inodes", found["reasons"]["disk"]
        )
        assert server.get(first.path).body == first.body
        assert server.get(first.webp + "?size=m").status == 200
        assert claimed(server).get("/operator").status == 200
        assert server.request("POST", second.delete_path).status == 200
        shutil.rmtree(folder)
        wait_until(lambda: uploads_again(server), 5)
        assert readiness(server)["checks"]["disk"] != "failed"
        wait_until(lambda: leftovers(server.data) == [])
        assert "Traceback" not in server.log()


def test_each_of_two_disks_full_while_the_other_has_room(tmp_path):
    with disk(tmp_path / "a", 64) as pictures, disk(tmp_path / "b", 64) as database:
        env = {**SMALL, "IMGPRO_STORAGE_DATABASE_DIR": str(database.root / "db")}
        with running(pictures.root / "data", env) as server:
            operator = claimed(server)
            key = server.new_key("ann@example.org")
            kept = [kept_of(server, small_png(random.Random(n), 200)) for n in range(6)]
            assert (database.root / "db" / ".ballast").exists()
            with database.filled():
                wait_until(lambda: not uploads_again(server), 4)
                reasons = readiness(server)["reasons"]["disk"]
                assert re.match(r"the disk of the pictures: [\d.]+ MB free; ", reasons)
                assert "the disk of the database: full: " in reasons
                assert metric(server, 'imgpro_storage_full{disk="database"}') == 1
                assert metric(server, 'imgpro_storage_full{disk="pictures"}') == 0
                # Reading, deleting and signing in go on, many times.
                for _ in range(150):
                    answer = server.request("POST", "/dashboard/sign-in", f"key={key}".encode(),
                                            {"Content-Type": "application/x-www-form-urlencoded"})  # fmt: skip
                    assert answer.status == 303, server.log()[-2000:]
                assert not (database.root / "db" / ".ballast").exists(), "it was given up"
                for one in kept[:3]:
                    assert server.get(one.webp).status == 200
                    assert server.request("POST", one.delete_path).status == 200
                    assert server.get(one.path).status == 404
                assert "Getting full" not in (page := operator.get("/operator").body.decode())
                assert "The disk of the database is full: " in page
            wait_until(lambda: uploads_again(server), 5)
            wait_until(lambda: (database.root / "db" / ".ballast").exists(), 5)
            with pictures.filled():
                assert server.upload(small_png(random.Random(9))).status == 507
                assert "the disk of the pictures: full: " in readiness(server)["reasons"]["disk"]
                assert server.get(kept[4].path).body == kept[4].body
                assert server.get(kept[4].webp).status == 200
                assert server.request("POST", kept[3].delete_path).status == 200
                assert server.new_key("bob@example.org")
            wait_until(lambda: uploads_again(server), 5)
            assert check_disk(server.data, database.root / "db") == 0
            assert "Traceback" not in server.log()


def test_directories_and_a_log_of_the_database_that_cannot_be_written(tmp_path):
    with disk(tmp_path, 96) as small, running(small.root / "data", SMALL) as server:
        first, second = (kept_of(server, small_png(random.Random(n), 300)) for n in (1, 2))
        data = small.root / "data"
        with immutable(data / "tmp"):
            answer = server.upload(small_png(random.Random(3)))
            assert (answer.status, answer.json()["error"]) == (507, "storage_full")
            assert "cannot store anything at the moment" in answer.json()["message"]
            wait_until(lambda: readiness(server)["status"] == "unavailable", 4)
            assert readiness(server)["reasons"]["disk"] == "cannot be written to: Permission denied"
            assert metric(server, 'imgpro_storage_full{disk="pictures"}') == 1
            assert server.get(first.path).body == first.body
            assert server.get(first.webp).status == 200, "made in memory"
            assert server.request("POST", second.delete_path).status == 200
        wait_until(lambda: uploads_again(server), 4)
        wal = data / "imgpro.db-wal"
        with immutable(wal):
            answer = server.upload(small_png(random.Random(5)))
            assert answer.status == 507
            assert re.search(r"cannot store anything at the moment \(.+\)", answer.json()["message"])
            assert server.get(first.path).body == first.body
            wait_until(lambda: readiness(server)["checks"]["disk"] == "failed", 4)
        wait_until(lambda: uploads_again(server), 4)
        wait_until(lambda: readiness(server)["checks"]["database"] == "ok", 4)
        assert said(server, "uploads are refused until it can") == 2
        assert said(server, "uploads are taken again") == 2
        assert server.stop() == 0
        server.start()
        assert server.get(first.path).body == first.body
        # What could not be stored in the second case lay in place already, for the sweeper.
        assert check_disk(server.data) <= 1
        assert "Traceback" not in server.log()


def test_a_disk_that_becomes_read_only_by_a_fault(tmp_path):
    with disk(tmp_path, 96) as small, running(small.root / "data", SMALL) as server:
        first = kept_of(server, small_png(random.Random(1), 300))
        small.become_read_only()
        for number in range(3):
            answer = server.upload(small_png(random.Random(number)))
            assert answer.status == 507
            assert answer.json()["message"].endswith("(Read-only file system).")
        assert server.get(first.path).body == first.body
        assert server.get(first.webp).status == 200
        found = readiness(server)
        assert found["status"] == "unavailable"
        assert found["reasons"]["disk"] == "cannot be written to: Read-only file system"
        assert server.get("/healthz").status == 200
        server.stop()
        small.unmount()
        small.mount()
        server.start()
        assert server.get(first.path).body == first.body
        assert uploads_again(server)
        assert "Traceback" not in server.log()


def test_a_folder_of_another_user(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("changing the user needs root")
    file = tmp_path / "file"
    file.touch()
    assert room.refusal([tmp_path], file) == ""
    os.seteuid(65534)
    try:
        assert room.refusal([tmp_path], file) == "Permission denied"
        assert room.refusal([tmp_path], tmp_path / "none") == "Permission denied"
    finally:
        os.seteuid(0)
