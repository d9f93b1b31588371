"""Putting a staged data directory in the place of the one that is there, so that a kill at any moment loses neither.

From the moment that the mark is written until it is gone, no server starts here, and the swap goes on where it was.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from imgpro.errors import Action, DataUnusable
from imgpro.store import durable
from imgpro.store.layout import DATABASE_NAME, REPLACED, RESTORE_MARK, STAGE

_DATABASE_FILES: Final = (f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm", f"{DATABASE_NAME}-journal", DATABASE_NAME)
_STAGED: Final = ("FORMAT", "secret.key", "blobs")
_OLD_ALONE: Final = ("journal", "quarantine")  # of what was there; a server makes new ones


class Swap(msgspec.Struct, frozen=True):
    """What is being put in place: a backup, by name and place. `home` is the directory of the database."""

    backup: str
    place: str
    home: str
    replaced: str
    missing: int = 0


def under_way(root: Path) -> Swap | None:
    """Return the swap that was begun in a data directory and not ended. Raises DataUnusable, StorageFault."""
    path = root / RESTORE_MARK
    try:
        return msgspec.json.decode(path.read_bytes(), type=Swap)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataUnusable(
            f"{path} is damaged, so that the restore it is about cannot go on.",
            Action("fix", label=f"Look what lies in {root}/{STAGE} and {root}/{REPLACED}*, and remove {path}"),
        ) from error
    except OSError as error:
        raise durable.fault(error, f"reading {path}") from error


def begin(root: Path, swap: Swap) -> None:
    """Write the mark: all that is staged is whole and durable. Raises StorageFull, StorageFault."""
    with _faults("beginning to restore"):
        durable.point("restore.staged")
        durable.write_file(root / RESTORE_MARK, msgspec.json.encode(swap) + b"\n", 0o640)
        durable.point("restore.marked")


def finish(root: Path, swap: Swap) -> list[Path]:
    """Do what is left of a swap, and return where lies what was there. Hold the locks. Raises StorageFault."""
    home = Path(swap.home)
    homes = [root] if home == root else [root, home]
    with _faults("putting the backup in place"):
        asides = [place / swap.replaced for place in homes]
        for place, aside in zip(homes, asides, strict=True):
            durable.make_directory(aside)
            durable.fsync_directory(place)
            for name in _DATABASE_FILES:
                if not (place == home and name == DATABASE_NAME):
                    _set_aside(place / name, aside / name)
        for name in _OLD_ALONE:
            _set_aside(root / name, root / swap.replaced / name)
        _set_aside(root / "cache", root / STAGE / "cache")  # made from the pictures: it is not kept
        for name in _STAGED:
            _exchange(root, name, swap.replaced)
        durable.point("restore.moved")
        _exchange(home, DATABASE_NAME, swap.replaced)
        for place, aside in zip(homes, asides, strict=True):
            durable.fsync_directory(aside)
            durable.fsync_directory(place)
        durable.point("restore.swapped")
        os.unlink(root / RESTORE_MARK)
        durable.fsync_directory(root)
        durable.point("restore.unmarked")
    for place in homes:
        clear_stage(place)
    return [aside for aside in asides if not _removed_if_empty(aside)]


def clear_stage(place: Path) -> None:
    """Remove what is staged and not wanted."""
    shutil.rmtree(place / STAGE, ignore_errors=True)


def _exchange(place: Path, name: str, replaced: str) -> None:
    """Put a staged file or folder in place. Done again after a kill, it goes on."""
    staged = place / STAGE / name
    if os.path.lexists(staged):
        _set_aside(place / name, place / replaced / name)
        os.rename(staged, place / name)


def _set_aside(old: Path, aside: Path) -> None:
    if os.path.lexists(old) and not os.path.lexists(aside):
        os.rename(old, aside)


def _removed_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _faults(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise durable.fault(error, doing) from error
