"""Looking into a database without leaving a trace beside it, whoever owns it and whether or not somebody writes to it.

SQLite makes the log and its index for who only reads, too. Made by root, they would lock the service out.
"""

import contextlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from imgpro.errors import Busy

_TRIES = 3


def quiet(path: Path) -> sqlite3.Connection:
    """Open a database for reading while nobody writes to it; nothing is made or changed. Raises sqlite3.Error."""
    if not _filled(path, "-wal") and not _filled(path, "-journal"):
        return _checked(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
        )
    try:
        return shared(path)
    except sqlite3.OperationalError:
        # A log without its index, as a copy of files leaves it: SQLite has to make the index to read the log.
        return _checked(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None))


def shared(path: Path) -> sqlite3.Connection:
    """Open a database that a server may be writing to, by the index that is there; it is not written to.

    Such a reader cannot checkpoint and never blocks the writer. Raises sqlite3.Error.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro&readonly_shm=1"
    return _checked(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10))


@contextlib.contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    """Lend a connection for reading, whether or not a server has the database open. Raises sqlite3.Error, OSError."""
    with _giving_back(path):
        try:
            conn = shared(path) if Path(f"{path}-shm").exists() else quiet(path)
        except sqlite3.OperationalError:
            conn = quiet(path)  # the server ended just now
        with contextlib.closing(conn):
            yield conn


def copy(source: Path, target: Path) -> None:
    """Write a consistent copy of a database to `target`, which must not exist, while a server may be writing to it.

    Nothing beside the source is made or changed. Raises sqlite3.Error, OSError, and Busy if it changes all the time.
    """
    for _ in range(_TRIES):
        if _filled(source, "-wal") and Path(f"{source}-shm").exists():
            with contextlib.suppress(sqlite3.OperationalError), _giving_back(source):
                with contextlib.closing(shared(source)) as conn:
                    conn.execute("VACUUM INTO ?", (str(target),))
                return
            _remove(target)
        if _copy_files(source, target):
            return
    raise Busy(f"{source} changes while it is copied.")


def _copy_files(source: Path, target: Path) -> bool:
    """Copy database and log as files; False if they changed meanwhile."""
    before = _look(source)
    shutil.copyfile(source, target)
    if _filled(source, "-wal"):
        shutil.copyfile(f"{source}-wal", f"{target}-wal")
    if _look(source) == before:
        return True
    _remove(target)
    return False


def _look(path: Path) -> list[tuple[int, int, int] | None]:
    found: list[tuple[int, int, int] | None] = []
    for ending in ("", "-wal", "-journal"):
        try:
            seen = os.stat(f"{path}{ending}")
            found.append((seen.st_ino, seen.st_size, seen.st_mtime_ns))
        except FileNotFoundError:
            found.append(None)
    return found


@contextlib.contextmanager
def _giving_back(source: Path) -> Iterator[None]:
    """Give what SQLite made beside the database after all, should its server have ended just now, to its owner.

    The owner may be anybody, with links in there to files that are not his.
    """
    names = [Path(f"{source}{ending}") for ending in ("-wal", "-shm")]
    missing = [name for name in names if not os.path.lexists(name)]
    try:
        yield
    finally:
        for name in missing if os.geteuid() == 0 else ():
            with contextlib.suppress(OSError):
                _give(name, os.stat(source))


def _give(path: Path, owner: os.stat_result) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid != owner.st_uid:
            os.fchown(fd, owner.st_uid, owner.st_gid)
    finally:
        os.close(fd)


def _filled(path: Path, ending: str) -> bool:
    try:
        return os.stat(f"{path}{ending}").st_size > 0
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{ending}").unlink(missing_ok=True)


def _checked(conn: sqlite3.Connection) -> sqlite3.Connection:
    """Return the connection once it has proved that it can read; SQLite opens nothing before that."""
    try:
        conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        conn.close()
        raise
    return conn
