"""The copies of the database that are made before it is migrated: made, kept, and how to go back to one."""

import contextlib
import os
import re
import shlex
import sqlite3
import time
from pathlib import Path
from typing import Final

import msgspec

from imgpro.errors import Action, DataUnusable, StorageFull
from imgpro.forms import show_bytes
from imgpro.store import durable, peek

KEPT: Final = 3
_NAME: Final = re.compile(r"pre-migrate-(\d+)-(\d+)-.+\.db")
_PARTIAL: Final = "pre-migrate-*.partial"
_SPARE_BYTES: Final = 1024 * 1024


class Copy(msgspec.Struct, frozen=True):
    """One copy: the schema it has, and the one that the database was on its way to."""

    path: Path
    old: int
    new: int


def listed(backups: Path) -> list[Copy]:
    """Return all copies, the oldest first."""
    found = [(path, match) for path in _entries(backups) if (match := _NAME.fullmatch(path.name))]
    found.sort(key=lambda one: (one[0].stat().st_mtime, one[0].name))
    return [Copy(path, int(match[1]), int(match[2])) for path, match in found]


def room_wanted(database_bytes: int, backups: Path, database: Path) -> dict[Path, int]:
    """Return how many bytes must be free where: for the copy, and for the log of the migration itself."""
    wanted = {backups: database_bytes + _SPARE_BYTES}
    if os.stat(backups).st_dev == os.stat(database.parent).st_dev:
        wanted[backups] += database_bytes
    else:
        wanted[database.parent] = database_bytes + _SPARE_BYTES
    return wanted


def lacking(wanted: dict[Path, int]) -> tuple[Path, int] | None:
    """Return the first place that has not the bytes that are wanted there, and how many it wants; None if all have."""
    for place, size in wanted.items():
        found = os.statvfs(place)
        if found.f_bavail * found.f_frsize < size:
            return place, size
    return None


def no_room(place: Path, size: int) -> StorageFull:
    """Return the error for a place that lacks room."""
    return StorageFull(
        f"{place} has no room for the copy of the database that is made before it is migrated, and for migrating it.",
        Action("fix", label=f"Have at least {show_bytes(size)} free there and start again"),
    )


def make(conn: sqlite3.Connection, database: Path, backups: Path, old: int, new: int) -> Path:
    """Write a compact, checked and durable copy of the whole database and return its path.

    Raises StorageFull when there is no room for it, DataUnusable when what it holds is not sound.
    """
    for left in backups.glob(_PARTIAL):  # by a start that was killed here
        left.unlink()
    # Starts that are killed again and again must not fill the disk with copies of the same.
    for surplus in [copy for copy in listed(backups) if (copy.old, copy.new) == (old, new)][:-1]:
        surplus.path.unlink()
    pages, page_bytes = conn.execute("SELECT page_count, page_size FROM pragma_page_count, pragma_page_size").fetchone()
    short = lacking(room_wanted(pages * page_bytes, backups, database))
    if short is not None:
        raise no_room(*short)
    target = _free_name(backups, old, new)
    partial = target.with_suffix(".partial")
    try:
        conn.execute("VACUUM INTO ?", (str(partial),))
        with contextlib.closing(peek.quiet(partial)) as copy:
            verdict = copy.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise DataUnusable(
                f"The database is damaged ({verdict}); it was not migrated.",
                Action("fix", label=f"Restore it from {backups}"),
            )
        os.chmod(partial, 0o640)
        fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
        try:
            durable.fsync_fd(fd)
        finally:
            os.close(fd)
        os.rename(partial, target)
        durable.fsync_directory(backups)
    finally:
        partial.unlink(missing_ok=True)
    return target


def prune(backups: Path, needed: Path) -> None:
    """Remove the oldest copies above the number that is kept, never the one that is `needed`."""
    others = [copy.path for copy in listed(backups) if copy.path != needed]
    for surplus in others[: max(0, len(others) - (KEPT - 1))]:
        surplus.unlink()


def prune_old(backups: Path, before_s: float) -> None:
    """Remove the copies made before a moment (Unix seconds)."""
    for copy in listed(backups):
        if copy.path.stat().st_mtime < before_s:
            copy.path.unlink()


def way_back(database: Path, backups: Path, supported: int) -> str:
    """Return in words and commands how a program that knows schemas up to `supported` gets a database it can open."""
    usable = [copy.path for copy in listed(backups) if copy.old <= supported and _is_whole(copy.path)]
    if not usable:
        return (
            f"Start a newer imgpro; or, without what came since: stop imgpro and restore a backup of {database.parent} "
            "from before the upgrade (no copy from then lies in its folder backups)"
        )
    home, copy = shlex.quote(str(database.parent)), shlex.quote(str(usable[-1]))
    name = database.name
    return (
        "Start a newer imgpro; or go back to the copy from before its upgrade, without all pictures, accounts and "
        f"changes that came since:\n"
        f"  cd {home}\n"
        f'  for f in {name} {name}-wal {name}-shm; do [ ! -e "$f" ] || mv "$f" "newer-$f"; done\n'
        f"  cp -p {copy} {name}\n"
        "and start this imgpro again"
    )


def _is_whole(path: Path) -> bool:
    try:
        with contextlib.closing(peek.quiet(path)) as conn:
            return bool(conn.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False


def _free_name(backups: Path, old: int, new: int) -> Path:
    """Return a name that no copy has: two starts within a second must not overwrite the first one's copy."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = backups / f"pre-migrate-{old}-{new}-{stamp}.db"
    number = 1
    while name.exists():
        number += 1
        name = backups / f"pre-migrate-{old}-{new}-{stamp}-{number}.db"
    return name


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
