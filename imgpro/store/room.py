"""How much room there is and what takes it, as the file system says. Its functions block; none walks the pictures."""

import os
from pathlib import Path

import msgspec

from imgpro.store import durable


class FileSystem(msgspec.Struct, frozen=True):
    """One file system: its size, and what is left of it for this user. Bytes."""

    device: int
    total_bytes: int
    free_bytes: int


class Copies(msgspec.Struct, frozen=True):
    """What lies in the folder of backups: how many entries, their bytes, and the newest one (Unix ms)."""

    count: int
    bytes: int
    newest: str | None
    newest_ms: int | None


def file_system(path: Path) -> FileSystem:
    """Return the file system that `path` lies on. Raises StorageFault."""
    try:
        found = os.statvfs(path)
        return FileSystem(os.stat(path).st_dev, found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)
    except OSError as error:
        raise durable.fault(error, "asking for free space") from error


def database_bytes(path: Path) -> int:
    """Return the size of a database with the files beside it."""
    return sum(_size(Path(f"{path}{ending}")) for ending in ("", "-wal", "-shm"))


def copies(backups: Path) -> Copies:
    """Return what lies in the folder of backups."""
    count = size = 0
    newest: str | None = None
    newest_ms: int | None = None
    for entry in os.scandir(backups):
        try:
            found = entry.stat()
        except FileNotFoundError:
            continue
        count += 1
        size += found.st_size if entry.is_file() else 0
        if newest_ms is None or found.st_mtime * 1000 > newest_ms:
            newest, newest_ms = entry.name, int(found.st_mtime * 1000)
    return Copies(count, size, newest, newest_ms)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
