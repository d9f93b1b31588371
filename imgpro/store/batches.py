"""Transactions that wait for the writer and share a commit: run, undone, tried again, answered.

Knows no table, and not who follows what is committed.
"""

import asyncio
import contextlib
import contextvars
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from imgpro.errors import StorageFault
from imgpro.store import durable
from imgpro.store.sqlite_faults import primary_code, translated


class Follower(Protocol):
    """What is told of every commit, in the writer's thread. What it raises fails the transaction, so it must not."""

    def opened(self, connection: sqlite3.Connection) -> None:
        """Meet the connection that will do all writing, inside the first transaction of this run."""

    def before_commit(self, connection: sqlite3.Connection) -> None:
        """See what is about to be committed; may write to the database itself."""

    def committed(self) -> None:
        """Learn that it was."""

    def rolled_back(self) -> None:
        """Learn that nothing of it was."""

    def closed(self) -> None:
        """Learn that nothing comes any more."""


class Alone:
    """Nobody follows."""

    def opened(self, connection: sqlite3.Connection) -> None:
        """Do nothing."""

    def before_commit(self, connection: sqlite3.Connection) -> None:
        """Do nothing."""

    def committed(self) -> None:
        """Do nothing."""

    def rolled_back(self) -> None:
        """Do nothing."""

    def closed(self) -> None:
        """Do nothing."""


class Write:
    """A transaction that waits for its turn, and then its outcome."""

    __slots__ = ("context", "error", "function", "future", "result")

    def __init__(self, function: Callable[[sqlite3.Connection], Any], future: asyncio.Future[Any]) -> None:
        self.function = function
        self.future = future
        self.context = contextvars.copy_context()  # so that what it logs names its request
        self.result: Any = None
        self.error: BaseException | None = None


class Chore:
    """Work between two transactions, and who waits for its end."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future


class RoomGiven(Exception):
    """The disk is full, and now a little less so: the same batch may fit."""


def commit(
    connection: sqlite3.Connection, batch: Sequence[Write], give_room: Callable[[], bool], follower: Follower
) -> None:
    """Run each of a batch inside its own savepoint, then commit once. Raises RoomGiven; whatever else the commit fails
    with is raised as it is, and nothing is undone yet.
    """
    connection.execute("BEGIN IMMEDIATE")
    for write in batch:
        write.context.run(_run_one, connection, write, give_room)
    try:
        follower.before_commit(connection)
        durable.point("commit.before")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        _try_again_with_room(error, give_room)
        raise
    durable.point("commit.after")
    follower.committed()


def roll_back(connection: sqlite3.Connection, follower: Follower) -> None:
    """Undo what was not committed."""
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
    follower.rolled_back()


def answer(batch: Sequence[Write]) -> None:
    """Tell those who wait what came of it; in the loop's thread."""
    for write in batch:
        if write.future.done():
            continue
        if write.error is not None:
            write.future.set_exception(write.error)
        else:
            write.future.set_result(write.result)


def do_chore(connection: sqlite3.Connection, chore: Chore, written: Path) -> Callable[[], None]:
    """Do it in the writer's thread; return what tells who waits, to be called in the loop's."""
    try:
        done = chore.work(connection)
    except Exception as error:  # noqa: BLE001 - handed to who waits
        failure = translated(error, written)
        return lambda: None if chore.future.done() else chore.future.set_exception(failure)
    return lambda: None if chore.future.done() else chore.future.set_result(done)


def _try_again_with_room(error: Exception, give_room: Callable[[], bool]) -> None:
    if primary_code(error) == sqlite3.SQLITE_FULL and give_room():
        raise RoomGiven from error


def _run_one(connection: sqlite3.Connection, write: Write, give_room: Callable[[], bool]) -> None:
    write.error = None
    connection.execute("SAVEPOINT one")
    try:
        write.result = write.function(connection)
    except Exception as error:
        _try_again_with_room(error, give_room)
        write.error = translated(error)
        if not connection.in_transaction:
            # A full disk makes SQLite roll back everything, the others of this batch too.
            raise
        connection.execute("ROLLBACK TO one")
    if not connection.in_transaction:
        raise StorageFault("A transaction was ended by the function that runs in it.")
    connection.execute("RELEASE one")
