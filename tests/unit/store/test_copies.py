"""Copies from before a migration: sound, few, never the wrong one taken away, and a way back that works."""

import contextlib
import os
import sqlite3

import pytest

from imgpro.errors import DataUnusable
from imgpro.store import copies, peek, schema
from imgpro.store.db import Database
from imgpro.store.schema import Migration

STEPS = [
    Migration(1, "one", "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT; CREATE TABLE t (a);"),
    *(Migration(number, "more", f"CREATE TABLE t{number} (a);") for number in range(2, 8)),
]


@pytest.fixture
def backups(tmp_path):
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups"


async def brought_to(folder, version, steps=STEPS):
    await (
        await Database.open(folder / "imgpro.db", folder / "backups", "instance", f"{version}.0", steps[:version])
    ).close()


def made(backups, old, new, stamp, age_s=0):
    path = backups / f"pre-migrate-{old}-{new}-{stamp}.db"
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA user_version = {old}")
        conn.execute("CREATE TABLE t (a)")
        conn.commit()
    os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    return path


async def test_the_copy_just_made_stays_when_the_clock_was_set_back(tmp_path, backups):
    await brought_to(tmp_path, 4)
    for number in range(5):
        made(backups, 0, 1, f"29990101T00000{number}Z", age_s=-90_000 * number)  # of the future
    await brought_to(tmp_path, 5)
    kept = copies.listed(backups)
    assert len(kept) == copies.KEPT
    assert [copy.old for copy in kept if copy.new == 5] == [4]


async def test_what_a_killed_start_left_is_taken_away(tmp_path, backups):
    await brought_to(tmp_path, 1)
    (backups / "pre-migrate-1-2-20260101T000000Z.partial").write_bytes(b"half")
    (backups / "mine.partial").write_bytes(b"somebody's")
    same = [made(backups, 1, 2, f"2026010{day}T000000Z", age_s=9_000 - day) for day in range(1, 5)]
    await brought_to(tmp_path, 2)
    assert not list(backups.glob("pre-migrate-*.partial"))
    assert (backups / "mine.partial").exists()
    # Of earlier attempts at the same step only the newest stays, so that a loop of kills fills no disk.
    assert [path.exists() for path in same] == [False, False, False, True]


async def test_a_migration_that_fails_leaves_no_copy_of_what_it_did_not_change(tmp_path, backups):
    await brought_to(tmp_path, 2)
    before = sorted(backups.iterdir())
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError):
            await brought_to(tmp_path, 3, [*STEPS[:2], Migration(3, "bad", "CREATE TABLE t (a);")])
    assert sorted(backups.iterdir()) == before


async def test_two_copies_within_a_second_are_two(tmp_path, backups):
    await brought_to(tmp_path, 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "imgpro.db", isolation_level=None)) as conn:
        first, second = (copies.make(conn, tmp_path / "imgpro.db", backups, 1, 2) for _ in range(2))
    assert first != second
    assert [path.stat().st_mode & 0o777 for path in (first, second)] == [0o640] * 2


async def test_the_way_back_leads_to_the_newest_copy_that_this_program_can_open(tmp_path, backups):
    for version in range(1, 6):
        await brought_to(tmp_path, version)
    # This program knows up to 3: of the copies with schema 2, 3 and 4 the second is meant.
    with pytest.raises(DataUnusable) as caught:
        schema.check_identity(tmp_path / "imgpro.db", backups, 3)
    assert "pre-migrate-3-4-" in caught.value.action.label
    assert "written by imgpro 5.0" in caught.value.message
    damaged = next(copy.path for copy in copies.listed(backups) if copy.old == 3)
    damaged.write_bytes(b"x" * 10_000)
    assert "pre-migrate-2-3-" in copies.way_back(tmp_path / "imgpro.db", backups, 3)
    assert "restore a backup of" in copies.way_back(tmp_path / "imgpro.db", backups, 1)
    assert "restore a backup of" in copies.way_back(tmp_path / "imgpro.db", tmp_path / "none", 3)


async def test_looking_leaves_nothing_beside_a_database(tmp_path, backups):
    await brought_to(tmp_path, 2)
    names = sorted(path.name for path in tmp_path.iterdir())
    with contextlib.closing(peek.quiet(tmp_path / "imgpro.db")) as conn:
        assert schema.version(conn) == 2
    with peek.looking(tmp_path / "imgpro.db") as conn, pytest.raises(sqlite3.OperationalError):
        conn.execute("INSERT INTO t VALUES (1)")
    peek.copy(tmp_path / "imgpro.db", backups / "copy.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could give a file away")
@pytest.mark.parametrize("ending", ["-wal", "-shm"])
async def test_looking_gives_nobody_a_file_that_is_not_his(tmp_path, ending):
    """The owner of a data directory may lay what he likes beside the database before root looks into it."""
    await brought_to(tmp_path, 2)
    os.chown(tmp_path / "imgpro.db", 65534, 65534)
    secret = tmp_path / "secret"
    secret.write_text("")
    (tmp_path / f"imgpro.db{ending}").symlink_to(secret)
    with contextlib.suppress(sqlite3.Error), peek.looking(tmp_path / "imgpro.db"):
        pass
    assert secret.stat().st_uid == 0
