"""`quarantine/`: what was taken out of `blobs/` because it is not what its name says, kept for whoever looks into it.

Everything here blocks and belongs into a thread. Knows nothing of rows or of healing.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from imgpro.ids import DIGEST
from imgpro.store import durable
from imgpro.store.layout import DataDir
from imgpro.store.rereading import read_again

KEPT_S: Final = 30 * 86_400.0
_OTHER: Final = "other"  # folder of what is no original at all
_UNSAFE: Final = re.compile(r"[^0-9A-Za-z._-]")


class Kept(msgspec.Struct, frozen=True):
    """A bad original that is kept: hex digest, bytes, Unix seconds of when it was put there."""

    digest: str
    size: int
    since_s: float


class Quarantine:
    """The folder of one data directory."""

    def __init__(self, data: DataDir) -> None:
        self._data = data
        self.root = data.quarantine

    def path(self, digest: str) -> Path:
        """Return where a bad original lies or would lie."""
        return self.root / digest

    def has(self, digest: str) -> bool:
        """Tell whether a bad original is kept."""
        return os.path.lexists(self.path(digest))

    def take(self, source: Path, digest: str) -> bool:
        """Move what lies at a blob's name here, durably, in the place of an earlier one; False if nothing lies there.

        Hold the blob's guard. Raises StorageFault.
        """
        return self._move(source, self.path(digest))

    def take_other(self, source: Path) -> Path | None:
        """Move what is no original here and return its new place; None if it is gone. Raises StorageFault."""
        folder = self.root / _OTHER
        durable.make_directory(folder)
        name = _UNSAFE.sub("_", str(source.relative_to(self._data.root)))[-200:]
        target, number = folder / name, 1
        while os.path.lexists(target):
            number += 1
            target = folder / f"{name}.{number}"
        return target if self._move(source, target) else None

    def give_back(self, digest: str, size: int, target: Path) -> bool:
        """Move what is kept back to a blob's name if it is whole, durably; False if it is not. Raises StorageFault.

        A disk that could not read a file yesterday may read it today. Hold the blob's guard.
        """
        if read_again(self.path(digest), digest, size).damage is not None:
            return False
        try:
            durable.make_directory(target.parent.parent)
            durable.make_directory(target.parent)
            moved = self._move(self.path(digest), target)
            for directory in (target.parent.parent, target.parent.parent.parent):
                durable.fsync_directory(directory)
        except OSError as error:
            raise durable.fault(error, "putting back an original") from error
        return moved

    def discard(self, digest: str) -> bool:
        """Remove a bad original; return whether there was one. Raises StorageFault."""
        if not self.has(digest):
            return False
        try:
            _remove(self.path(digest))
        except OSError as error:
            raise durable.fault(error, "removing a bad original") from error
        return True

    def kept(self) -> Iterator[Kept]:
        """Yield the bad originals that are kept, in the order of their digests."""
        try:
            names = sorted(name for name in os.listdir(self.root) if DIGEST.fullmatch(name))
        except FileNotFoundError:
            return
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(self.root / name)
                yield Kept(name, found.st_size, found.st_ctime)

    def _move(self, source: Path, target: Path) -> bool:
        self._data.check_there()
        try:
            if not os.path.lexists(source):
                return False
            if os.path.lexists(target):
                _remove(target)
            os.rename(source, target)
            durable.point("quarantine.moved")
            for folder in {target.parent, source.parent}:
                durable.fsync_directory(folder)
            durable.point("quarantine.durable")
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise durable.fault(error, f"moving {source.name} into quarantine") from error
        return True


def _remove(target: Path) -> None:
    if stat.S_ISDIR(os.lstat(target).st_mode):
        shutil.rmtree(target)
    else:
        os.unlink(target)
