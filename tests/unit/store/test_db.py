"""Connections and the writer: group commit, faults, identity, migrations, and who may checkpoint."""

import asyncio
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from imgpro.errors import Busy, DataUnusable, NotFound, StorageFault, StorageFull
from imgpro.store import db as db_module
from imgpro.store import schema
from imgpro.store.db import Database
from imgpro.store.schema import Migration

META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
ONE = Migration(1, "one", META + "CREATE TABLE t (a INTEGER NOT NULL CHECK (a <> -13)) STRICT;")


opened: list[Database] = []


async def open_db(folder: Path, *more: Migration, instance: str = "instance", app: str = "1.0") -> Database:
    (folder / "backups").mkdir(exist_ok=True)
    db = await Database.open(folder / "imgpro.db", folder / "backups", instance, app, (ONE, *more))
    opened.append(db)
    return db


@pytest.fixture(autouse=True)
async def close_what_a_failed_test_left():
    """A reader that stays open would keep the whole test run from ending."""
    yield
    while opened:
        await opened.pop().close()


@pytest.fixture
async def db(tmp_path):
    db = await open_db(tmp_path)
    yield db
    await db.close()


def insert(*values):
    def work(conn: sqlite3.Connection) -> int:
        for value in values:
            conn.execute("INSERT INTO t VALUES (?)", (value,))
        return values[-1]

    return work


async def content(db: Database) -> list[int]:
    async with db.reader() as conn:
        return [row[0] for row in await conn.execute_fetchall("SELECT a FROM t ORDER BY a")]


async def pragma(db: Database, name: str) -> object:
    return await db.write(lambda conn: conn.execute(f"PRAGMA {name}").fetchone()[0])


class Hold:
    """Keeps the writer busy until it is let go, so that what follows queues up behind it."""

    def __init__(self, db: Database) -> None:
        self._begun, self._go = threading.Event(), threading.Event()
        self.task = asyncio.ensure_future(db.write(self._wait))

    def _wait(self, _: sqlite3.Connection) -> None:
        self._begun.set()
        self._go.wait(10)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, 60)

    async def release(self) -> None:
        self._go.set()
        await self.task


# Connections


async def test_the_writer_is_set_up_for_power_cuts(db, tmp_path):
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
        "wal_autocheckpoint": 0,
        "auto_vacuum": 2,
        "application_id": 0x494D4750,
        "user_version": 1,
        "trusted_schema": 0,
    }
    assert {name: await pragma(db, name) for name in expected} == expected
    assert (tmp_path / "imgpro.db").read_bytes()[68:72] == b"IMGP"
    assert os.stat(tmp_path / "imgpro.db").st_mode & 0o007 == 0
    assert os.stat(tmp_path / "imgpro.db-wal").st_mode & 0o007 == 0


async def test_readers_cannot_write_nor_checkpoint(db):
    await db.write(insert(1))
    async with db.reader() as one, db.reader() as two:
        for conn in (one, two):
            with pytest.raises(sqlite3.OperationalError):
                await conn.execute_fetchall("INSERT INTO t VALUES (2)")
            await conn.execute_fetchall("PRAGMA query_only = OFF")
            with pytest.raises(sqlite3.OperationalError):
                await conn.execute_fetchall("INSERT INTO t VALUES (2)")
            with pytest.raises(sqlite3.OperationalError):
                await conn.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
            assert (await conn.execute_fetchall("PRAGMA wal_autocheckpoint"))[0][0] == 0
    assert db.stats().wal_bytes > 0


async def test_readers_see_what_was_committed(db):
    for value in range(20):
        await db.write(insert(value))
        assert await content(db) == list(range(value + 1))


async def test_more_callers_than_readers_take_turns(db):
    await db.write(insert(1))
    assert await asyncio.gather(*(content(db) for _ in range(50))) == [[1]] * 50


# Writing


async def test_many_waiting_writes_are_one_commit(db):
    before = db.stats()
    hold = Hold(db)
    await hold.begun()
    writes = [asyncio.ensure_future(db.write(insert(value))) for value in range(100)]
    await asyncio.sleep(0)
    assert db.stats().queued == 100
    await hold.release()
    assert await asyncio.gather(*writes) == list(range(100))
    after = db.stats()
    assert after.writes - before.writes == 101
    assert after.commits - before.commits == 2
    assert await content(db) == list(range(100))


async def test_nobody_is_answered_before_the_commit(db, monkeypatch):
    seen = []
    monkeypatch.setattr(db_module.durable, "point", seen.append)
    await db.write(insert(1))
    assert seen == ["commit.before", "commit.after"]


async def test_one_that_fails_takes_only_itself_back(db):
    hold = Hold(db)

    def half(conn: sqlite3.Connection) -> None:
        conn.execute("INSERT INTO t VALUES (99)")
        raise NotFound

    results = asyncio.gather(
        db.write(insert(1)), db.write(half), db.write(insert(2, -13)), db.write(insert(3)), return_exceptions=True
    )
    await asyncio.sleep(0)
    await hold.release()
    one, two, three, four = await results
    assert (one, four) == (1, 3)
    assert isinstance(two, NotFound)
    assert isinstance(three, sqlite3.IntegrityError)
    assert await content(db) == [1, 3]


async def test_a_caller_who_leaves_stops_nothing(db):
    hold = Hold(db)
    write = asyncio.ensure_future(db.write(insert(1)))
    await asyncio.sleep(0)
    write.cancel()
    await hold.release()
    with pytest.raises(asyncio.CancelledError):
        await write
    await db.write(insert(2))
    assert await content(db) == [1, 2]


async def test_a_function_must_not_end_the_transaction(db):
    with pytest.raises(StorageFault, match="was ended by the function"):
        await db.write(lambda conn: conn.execute("COMMIT"))
    await db.write(insert(1))
    assert await content(db) == [1]


class FailingCommit:
    """Stands before the writer's connection and fails its commit."""

    def __init__(self, conn: sqlite3.Connection, code: int) -> None:
        self._conn, self._code = conn, code
        self.armed = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._conn, name)

    def execute(self, sql: str, *args: object) -> object:
        if sql == "COMMIT" and self.armed:
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = self._code
            raise error
        return self._conn.execute(sql, *args)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StorageFull),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageFault),
        (sqlite3.SQLITE_BUSY, Busy),
        (sqlite3.SQLITE_CORRUPT, DataUnusable),
    ],
)
async def test_a_failed_commit_fails_all_and_keeps_nothing(db, monkeypatch, code, kind):
    commit, wrapped = Database._commit, []

    def with_fault(self, conn, batch):
        wrapped.append(FailingCommit(conn, code))
        commit(self, wrapped[-1], batch)

    hold = Hold(db)
    await hold.begun()
    monkeypatch.setattr(Database, "_commit", with_fault)
    results = asyncio.gather(*(db.write(insert(value)) for value in range(5)), return_exceptions=True)
    await asyncio.sleep(0)
    await hold.release()
    assert {type(result) for result in await results} == {kind}
    assert len(wrapped) == 1
    monkeypatch.undo()
    await db.write(insert(7))
    assert await content(db) == [7]


async def test_a_full_database_is_storage_full_and_reading_goes_on(db):
    await db.write(insert(1))
    pages = await pragma(db, "page_count")
    await pragma(db, f"max_page_count = {pages}")
    with pytest.raises(StorageFull):
        await db.write(lambda conn: conn.execute("CREATE TABLE big AS SELECT zeroblob(1000000) AS b"))
    assert await content(db) == [1]
    await pragma(db, "max_page_count = 1000000")
    await db.write(insert(2))
    assert await content(db) == [1, 2]


async def test_a_lock_held_by_another_program_is_busy(tmp_path, monkeypatch):
    monkeypatch.setattr(db_module, "_BUSY_TIMEOUT_MS", 50)
    db = await open_db(tmp_path)
    other = sqlite3.connect(tmp_path / "imgpro.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy):
        await db.write(insert(1))
    other.execute("ROLLBACK")
    other.close()
    await db.write(insert(2))
    assert await content(db) == [2]
    await db.close()


async def test_the_queue_is_bounded(db, monkeypatch):
    monkeypatch.setattr(db_module, "_MAX_QUEUED", 10)
    hold = Hold(db)
    await hold.begun()
    results = asyncio.gather(*(db.write(insert(value)) for value in range(15)), return_exceptions=True)
    await asyncio.sleep(0)
    await hold.release()
    assert sum(isinstance(result, Busy) for result in await results) == 5


async def test_ping_writes_only_when_nothing_was_written_lately(db, monkeypatch):
    db._last_commit_s = float("-inf")
    before = db.stats().commits
    await asyncio.gather(*(db.ping() for _ in range(20)))
    await db.ping()
    assert 1 <= db.stats().commits - before <= 2
    assert await db.write(lambda conn: conn.execute("SELECT 1 FROM meta WHERE key = 'pinged_ms'").fetchone())
    db._last_commit_s = float("-inf")
    hold = Hold(db)
    await hold.begun()
    with pytest.raises(Busy):
        await db.ping(0.01)
    await hold.release()


async def test_the_log_is_folded_in_by_the_writer_alone(db, monkeypatch):
    monkeypatch.setattr(db_module, "_CHECKPOINT_BYTES", 100_000)
    size = os.stat(db.path).st_size
    for _ in range(40):
        await db.write(lambda conn: conn.executemany("INSERT INTO t VALUES (?)", [(n + 100,) for n in range(2000)]))
    await db.ping()
    assert os.stat(db.path).st_size > size
    assert db.stats().wal_bytes < 1_000_000


async def test_maintain_gives_pages_back(db):
    await db.write(lambda conn: conn.executemany("INSERT INTO t VALUES (?)", [(n + 100,) for n in range(50_000)]))
    await db.write(lambda conn: conn.execute("DELETE FROM t"))
    before = await pragma(db, "freelist_count")
    await db.maintain()
    assert await pragma(db, "freelist_count") < before


async def test_close_folds_everything_and_ends_all_threads(tmp_path):
    before = set(threading.enumerate())
    db = await open_db(tmp_path)
    late = [asyncio.ensure_future(db.write(insert(value))) for value in range(300)]
    await asyncio.sleep(0)
    await asyncio.gather(db.close(), db.close())
    assert await asyncio.gather(*late) == list(range(300))
    assert not (tmp_path / "imgpro.db-wal").exists()
    assert {t.name for t in set(threading.enumerate()) - before if not t.name.startswith("asyncio")} == set()
    with pytest.raises(Busy):
        await db.write(insert(1))
    with pytest.raises(Busy):
        async with db.reader():
            pass


# Who may open it


async def test_meta_and_another_instance(tmp_path):
    db = await open_db(tmp_path, app="1.2")
    meta = await db.write(lambda conn: dict(conn.execute("SELECT key, value FROM meta")))
    assert (meta["instance_id"], meta["app_version_last"]) == ("instance", "1.2")
    assert int(meta["created_ms"]) > 0
    await db.close()
    with pytest.raises(DataUnusable, match="belongs to another data directory"):
        await open_db(tmp_path, instance="other")
    await (await open_db(tmp_path)).close()


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return all bytes that mean something: opening to read may leave an empty log and its index."""
    found = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.name.endswith("-shm")}
    return {name: content for name, content in found.items() if content}


async def test_a_newer_database_is_refused_and_not_touched(tmp_path):
    two = Migration(2, "two", "CREATE TABLE u (a);")
    await (await open_db(tmp_path)).close()
    await (await open_db(tmp_path, two, app="9.9")).close()
    before = snapshot(tmp_path)
    with pytest.raises(
        DataUnusable, match=r"written by imgpro 9\.9: its schema is 2, this program knows up to 1"
    ) as caught:
        await open_db(tmp_path)
    assert caught.value.exit_code == 65
    assert "pre-migrate-1-2-" in (caught.value.action.label or "")
    assert snapshot(tmp_path) == before


async def test_a_newer_version_that_is_only_in_the_log_is_seen(tmp_path):
    await (await open_db(tmp_path)).close()
    conn = sqlite3.connect(tmp_path / "imgpro.db", isolation_level=None)
    conn.execute("PRAGMA user_version = 7")
    for suffix in ("", "-wal"):  # as a kill would leave it: the number is not in the main file yet
        (tmp_path / f"copy.db{suffix}").write_bytes((tmp_path / f"imgpro.db{suffix}").read_bytes())
    conn.close()
    assert (tmp_path / "copy.db").read_bytes()[60:64] == (1).to_bytes(4)
    before = snapshot(tmp_path)
    with pytest.raises(DataUnusable, match="its schema is 7"):
        await Database.open(tmp_path / "copy.db", tmp_path / "backups", "instance", "1.0", (ONE,))
    assert snapshot(tmp_path) == before


async def test_what_is_not_ours_is_refused_and_not_touched(tmp_path):
    conn = sqlite3.connect(tmp_path / "imgpro.db")
    conn.execute("CREATE TABLE notes (a)")
    conn.close()
    before = snapshot(tmp_path)
    with pytest.raises(DataUnusable, match="is not a database of imgpro"):
        await open_db(tmp_path)
    assert snapshot(tmp_path) == before
    (tmp_path / "imgpro.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(DataUnusable, match="cannot be read as a database"):
        await open_db(tmp_path)


async def test_an_empty_file_is_a_first_start_that_was_killed(tmp_path):
    (tmp_path / "imgpro.db").touch()
    await (await open_db(tmp_path)).close()
    (tmp_path / "other").mkdir()
    conn = sqlite3.connect(tmp_path / "other" / "imgpro.db")
    conn.execute("PRAGMA journal_mode = WAL")
    conn.close()
    await (await open_db(tmp_path / "other")).close()


# Migrations


async def test_an_older_database_is_copied_and_migrated(tmp_path):
    db = await open_db(tmp_path)
    await db.write(insert(1, 2))
    await db.close()
    db = await open_db(tmp_path, Migration(2, "two", "ALTER TABLE t ADD COLUMN b INTEGER; UPDATE t SET b = a * 10;"))
    async with db.reader() as conn:
        assert [tuple(row) for row in await conn.execute_fetchall("SELECT a, b FROM t")] == [(1, 10), (2, 20)]
    assert await pragma(db, "user_version") == 2
    assert await pragma(db, "foreign_keys") == 1
    await db.close()
    (copy,) = (tmp_path / "backups").iterdir()
    assert copy.name.startswith("pre-migrate-1-2-")
    conn = sqlite3.connect(copy)
    assert conn.execute("PRAGMA user_version").fetchone() == (1,)
    assert conn.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
    assert conn.execute("SELECT count(*) FROM t").fetchone() == (2,)
    conn.close()


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("CREATE TABLE good (a); CREATE TABLE t (a);", sqlite3.OperationalError),
        ("CREATE TABLE good (a); UPDATE t SET a = -13;", sqlite3.IntegrityError),
        ("CREATE TABLE good (a REFERENCES t (rowid)); CREATE TABLE", ValueError),
        (
            "CREATE TABLE p (i INTEGER PRIMARY KEY); CREATE TABLE c (i REFERENCES p (i)); INSERT INTO c VALUES (5);",
            DataUnusable,
        ),
    ],
)
async def test_a_failing_migration_leaves_the_old_database(tmp_path, sql, error):
    db = await open_db(tmp_path)
    await db.write(insert(1))
    await db.close()
    with pytest.raises(error):
        await open_db(tmp_path, Migration(2, "two", sql))
    db = await open_db(tmp_path)
    assert await content(db) == [1]
    assert await pragma(db, "user_version") == 1
    tables = await db.write(
        lambda conn: [row[0] for row in conn.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
    )
    assert set(tables) - {"sqlite_stat1", "sqlite_stat4"} == {"meta", "t"}
    await db.close()


async def test_no_room_for_the_copy_means_no_migration(tmp_path, monkeypatch):
    await (await open_db(tmp_path)).close()
    fields = list(os.statvfs(tmp_path))
    fields[4] = 0  # f_bavail
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
        with pytest.raises(StorageFull, match="has no room for the copy"):
            await open_db(tmp_path, Migration(2, "two", "CREATE TABLE u (a);"))
    db = await open_db(tmp_path)
    assert await pragma(db, "user_version") == 1
    await db.close()


async def test_the_last_three_copies_are_kept(tmp_path):
    steps: list[Migration] = []
    await (await open_db(tmp_path)).close()
    for version in range(2, 7):
        steps.append(Migration(version, "step", f"CREATE TABLE t{version} (a);"))
        await (await open_db(tmp_path, *steps)).close()
    kept = {p.name.split("-")[2] for p in (tmp_path / "backups").iterdir()}
    assert kept == {"3", "4", "5"}


def test_statements_are_split_where_they_end():
    sql = (
        "-- a comment; with a semicolon\nCREATE TABLE a (b TEXT DEFAULT ';');\n"
        "CREATE TRIGGER x AFTER INSERT ON a BEGIN UPDATE a SET b = 'c;'; DELETE FROM a; END;\n"
        "/* last; */ SELECT 1; -- the end\n"
    )
    found = list(schema.statements(sql))
    assert len(found) == 3
    assert found[1].startswith("CREATE TRIGGER")
    assert found[1].endswith("END;")
    with pytest.raises(ValueError, match="inside a statement"):
        list(schema.statements("SELECT 1; SELECT"))


async def test_the_packaged_migrations_make_a_sound_database(tmp_path):
    steps = schema.packaged_migrations()
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    (tmp_path / "backups").mkdir()
    db = await Database.open(tmp_path / "imgpro.db", tmp_path / "backups", "instance", "1.0")
    assert await pragma(db, "integrity_check") == "ok"
    loose = await db.write(
        lambda conn: conn.execute(
            "SELECT name FROM pragma_table_list WHERE type = 'table' AND NOT strict AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
    )
    assert loose == []
    await db.close()
