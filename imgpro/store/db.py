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
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import aiosqlite
import msgspec

from imgpro.errors import Action, Busy, DataUnusable, ImgproError, StorageFault, StorageFull
from imgpro.store import durable, schema
from imgpro.store.schema import Migration

T = TypeVar("T")

_READERS: Final = 2
_MAX_QUEUED: Final = 1_024
_MAX_BATCH: Final = 128
_BUSY_TIMEOUT_MS: Final = 10_000
_CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
_CLOSE_DEADLINE_S: Final = 5.0
_FRESH_S: Final = 10.0  # a commit this young proves the write path to `ping`

# Why only the writer ever checkpoints. SQLite 3.7.0 to 3.51.2 (Debian 12 has 3.40.1) can lose committed pages when
# one connection starts a checkpoint while another one commits a transaction that restarts the log: the checkpoint
# then publishes, for the new log, how far it had copied the old one, and a later checkpoint skips those frames
# (sqlite.org/wal.html, "The WAL-reset bug"; fixed in 3.51.3). It takes two connections, one that checkpoints and one
# that writes. Here both jobs belong to one connection in one thread, where they cannot overlap. The readers
# cannot checkpoint, by accident neither: they are opened `mode=ro`, which makes a checkpoint fail, also the one that
# SQLite attempts when the last connection is closed.
_WRITER_PRAGMAS: Final = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",  # NORMAL loses acknowledged rows at a power cut
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -32000",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA secure_delete = ON",  # what is deleted is overwritten; Debian's SQLite does so anyway, others do not
    "PRAGMA wal_autocheckpoint = 0",  # the writer does it itself, after the callers have their answers
)
_READER_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}",
    "PRAGMA query_only = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16000",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA wal_autocheckpoint = 0",
)

log = logging.getLogger(__name__)


class DatabaseStats(msgspec.Struct, frozen=True):
    """What the writer has done and has before it."""

    wal_bytes: int
    queued: int
    writes: int
    commits: int


class _Write:
    """A transaction that waits for its turn, and then its outcome."""

    __slots__ = ("error", "function", "future", "result")

    def __init__(self, function: Callable[[sqlite3.Connection], Any], future: asyncio.Future[Any]) -> None:
        self.function = function
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None


class Database:
    """The database of one data directory. Make it with `Database.open`, end it with `close`."""

    def __init__(self, path: Path, backups: Path) -> None:
        self.path = path
        self._backups = backups
        self._wal = Path(f"{path}-wal")
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name="db-writer", daemon=True)
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._idle: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._readers: list[aiosqlite.Connection] = []
        self._closing = False
        self._writes = self._commits = 0
        self._last_commit_s = float("-inf")
        self._steps: tuple[Migration, ...] = ()
        self._identity = ("", "")

    @classmethod
    async def open(
        cls,
        path: Path,
        backups: Path,
        instance_id: str,
        app_version: str,
        migrations: Sequence[Migration] | None = None,
    ) -> "Database":
        """Open, create or migrate the database; raises DataUnusable, StorageFull, StorageFault.

        `instance_id` is that of the data directory: a database of another one is refused.
        """
        database = cls(path, backups)
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
            raise Busy
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Write(function, future))
        # A cancelled caller cancels this future only; the writer does not look at it before it has committed.
        return await future

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
        return DatabaseStats(wal_bytes, self._queue.qsize(), self._writes, self._commits)

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
        for pragma in _READER_PRAGMAS:
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
        finally:
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
            # Settled when the first page is written, which the journal mode does: before that or never.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StorageFault(f"SQLite cannot keep a write-ahead log for {self.path} (journal mode {mode}).")
            for pragma in _WRITER_PRAGMAS:
                connection.execute(pragma).fetchall()
            schema.migrate(connection, self._backups, current, self._steps)
            connection.execute("BEGIN IMMEDIATE")
            self._sign(connection)
            _drop_statistics(connection)
            connection.execute("COMMIT")
        except BaseException:
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

    def _take(self) -> list[_Write]:
        """Wait for work and return all of it that is queued; nothing once the end was asked for."""
        batch: list[_Write] = []
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

    def _commit(self, connection: sqlite3.Connection, batch: list[_Write]) -> None:
        """Run a batch, each inside its own savepoint, commit once, and only then tell the callers."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write in batch:
                _run_one(connection, write)
            durable.point("commit.before")
            connection.execute("COMMIT")
            durable.point("commit.after")
            self._commits += 1
            self._writes += len(batch)
            self._last_commit_s = time.monotonic()
        except BaseException as error:  # noqa: BLE001 - handed to every caller of the batch
            failure = translated(error)
            log.error("a transaction of %d writes failed: %s", len(batch), error)
            _roll_back(connection)
            for write in batch:
                write.error = write.error or failure
        self._tell(lambda: _answer(batch))

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """Copy the log into the database once it is long enough; passive, so that nobody waits for it."""
        try:
            if os.stat(self._wal).st_size >= _CHECKPOINT_BYTES:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except (OSError, sqlite3.Error) as error:
            log.warning("a checkpoint failed and will be tried again: %s", error)


def _run_one(connection: sqlite3.Connection, write: _Write) -> None:
    connection.execute("SAVEPOINT one")
    try:
        write.result = write.function(connection)
    except Exception as error:
        write.error = translated(error)
        if not connection.in_transaction:
            # A full disk makes SQLite roll back everything, the others of this batch too.
            raise
        connection.execute("ROLLBACK TO one")
    if not connection.in_transaction:
        raise StorageFault("A transaction was ended by the function that runs in it.")
    connection.execute("RELEASE one")


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _answer(batch: list[_Write]) -> None:
    for write in batch:
        if write.future.done():
            continue
        if write.error is not None:
            write.future.set_exception(write.error)
        else:
            write.future.set_result(write.result)


def translated(error: BaseException) -> BaseException:
    """Return the error that callers outside the store can handle for what SQLite or the system raised."""
    if isinstance(error, OSError) and not isinstance(error, ImgproError):
        return durable.fault(error, "working on the database")
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", None) or 0
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return StorageFull()
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy("The database is in use by another program.")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DataUnusable(f"The database is damaged: {error}.", Action("fix", label="Restore it from a backup"))
    if primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StorageFault(f"The disk failed while working on the database: {error}.")
    return error


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
