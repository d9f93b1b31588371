"""What SQLite says when something fails, as an error that callers outside the store can handle."""

import os
import sqlite3
from pathlib import Path

from imgpro.errors import Action, Busy, DataUnusable, ImgproError, StorageFault, StorageFull
from imgpro.store import durable

_WAY_BACK = "Stop the server, then imgpro rebuild, or imgpro backup restore"
_DISK_REFUSED = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)


def primary_code(error: BaseException) -> int:
    """Return SQLite's result code without its details; 0 for what is no error of SQLite."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def translated(error: BaseException, written: Path | None = None) -> BaseException:
    """Return the error to raise for what SQLite or the system raised.

    SQLite does not tell that a disk has become read-only: opening `written`, a file that it writes to, does. It must
    be none that SQLite locks, because closing it would let go of the locks.
    """
    if isinstance(error, OSError) and not isinstance(error, ImgproError):
        return durable.write_fault(error, "working on the database")
    if not isinstance(error, sqlite3.Error):
        return error
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return StorageFull()
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy("The database is in use by another program.")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DataUnusable(f"The database is damaged: {error}.", Action("fix", label=_WAY_BACK))
    if code in _DISK_REFUSED:
        return _unwritable(written) or StorageFault(f"The disk failed while working on the database: {error}.")
    return error


def _unwritable(written: Path | None) -> ImgproError | None:
    try:
        if written is not None:
            os.close(os.open(written, os.O_WRONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in durable.NOT_WRITABLE:
            return durable.write_fault(error, "working on the database")
    return None
