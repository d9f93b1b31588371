"""How much room there is and what takes it, as the file system says. Its functions block; none walks the pictures."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from imgpro.store import durable


class FileSystem(msgspec.Struct, frozen=True):
    """One file system: its size, and what is left of it for this user. Bytes.

    `free_inodes` is how many more files it can hold; None where it does not count them.
    """

    device: int
    total_bytes: int
    free_bytes: int
    free_inodes: int | None


class Copies(msgspec.Struct, frozen=True):
    """What lies in the folder of backups beside them: copies of the database, their bytes, the newest one (Unix ms)."""

    count: int
    bytes: int
    newest: str | None
    newest_ms: int | None


def file_system(path: Path) -> FileSystem:
    """Return the file system that `path` lies on. Raises StorageFault."""
    try:
        found = os.statvfs(path)
        return FileSystem(
            os.stat(path).st_dev,
            found.f_blocks * found.f_frsize,
            found.f_bavail * found.f_frsize,
            found.f_favail if found.f_files else None,
        )
    except OSError as error:
        raise durable.fault(error, "asking for free space") from error


def refusal(folders: Sequence[Path], file: Path) -> str:
    """Return why nothing could be written now, in the system's words; empty if it could. Writes nothing.

    After a fault ext4 refuses writers without calling itself read-only: opening an existing `file` for writing tells.
    Closing it again lets go of no lock but those of fcntl(2), so it must be none that SQLite locks.
    """
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    except FileNotFoundError:
        pass
    except OSError as error:
        return error.strerror or str(error)
    if all(os.access(folder, os.W_OK, effective_ids=True) for folder in folders):
        return ""
    return os.strerror(errno.EROFS if os.statvfs(folders[0]).f_flag & os.ST_RDONLY else errno.EACCES)


def database_bytes(path: Path) -> int:
    """Return the size of a database with the files beside it."""
    return sum(_size(Path(f"{path}{ending}")) for ending in ("", "-wal", "-shm"))


def copies(backups: Path) -> Copies:
    """Return what files lie in the folder of backups."""
    count = size = 0
    newest: str | None = None
    newest_ms: int | None = None
    with os.scandir(backups) as entries:
        for entry in entries:
            try:
                found = entry.stat()
            except FileNotFoundError:
                continue
            if not entry.is_file():
                continue
            count += 1
            size += found.st_size
            if newest_ms is None or found.st_mtime * 1000 > newest_ms:
                newest, newest_ms = entry.name, int(found.st_mtime * 1000)
    return Copies(count, size, newest, newest_ms)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
