"""Whether the files of the data directory agree with the database: originals, derivatives, and what else lies there.

Directories are walked in the order of digests beside pages of the database in the same order, so that memory holds
one of 256 directories and one page. Everything here blocks and belongs into a thread.
"""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Final

import msgspec

from imgpro.ids import DIGEST
from imgpro.store import durable
from imgpro.store.derivative_files import KEYS
from imgpro.store.doubts import Doubt, Looked, Mend, place_of
from imgpro.store.rereading import BLOB_MODE, set_mode

PAGE: Final = 2_000
LITTER_S: Final = 86_400.0  # what lies in `tmp/` longer than any upload takes
_TICK: Final = 512
_HEAD_BYTES: Final = 12
_SELF_TEST: Final = ".selftest-"
_CACHE_TAG: Final = "CACHEDIR.TAG"
_AS_IT_SHOULD_BE: Final = stat.S_IFREG | BLOB_MODE
_name: Final = attrgetter("name")
_HEX: Final = frozenset("0123456789abcdef")


class Seen(msgspec.Struct, frozen=True):
    """One entry of a directory of ours."""

    name: str
    path: str
    size: int
    mode: int
    mtime_s: float

    @property
    def regular(self) -> bool:
        """Tell whether it is a file."""
        return stat.S_ISREG(self.mode)

    @property
    def folder(self) -> bool:
        """Tell whether it is a directory."""
        return stat.S_ISDIR(self.mode)


Rows = Iterator[tuple[str, int]]
"""Digests that the database knows, in order, with the bytes of each."""


def originals(root: Path, rows: Rows, *, grace_s: float, modes: bool) -> Looked:
    """Compare `blobs/` with the digests that the database knows. `modes`: this file system keeps them."""
    limit_s = time.time() - grace_s
    row, looked = next(rows, None), 0
    for seen in _fan_out(root):
        if isinstance(seen, Doubt):
            yield seen
            continue
        while row is not None and row[0] < seen.name:
            yield Doubt("missing", place_of(row[0]), "is not there", "blob", (row[0],))
            row, looked = next(rows, None), looked + 1
        if row is not None and row[0] == seen.name:
            if seen.mode != _AS_IT_SHOULD_BE or seen.size != row[1]:
                yield from _original(seen, row[1], modes=modes)
            row = next(rows, None)
        elif not seen.regular:
            yield _stray(seen, root.parent)
        elif seen.mtime_s < limit_s:
            yield Doubt("orphan", place_of(seen.name), f"{seen.size:,} bytes of no picture", "orphan", (seen.name,))
        looked += 1
        if looked >= _TICK:
            yield looked
            looked = 0
    while row is not None:
        yield Doubt("missing", place_of(row[0]), "is not there", "blob", (row[0],))
        row = next(rows, None)
    yield looked


def _original(seen: Seen, size: int, *, modes: bool) -> Iterator[Doubt]:
    where = place_of(seen.name)
    if not seen.regular:
        yield Doubt("damaged", where, "is no file", "blob", (seen.name,))
    elif seen.size != size:
        yield Doubt("damaged", where, f"has {seen.size:,} bytes, not {size:,}", "blob", (seen.name,))
    elif modes and stat.S_IMODE(seen.mode) != BLOB_MODE:
        words = f"has mode {stat.S_IMODE(seen.mode):04o}, not {BLOB_MODE:04o}"
        yield Doubt("mode", where, words, "mode", (seen.path,))


def _fan_out(root: Path) -> Iterator[Seen | Doubt]:
    """Yield all blobs in the order of their digests, and before those of a directory what is none."""
    for first in _entries(root):
        if not (first.folder and _is_hex(first.name, 2)):
            yield _stray(first, root.parent)
            continue
        for second in _entries(first.path):
            if not (second.folder and _is_hex(second.name, 2)):
                yield _stray(second, root.parent)
                continue
            prefix = first.name + second.name
            for seen in _entries(second.path):
                if seen.name.startswith(prefix) and DIGEST.fullmatch(seen.name):
                    yield seen
                else:
                    yield _stray(seen, root.parent)


def derivatives(root: Path, rows: Rows) -> Looked:
    """Compare `cache/` with the digests that the database knows, and look whether each file begins like a picture."""
    row, looked = next(rows, None), 0
    for first in _entries(root):
        if not (first.folder and _is_hex(first.name, 2)):
            if first.name != _CACHE_TAG:
                yield _stray(first, root.parent)
            continue
        for picture in _entries(first.path):
            if not (picture.folder and DIGEST.fullmatch(picture.name) and picture.name.startswith(first.name)):
                yield _stray(picture, root.parent)
                continue
            while row is not None and row[0] < picture.name:
                row = next(rows, None)
            where = f"cache/{first.name}/{picture.name}"
            if row is None or row[0] != picture.name:
                if _entries(picture.path):  # an empty folder is one that a deletion overtook
                    yield Doubt("derivative", where, "is of no picture", "derivative", (picture.name, False))
                continue
            yield from _made(picture, where, root.parent)
            looked += 1
            if looked >= _TICK:
                yield looked
                looked = 0
    yield looked


def _made(picture: Seen, where: str, top: Path) -> Iterator[Doubt]:
    for seen in _entries(picture.path):
        if seen.name not in KEYS or not seen.regular:
            yield _stray(seen, top)
            continue
        words = _unlike(seen)
        if words:
            yield Doubt("derivative", f"{where}/{seen.name}", words, "derivative", (picture.name, True))


def _unlike(seen: Seen) -> str:
    """Return what is wrong with a derivative by its first bytes; nothing if it looks well, or has gone meanwhile."""
    try:
        with open(seen.path, "rb", buffering=0) as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if _begins_like(head, seen.name.rpartition(".")[2]) else "does not begin like a picture of its format"


def _begins_like(head: bytes, kind: str) -> bool:
    if kind == "webp":
        return head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    if kind == "avif":
        return head[4:8] == b"ftyp"
    return head.startswith({"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF8"}[kind])


def litter(tmp: Path, backups: Path) -> Looked:
    """Find what work that was broken off has left behind."""
    limit_s = time.time() - LITTER_S
    for seen in _entries(tmp):
        if seen.mtime_s < limit_s:
            yield Doubt("litter", f"tmp/{seen.name}", "was left by work that was broken off", "litter", (seen.path,))
    for seen in _entries(backups):
        if seen.regular and seen.name.startswith("pre-migrate-") and seen.name.endswith(".partial"):
            where = f"backups/{seen.name}"
            yield Doubt("litter", where, "is half a copy of the database", "litter", (seen.path,))
    yield 1


def keeps_modes(tmp: Path, name: str) -> bool:
    """Tell whether this file system keeps the mode that a file is given: those of other systems show one for all."""
    path = tmp / name
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            os.chmod(path, BLOB_MODE)
            return stat.S_IMODE(os.lstat(path).st_mode) == BLOB_MODE
        finally:
            os.unlink(path)
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """Tell whether anything has this name."""
    return os.path.lexists(path)


def looks_whole(path: Path, size: int) -> bool:
    """Tell whether there is a file of this many bytes."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def tidy(path: Path, mend: Mend) -> str:
    """Give a blob its mode, or remove what is left over; return what was done. Raises StorageFault."""
    try:
        if mend == "mode":
            set_mode(path)
            return "it has it again"
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise durable.fault(error, f"tidying {path.name}") from error
    return "it was removed"


def _stray(seen: Seen, top: Path) -> Doubt:
    where = str(Path(seen.path).relative_to(top))
    if seen.name.startswith(_SELF_TEST):
        return Doubt("litter", where, "was left by a start that was broken off", "litter", (seen.path,))
    return Doubt("stray", where, "is none of imgpro's files", "stray", (seen.path,))


def _is_hex(name: str, length: int) -> bool:
    return len(name) == length and _HEX.issuperset(name)


def _entries(folder: str | Path) -> list[Seen]:
    """Return what lies in a directory, by name; nothing where it is gone. Raises OSError where it cannot be read."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found.append(Seen(entry.name, entry.path, facts.st_size, facts.st_mode, facts.st_mtime))
    except FileNotFoundError:
        return []
    found.sort(key=_name)
    return found
