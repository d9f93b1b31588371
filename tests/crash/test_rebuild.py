"""The database lost at the worst moment: what was acknowledged is there again after a rebuild, under the same links."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imgpro.cli import office
from imgpro.errors import ImgproError
from tests.crash.disks import disk
from tests.law import check_answers, check_disk
from tests.load import Load, small_png
from tests.patience import wait_until
from tests.servers import ROOT, UNLIMITED, running

pytestmark = pytest.mark.crash

ENV = {
    **UNLIMITED,
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_IMAGING_WORKERS": "2",
    "IMGPRO_LOG_ACCESS": "false",
}


def rebuild(data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imgpro", "rebuild", "--data", str(data)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def lose_database(data: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        Path(f"{data}/imgpro.db{ending}").unlink(missing_ok=True)


def renew(data: Path) -> bool:
    """Have the running server write its journal anew; tell whether there was one."""
    return office.errand_there(data, "journal-renew", {}, lambda _: None) is not None


def check_rebuilt(server, load, done, *, orphans) -> None:
    """Whatever lies there beyond the pictures is what nobody was told of."""
    assert done.returncode in (0, 3), done
    assert "lost picture" not in done.stdout
    assert "broken line" not in done.stdout
    assert "journal: " not in done.stdout
    assert done.stdout.count("original of no picture") <= orphans
    server.start()
    check_disk(server.data)
    check_answers(server, load)


def kill_and_lose(server, load) -> None:
    os.kill(server.pid, signal.SIGKILL)
    assert load.wait_until_dead() == -signal.SIGKILL
    lose_database(server.data)


def test_killed_at_random_the_database_lost_and_all_is_there_again(tmp_path):
    dice = random.Random(11)
    with running(tmp_path / "data", ENV) as server:
        owed = None
        for number in range(3):
            load = Load(server, clients=5, seed=number, deletes=0.25).start()
            load.wait_for(dice.randrange(10, 35))
            kill_and_lose(server, load)
            if owed is not None:
                load.merge(owed)
            owed = load
            check_rebuilt(server, load, rebuild(server.data), orphans=10)
            key = load._key
            assert server.api("GET", "/v1/media", key=key).status == 200, "the same keys work"
        [one, *_] = load.kept.values()
        assert server.request("POST", one.delete_path).status == 200, "links to delete are the same"
        assert server.get(one.path).status == 404
        assert server.stop() == 0
        assert "Traceback" not in server.log()


def test_killed_while_the_journal_is_written_anew(tmp_path):
    """Changes, deletions and renewals at once, a kill in the midst of it, several times."""
    with running(tmp_path / "data", ENV) as server:
        owed = None
        for number in range(3):
            load = Load(server, clients=4, seed=40 + number, deletes=0.35).start()
            ended, renewed = threading.Event(), []

            def go_on(ended=ended, renewed=renewed):
                while not ended.is_set():
                    with contextlib.suppress(ImgproError):
                        renewed.extend([1] * renew(server.data))

            thread = threading.Thread(target=go_on)
            thread.start()
            load.wait_for(30)
            wait_until(lambda renewed=renewed: len(renewed) >= 3)
            ended.set() if number == 0 else None
            kill_and_lose(server, load)
            ended.set()
            thread.join()
            if owed is not None:
                load.merge(owed)
            owed = load
            check_rebuilt(server, load, rebuild(server.data), orphans=10)
        assert "Traceback" not in server.log()


def test_a_damaged_database_is_named_and_made_again(tmp_path):
    with running(tmp_path / "data", ENV) as server:
        load = Load(server, clients=4, seed=3).start()
        load.wait_for(40)
        load.stop()
        assert server.stop() == 0
        database = server.data / "imgpro.db"
        size = database.stat().st_size
        with database.open("r+b") as file:
            for page in range(2, size // 4096):  # all but the first two
                file.seek(page * 4096)
                file.write(random.Random(page).randbytes(512))
        done = rebuild(server.data)
        [aside] = server.data.glob("imgpro.db.damaged-*")
        assert f"the old database is kept: {aside}" in done.stdout
        assert aside.stat().st_size == size
        check_rebuilt(server, load, done, orphans=0)
        # And one that is not even a database says what to do.
        assert server.stop() == 0
        database.write_bytes(b"\0" * size)
        with pytest.raises(AssertionError) as failed:
            server.start()
        assert f"imgpro rebuild --data {server.data}" in str(failed.value)
        check_rebuilt(server, load, rebuild(server.data), orphans=0)


def test_a_deleted_picture_is_soon_in_no_file_of_the_journal(tmp_path):
    with running(tmp_path / "data", ENV) as server:
        key = server.new_key("secret-address@example.org")
        dice = random.Random(5)
        server.must_upload(small_png(dice), "kept.png", key=key)
        gone = server.must_upload(small_png(dice), "secret-name.png", key=key, description="secret-words")

        def journal():
            return b"".join(path.read_bytes() for path in (server.data / "journal").iterdir())

        assert b"secret-name" in journal()
        assert server.request("POST", gone["delete_url"].removeprefix(server.base)).status == 200
        renew(server.data)
        assert b"secret-name" not in journal()
        assert b"secret-words" not in journal()
        assert gone["id"].encode() not in journal()
        assert b"kept.png" in journal()


def test_a_full_disk_stops_the_journal_and_not_the_server(tmp_path):
    with (
        disk(tmp_path, 64) as small,
        running(small.root / "data", {**ENV, "IMGPRO_STORAGE_RESERVE_BYTES": "8 MB"}) as server,
    ):
        load = Load(server, clients=3, seed=8).start()
        load.wait_for(20)
        load.stop()
        with small.filled():
            for kept in list(load.kept.values())[:10]:
                if server.request("POST", kept.delete_path).status == 200:
                    load.deleted[kept.id] = load.kept.pop(kept.id)
            assert load.deleted, "deleting goes on"
        renew(server.data)
        again = Load(server, clients=3, seed=9).start()
        again.wait_for(10)
        again.stop()
        load.merge(again)
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        lose_database(server.data)
        check_rebuilt(server, load, rebuild(server.data), orphans=10)


@pytest.mark.parametrize("uploads", [1, 60])
def test_power_cut_and_the_database_lost(tmp_path, uploads):
    """The last second may be missing from the journal then, and what is missing is put aside, not swept away."""
    with (
        disk(tmp_path, 96) as small,
        running(small.root / "data", {**ENV, "IMGPRO_STORAGE_RESERVE_BYTES": "8 MB"}) as server,
    ):
        load = Load(server, clients=4, seed=21, deletes=0.0).start()
        load.wait_for(uploads)
        small.cut_power()
        server.stop(signal.SIGKILL)
        load.stop()
        small.unmount()
        small.mount()
        before = {path.name for path in (server.data / "blobs").rglob("*") if path.is_file()}
        lose_database(server.data)
        done = rebuild(server.data)
        assert done.returncode in (0, 3), done
        server.start()
        check_disk(server.data)
        unknown = server.data / "quarantine" / "unknown"
        aside = {path.name for path in unknown.iterdir()} if unknown.exists() else set()
        with contextlib.closing(sqlite3.connect(f"file:{server.data}/imgpro.db?mode=ro", uri=True)) as conn:
            known = {row[0].hex() for row in conn.execute("SELECT digest FROM blobs")}
        assert known | aside >= before, "no original is lost, whatever the journal lacks"
        there = [kept for kept in load.kept.values() if server.get(kept.path).status == 200]
        assert all(server.get(kept.path).body == kept.body for kept in there)
        assert server.stop() == 0
