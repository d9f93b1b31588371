"""All rows of the journal's tables, written anew into one file while the server works.

Read in pages, each of its own moment: what changes meanwhile is in the tail that was begun before, which is read after.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from imgpro.store import durable, journal_tables
from imgpro.store import journal_format as form
from imgpro.store.journal_format import Header
from imgpro.store.journal_tables import Shape
from imgpro.store.journal_tail import MODE
from imgpro.store.pragmas import READER_PRAGMAS

PAGE_ROWS: Final = 200
_BUFFER_BYTES: Final = 256 * 1024


class Stopped(Exception):
    """Somebody asked for the end of it; nothing is left of the file."""


class Written(msgspec.Struct, frozen=True):
    """A complete snapshot, durable under its name."""

    path: Path
    bytes: int
    rows: int


def write(
    database: Path,
    folder: Path,
    header: Callable[[sqlite3.Connection], Header],
    stop: threading.Event,
    advance: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write the snapshot that `header` begins, and return it. Blocking, for as long again as it works: others go first.

    The tail of its number has to be there already. Raises OSError, sqlite3.Error, Stopped.
    """
    with contextlib.closing(_reader(database)) as connection:
        first = header(connection)
        target = folder / form.snapshot_name(first.number)
        partial = target.with_suffix(".partial")
        try:
            with _file(partial) as file:
                file.write(form.header_line(first))
                rows = 0
                for shape in journal_tables.shapes(connection).values():
                    rows += _write_table(connection, shape, file, stop, advance)
                file.write(form.ended(rows))
                file.flush()
                durable.fsync_fd(file.fileno())
                size = os.fstat(file.fileno()).st_size
            os.rename(partial, target)
            durable.fsync_directory(folder)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    return Written(target, size, rows)


def _write_table(
    connection: sqlite3.Connection,
    shape: Shape,
    file: BinaryIO,
    stop: threading.Event,
    advance: Callable[[int], None],
) -> int:
    count, after = 0, ()
    while True:
        began = time.monotonic()
        page = connection.execute(shape.page(first=not after), (*after, PAGE_ROWS)).fetchall()
        file.write(b"".join(form.put(shape.table.name, row[0]) for row in page))
        count += len(page)
        advance(len(page))
        if len(page) < PAGE_ROWS:
            return count
        after = tuple(page[-1][1:])
        if stop.wait(time.monotonic() - began):
            raise Stopped


def _file(path: Path) -> BinaryIO:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, MODE)
    return open(fd, "wb", buffering=_BUFFER_BYTES)


def _reader(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        for pragma in READER_PRAGMAS:
            connection.execute(pragma).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
