"""Upgrades with real data of every released version: tried beforehand, carried out, killed half-way, refused, undone."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from imgpro.store import journal_ahead, schema
from imgpro.store import journal_format as form
from imgpro.store.durable import MIGRATION_POINTS
from tests.crash.disks import disk
from tests.pictures import encoded, make_image
from tests.released import SCHEMAS, check_all, hashes, unpacked
from tests.servers import ROOT, UNLIMITED, Server, running

TODAY = schema.packaged_migrations()[-1].version
OLD = [number for number in SCHEMAS if number < TODAY]
PNG = encoded(make_image("RGB", (32, 24)), "PNG")


def imgpro(*args, env=None, **options):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("IMGPRO_")}
    command = [sys.executable, "-m", "imgpro", *map(str, args)]
    return subprocess.run(
        command, cwd=ROOT, env={**inherited, **(env or {})}, capture_output=True, text=True, check=False, timeout=60,
        **options,
    )  # fmt: skip


def query(path, sql, *parameters):
    conn = sqlite3.connect(path)
    try:
        return conn.execute(sql, parameters).fetchall()
    finally:
        conn.close()


def made_newer(data: Path) -> None:
    """Turn a database into one of a version to come."""
    conn = sqlite3.connect(data / "imgpro.db")
    conn.execute(f"PRAGMA user_version = {TODAY + 1}")
    conn.execute("UPDATE meta SET value = '9.9.9' WHERE key = 'app_version_last'")
    conn.commit()
    conn.close()
    folder = data / "journal"
    tails = form.listed(folder).tails
    if tails:  # with its first start it begins a file of its own
        header = form.read_header(tails[max(tails)])
        header = msgspec.structs.replace(header, number=max(tails) + 1, schema=TODAY + 1, begins="next")
        line = form.header_line(header)
        (folder / form.tail_name(header.number)).write_bytes(line)
        witness = journal_ahead.Witness(folder, header.instance)
        witness.note(header.number, len(line))
        witness.close()


def test_there_is_data_of_every_released_schema():
    assert list(range(1, TODAY + 1)) == SCHEMAS, "make it: tests/data/released/README.md"


@pytest.mark.parametrize("number", SCHEMAS)
def test_data_of_a_released_version_is_tried_and_taken_over(tmp_path, number):
    data, stored = unpacked(number, tmp_path / "old")
    before = hashes(data)
    told = imgpro("upgrade-check", "--data", data, "--tmp", tmp_path, "--json")
    assert (told.returncode, told.stderr) == (0, "")
    report = json.loads(told.stdout)
    assert report["ready"]
    assert report["schema"]["found"] == number
    assert len(report["schema"]["steps"]) == TODAY - number
    assert report["trial"]["rows"]["images"] == stored["images"]
    assert hashes(data) == before, "trying must change nothing"
    assert [path.name for path in tmp_path.iterdir()] == ["old"], "and leave nothing"

    with running(data, UNLIMITED) as server:
        check_all(server, stored)
        added = server.must_upload(PNG)
        assert server.get(added["src"]).status == 200
        assert server.request("DELETE", stored["delete"]).status in (200, 204)
        assert server.get(stored["delete"].partition("/delete")[0]).status == 404
        assert server.stop() == 0
    assert query(data / "imgpro.db", "PRAGMA integrity_check") == [("ok",)]
    assert query(data / "imgpro.db", "PRAGMA foreign_key_check") == []
    assert query(data / "imgpro.db", "PRAGMA user_version") == [(TODAY,)]
    copies = sorted((data / "backups").iterdir())
    if number == TODAY:
        assert copies == []
        return
    (copy,) = copies
    assert copy.name.startswith(f"pre-migrate-{number}-{TODAY}-")
    assert query(copy, "PRAGMA user_version") == [(number,)]
    assert query(copy, "SELECT count(*) FROM images") == [(stored["images"],)]


def test_a_running_server_is_not_disturbed_by_trying(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        for _ in range(3):
            server.must_upload(PNG)
        ours = {name: digest for name, digest in hashes(server.data).items() if not name.startswith("cache")}
        told = imgpro("upgrade-check", "--data", server.data, "--json")
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)["server_pid"] == server.pid
        assert json.loads(told.stdout)["trial"]["rows"]["images"] == 3
        after = {name: digest for name, digest in hashes(server.data).items() if not name.startswith("cache")}
        assert after == ours, "not even the index of the log"

        # And while it writes without pause: no upload fails or waits for the copy, every copy is sound.
        stop, failed = threading.Event(), []

        def uploading():
            while not stop.is_set():
                answer = server.upload(PNG)
                if answer.status != 201:
                    failed.append(answer)

        threads = [threading.Thread(target=uploading) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                told = imgpro("upgrade-check", "--data", server.data)
                assert (told.returncode, told.stderr) == (0, "")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failed == []
        assert server.stop() == 0
    assert not (server.data / "imgpro.db-wal").exists()
    assert query(server.data / "imgpro.db", "PRAGMA integrity_check") == [("ok",)]


def test_data_of_a_killed_server_is_tried_with_its_log(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        server.must_upload(PNG)
        server.must_upload(PNG)
        server.stop(signal.SIGKILL)
    before = hashes(server.data)
    assert "imgpro.db-wal" in before
    told = imgpro("upgrade-check", "--data", server.data, "--json")
    assert json.loads(told.stdout)["trial"]["rows"]["images"] == 2
    assert hashes(server.data) == before


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda data: (data / "imgpro.db").write_bytes(b"no database" * 900), 65, "cannot be read as a database"),
        (lambda data: made_newer(data), 65, "written by imgpro 9.9.9"),
        (lambda data: (data / "FORMAT").unlink(), 10, "no data directory"),
        (lambda data: (data / "imgpro.db").unlink(), 10, "no database"),
        (lambda data: (data.parent / "c.toml").write_text("[uploads]\nmax_bites = 1\n"), 78, "did you mean"),
    ],
)
def test_what_stands_against_an_upgrade_is_told_by_exit_code(tmp_path, spoil, code, words):
    data, _ = unpacked(OLD[-1], tmp_path / "old")
    (data.parent / "c.toml").write_text("")
    spoil(data)
    before = hashes(data)
    told = imgpro("upgrade-check", "--data", data, "--config", data.parent / "c.toml")
    assert told.returncode == code, told
    assert words in told.stderr
    assert "ready" not in told.stdout
    assert hashes(data) == before


def test_rows_that_refer_to_nothing_are_found_by_trying(tmp_path):
    data, _ = unpacked(OLD[-1], tmp_path / "old")
    conn = sqlite3.connect(data / "imgpro.db")  # without foreign keys, as SQLite has it by default
    conn.execute("UPDATE sessions SET account = 4711")
    conn.commit()
    conn.close()
    told = imgpro("upgrade-check", "--data", data)
    assert told.returncode == 65
    assert "1 rows refer to nothing" in told.stderr


def test_a_newer_schema_is_refused_untouched_with_both_ways_out(tmp_path):
    data, stored = unpacked(OLD[-1], tmp_path / "old")
    with running(data) as server:
        server.stop()
    made_newer(data)
    before = hashes(data)
    told = imgpro("run", "--data", data, "--listen", "127.0.0.1:0")
    assert told.returncode == 65
    assert "Start a newer imgpro; or go back to the copy" in told.stderr
    now = hashes(data)
    assert {k: v for k, v in now.items() if k != "imgpro.lock"} == {
        k: v for k, v in before.items() if k != "imgpro.lock"
    }
    # What it says can be pasted into a shell, and the old data is there again.
    commands = [line for line in told.stderr.splitlines() if line.startswith("  ")]
    subprocess.run(["sh", "-e", "-c", "\n".join(commands)], check=True)
    assert query(data / "newer-imgpro.db", "PRAGMA user_version") == [(TODAY + 1,)]
    assert query(data / "imgpro.db", "PRAGMA user_version") == [(OLD[-1],)]
    with running(data) as server:
        check_all(server, stored)
        [aside] = journal_ahead.asides(data / "journal")
        assert f"imgpro rebuild --journal {aside} of the newer version goes back to it" in server.log()


def test_an_older_program_leaves_todays_data_alone(tmp_path):
    """The gate of the program that knew the schema before this one: the same code, with fewer steps."""
    data, _ = unpacked(SCHEMAS[-1], tmp_path / "new")
    with running(data) as server:
        server.stop()
    before = hashes(data)
    code = (
        "import asyncio, sys; from pathlib import Path; from imgpro.store import schema; from imgpro.store.db import Database\n"
        "data = Path(sys.argv[1])\n"
        "async def main(): await Database.open(data / 'imgpro.db', data / 'backups', 'x', '0', schema.packaged_migrations()[:-1])\n"
        "asyncio.run(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(data)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "DataUnusable" in done.stderr
    assert hashes(data) == before


@pytest.mark.parametrize("point", [*MIGRATION_POINTS, "migrate.stepped:2"])
def test_a_kill_in_the_middle_costs_nothing(tmp_path, point):
    data, stored = unpacked(1, tmp_path / "old")
    for _ in range(3):  # as a service manager would: again and again
        killed = imgpro("run", "--data", data, "--listen", "127.0.0.1:0", env={"IMGPRO_CRASH_AT": point})
        if killed.returncode != -signal.SIGKILL:
            break
        assert len(list((data / "backups").iterdir())) <= 2, "the disk must not fill with copies"
        if point == "migrate.committed":
            break
    assert killed.returncode == -signal.SIGKILL
    with running(data, UNLIMITED) as server:
        check_all(server, stored)
        server.stop()
    assert query(data / "imgpro.db", "PRAGMA integrity_check") == [("ok",)]
    assert query(data / "imgpro.db", "PRAGMA user_version") == [(TODAY,)]
    copies = list((data / "backups").iterdir())
    assert 1 <= len(copies) <= 3
    assert {query(copy, "PRAGMA user_version")[0][0] for copy in copies} == {1}


def test_too_little_room_is_told_and_changes_nothing(tmp_path):
    with disk(tmp_path, 32) as small:
        data, stored = unpacked(OLD[-1], small.root / "old")
        database = (data / "imgpro.db").read_bytes()
        with small.filled(leave_bytes=900_000):
            tried = imgpro("upgrade-check", "--data", data, "--tmp", tmp_path)
            assert (tried.returncode, "has no room" in tried.stderr) == (74, True), tried
            told = imgpro("run", "--data", data, "--listen", "127.0.0.1:0")
            assert told.returncode == 74, told
            assert re.search(r"has no room for the copy.*\nTry: Have at least [\d.]+ MB free", told.stderr)
            assert (data / "imgpro.db").read_bytes() == database
            assert list((data / "backups").iterdir()) == []
        with running(data, UNLIMITED) as server:
            check_all(server, stored)


def test_no_room_for_trying_is_told(tmp_path):
    with disk(tmp_path, 4) as small:
        data, _ = unpacked(OLD[-1], tmp_path / "old")
        with small.filled(leave_bytes=100_000):
            told = imgpro("upgrade-check", "--data", data, "--tmp", small.root)
        assert (told.returncode, "--tmp DIR" in told.stderr) == (74, True)
        inside = imgpro("upgrade-check", "--data", data, "--tmp", data / "tmp")
        assert inside.returncode == 74


def test_two_starts_at_once(tmp_path):
    data, stored = unpacked(1, tmp_path / "old")
    servers = [Server(data, UNLIMITED) for _ in range(2)]
    started, refused = [], []

    def start(server):
        try:
            started.append(server.start())
        except AssertionError:
            refused.append(server)

    with contextlib.ExitStack() as parts:
        for server in servers:
            parts.callback(server.close)
        threads = [threading.Thread(target=start, args=(server,)) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(started), len(refused)) == (1, 1)
        assert refused[0].process.wait() == 11
        check_all(started[0], stored)
        assert len(list((data / "backups").iterdir())) == 1


def test_root_leaves_nothing_that_locks_the_service_out(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can leave files of root")
    data, _ = unpacked(OLD[-1], tmp_path / "old")
    for path in [data, *data.rglob("*")]:
        shutil.chown(path, 65534, 65534)
    told = imgpro("upgrade-check", "--data", data)
    assert told.returncode == 0, told
    assert {path.stat().st_uid for path in [data, *data.rglob("*")]} == {65534}
