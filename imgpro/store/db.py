"""Connections to the database: one writer with a queue of whole transactions, a few readers, and their pragmas.

Knows no table besides `meta`, and nothing of what the transactions mean.
"""

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import aiosqlite
import msgspec

from imgpro.errors import Action, Busy, DataUnusable, StorageFault
from imgpro.store import batches, durable, schema
from imgpro.store.batches import Alone, Chore, Follower, RoomGiven, Write
from imgpro.store.pragmas import BUSY_TIMEOUT_MS as _BUSY_TIMEOUT_MS
from imgpro.store.pragmas import READER_PRAGMAS, WRITER_PRAGMAS
from imgpro.store.schema import Migration
from imgpro.store.sqlite_faults import translated
from imgpro.tallies import Counted, Histogram

T = TypeVar("T")

_READERS: Final = 2
_MAX_QUEUED: Final = 1_024
_MAX_BATCH: Final = 128
_CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
_CLOSE_DEADLINE_S: Final = 5.0
_FRESH_S: Final = 10.0  # a commit this young proves the write path to `ping`

log = logging.getLogger(__name__)


class DatabaseStats(msgspec.Struct, frozen=True):
    """What the writer has done and has before it; `busy` is how often it could not, for now. Durations in seconds."""

    wal_bytes: int
    queued: int
    writes: int
    commits: int
    busy: int
    durations: Counted  # of transactions, many writes in one


class Database:
    """The database of one data directory. Make it with `Database.open`, end it with `close`."""

    def __init__(self, path: Path, backups: Path, follower: Follower | None = None) -> None:
        self.path = path
        self._follower = follower or Alone()
        self._backups = backups
        self._wal = Path(f"{path}-wal")
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name="db-writer", daemon=True)
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._idle: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._readers: list[aiosqlite.Connection] = []
        self._closing = False
        self._writes = self._commits = self._busy = 0
        self._durations = Histogram()
        self.give_room: Callable[[], bool] = lambda: False  # asked in the writer's thread when the disk is full
        self._last_commit_s = float("-inf")
        self._steps: tuple[Migration, ...] = ()
        self._identity = ("", "")
        self._chores: deque[Chore] = deque()

    @classmethod
    async def open(
        cls,
        path: Path,
        backups: Path,
        instance_id: str,
        app_version: str,
        migrations: Sequence[Migration] | None = None,
        follower: Follower | None = None,
    ) -> "Database":
        """Open, create or migrate the database; raises DataUnusable, StorageFull, StorageFault.

        `instance_id` is that of the data directory: a database of another one is refused. `follower` is told of
        every commit.
        """
        database = cls(path, backups, follower)
        database._steps = tuple(migrations) if migrations is not None else schema.packaged_migrations()
        database._identity = (instance_id, app_version)
        database._thread.start()
        try:
            await asyncio.shield(database._opened)
        except asyncio.CancelledError:
            database._queue.put(None)
            raise
        try:
            for _ in range(_READERS):
                await database._add_reader()
        except BaseException:
            await database.close()
            raise
        return database

    async def write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` in a transaction and return its result once it is durable.

        It runs in the writer's thread, inside a savepoint: what it raises undoes its own changes and is raised
        here. It must not begin, commit or roll back. A caller that goes away does not stop it. Raises Busy when
        too many wait, StorageFull and StorageFault when the commit fails.
        """
        if self._closing or self._queue.qsize() >= _MAX_QUEUED:
            self._busy += 1
            raise Busy
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(Write(function, future))
        # A cancelled caller cancels this future only; the writer does not look at it before it has committed.
        return await future

    async def between(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the writer's connection between two transactions, for what is none: all writes wait for it.

        Raises what it raises, Busy as `write` does, StorageFull and StorageFault.
        """
        chore = Chore(work, self._loop.create_future())
        self._chores.append(chore)
        try:
            await self.write(lambda _: None)  # what wakes the thread
        except BaseException:
            with contextlib.suppress(ValueError):
                self._chores.remove(chore)
            raise
        done: T = await chore.future
        return done

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[aiosqlite.Connection]:
        """Lend a read-only connection: `await conn.execute_fetchall(sql, parameters)`.

        Each statement sees its own moment. Only complete fetches: an open cursor would hold up checkpoints.
        """
        if self._closing:
            raise Busy
        connection = await self._idle.get()
        try:
            yield connection
        finally:
            self._idle.put_nowait(connection)

    async def ping(self, deadline_s: float = 2.0) -> None:
        """Prove that a write can be committed now; raises StorageFault, StorageFull or Busy.

        A commit of the last seconds is proof enough, so that asking often costs no disk.
        """
        if time.monotonic() - self._last_commit_s < _FRESH_S:
            return
        stamp = str(time.time_ns() // 1_000_000)
        try:
            async with asyncio.timeout(deadline_s):
                await self.write(lambda conn: _set_meta(conn, "pinged_ms", stamp))
        except TimeoutError:
            raise Busy("The database did not answer in time.") from None

    async def maintain(self) -> None:
        """Give free pages back to the disk; for a quiet moment."""
        await self.write(_release_pages)

    def stats(self) -> DatabaseStats:
        """Return the counters and the size of the write-ahead log."""
        try:
            wal_bytes = os.stat(self._wal).st_size
        except FileNotFoundError:
            wal_bytes = 0
        return DatabaseStats(
            wal_bytes, self._queue.qsize(), self._writes, self._commits, self._busy, self._durations.counted()
        )

    async def close(self) -> None:
        """Finish what is queued, fold the log into the database, and close everything; idempotent."""
        if not self._closing:
            self._closing = True
            # The readers first: the last connection to go is then the writer's, after its own checkpoint.
            for connection in self._readers:
                await _close_reader(connection)
            self._readers.clear()
            self._queue.put(None)
        await asyncio.shield(self._closed)
        await asyncio.to_thread(self._thread.join)

    async def _add_reader(self) -> None:
        connection = await aiosqlite.connect(f"{self.path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        self._readers.append(connection)
        for pragma in READER_PRAGMAS:
            await connection.execute_fetchall(pragma)
        self._idle.put_nowait(connection)

    # In the writer's thread

    def _serve(self) -> None:
        try:
            connection = self._connect()
        except BaseException as error:  # noqa: BLE001 - handed to the caller of `open`
            self._tell(partial(self._opened.set_exception, translated(error)))
            self._tell(lambda: self._closed.set_result(None))
            return
        self._tell(lambda: self._opened.set_result(None))
        try:
            while batch := self._take():
                self._commit(connection, batch)
                self._checkpoint(connection)
                while self._chores:
                    self._tell(batches.do_chore(connection, self._chores.popleft(), self._wal))
        finally:
            self._follower.closed()
            _finish(connection)
            self._tell(lambda: self._closed.set_result(None))

    def _tell(self, callback: Callable[[], None]) -> None:
        # The loop may be gone already when a process ends in a hurry; nobody waits for the answer then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def _connect(self) -> sqlite3.Connection:
        current = schema.check_identity(self.path, self._backups, self._steps[-1].version)
        # SQLite gives its side files the mode of the main one; whatever the umask, others have no business here.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
        durable.fsync_directory(self.path.parent)
        connection = sqlite3.connect(self.path, isolation_level=None, cached_statements=256)
        try:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            if current is None:
                # Settled when the first page is written, which the journal mode does: before that or never. It writes
                # even where it changes nothing, and a database that is about to be refused stays as it is.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StorageFault(f"SQLite cannot keep a write-ahead log for {self.path} (journal mode {mode}).")
            for pragma in WRITER_PRAGMAS:
                connection.execute(pragma).fetchall()
            schema.migrate(connection, self.path, self._backups, current, self._steps)
            connection.execute("BEGIN IMMEDIATE")
            self._sign(connection)
            _drop_statistics(connection)
            self._follower.opened(connection)
            connection.execute("COMMIT")
            self._follower.committed()
        except BaseException:
            batches.roll_back(connection, self._follower)
            self._follower.closed()
            connection.close()
            raise
        return connection

    def _sign(self, connection: sqlite3.Connection) -> None:
        instance_id, app_version = self._identity
        now_ms = str(time.time_ns() // 1_000_000)
        connection.execute(
            "INSERT INTO meta (key, value) VALUES ('instance_id', ?), ('created_ms', ?) ON CONFLICT DO NOTHING",
            (instance_id, now_ms),
        )
        found = connection.execute("SELECT value FROM meta WHERE key = 'instance_id'").fetchone()[0]
        if found != instance_id:
            raise DataUnusable(
                f"{self.path} belongs to another data directory (instance {found}, expected {instance_id}).",
                Action("fix", label="Put database and pictures of the same instance together"),
            )
        _set_meta(connection, "app_version_last", app_version)

    def _take(self) -> list[Write]:
        """Wait for work and return all of it that is queued; nothing once the end was asked for."""
        batch: list[Write] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) == _MAX_BATCH:
                break
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
        else:
            if batch:
                self._queue.put(None)  # the end, met behind work: do the work first
        return batch

    def _commit(self, connection: sqlite3.Connection, batch: list[Write]) -> None:
        """Run a batch, each inside its own savepoint, commit once, and only then tell the callers."""
        began_s = time.monotonic()
        try:
            try:
                batches.commit(connection, batch, self.give_room, self._follower)
            except RoomGiven:
                log.warning("the disk of the database is full; its ballast was given up, so that writing goes on")
                batches.roll_back(connection, self._follower)
                batches.commit(connection, batch, self.give_room, self._follower)
            self._commits += 1
            self._writes += len(batch)
            self._last_commit_s = time.monotonic()
            self._durations.note(self._last_commit_s - began_s)
        except BaseException as error:  # noqa: BLE001 - handed to every caller of the batch
            failure = translated(error, self._wal)
            self._busy += isinstance(failure, Busy)
            batch[0].context.run(log.error, "a transaction of %d writes failed: %s", len(batch), error)
            batches.roll_back(connection, self._follower)
            for write in batch:
                write.error = write.error or failure
        self._tell(lambda: batches.answer(batch))

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """Copy the log into the database once it is long enough; passive, so that nobody waits for it."""
        try:
            if os.stat(self._wal).st_size >= _CHECKPOINT_BYTES:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except (OSError, sqlite3.Error) as error:
            log.warning("a checkpoint failed and will be tried again: %s", error)


def _set_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )


def _drop_statistics(connection: sqlite3.Connection) -> None:
    # Gathered while a table had one row, statistics make the planner scan it for every look-up, until a restart: a list
    # of 50,000 pictures took 237 ms instead of 1. Hence no `PRAGMA optimize` anywhere.
    connection.execute("DROP TABLE IF EXISTS sqlite_stat1")


def _release_pages(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()


def _finish(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        log.warning("the log could not be folded into the database: %s", error)
    finally:
        connection.close()


async def _close_reader(connection: aiosqlite.Connection) -> None:
    # aiosqlite's thread is no daemon: without an end the process would never exit.
    try:
        async with asyncio.timeout(_CLOSE_DEADLINE_S):
            await connection.close()
    except TimeoutError:
        connection.stop()
