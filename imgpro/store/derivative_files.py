"""The files of the derivative cache: their names, how they are put in place, and what a start finds.

Everything here blocks and belongs into a thread. Knows nothing of bounds or of who asks.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from imgpro import recipes
from imgpro.ids import DIGEST
from imgpro.store import durable

KEYS: Final = frozenset(recipe.key for recipe in recipes.ALL.values())


class Name(msgspec.Struct, frozen=True):
    """A picture and a recipe key. `packed` is a third of the memory of the two strings in a tuple."""

    digest: str
    key: str

    @property
    def packed(self) -> bytes:
        """Digest and key in one bytes object."""
        return bytes.fromhex(self.digest) + self.key.encode("ascii")


def unpack(packed: bytes) -> Name:
    """Return the name that was packed."""
    return Name(packed[:32].hex(), packed[32:].decode("ascii"))


def checked(digest: str, key: str) -> Name:
    """Return the name, or raise ValueError for what could not be one: it becomes a path."""
    if key not in KEYS or DIGEST.fullmatch(digest) is None:
        raise ValueError(f"not a derivative's name: {digest!r} {key!r}")
    return Name(digest, key)


def copy(source: Path, target: int) -> None:
    """Append a whole file to the descriptor `target`; raises OSError."""
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        offset, size = 0, os.fstat(fd).st_size
        while offset < size and (sent := os.sendfile(target, fd, offset, size - offset)):
            offset += sent
    finally:
        os.close(fd)


def unlink_if_there(path: str | Path) -> None:
    """Remove a name that may be gone already; raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def place(staged: Path, target: str) -> None:
    """Rename a complete file to its place, making its directory; raises OSError."""
    picture = os.path.dirname(target)
    for attempt in (1, 2):
        # Not the cache itself: where that is missing, the disk is.
        for directory in (os.path.dirname(picture), picture):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, durable.DIRECTORY_MODE)
        try:
            os.rename(staged, target)
        except FileNotFoundError:
            # An eviction in the other thread may have removed the directory just now, being empty.
            if attempt == 2:
                raise
        else:
            return


def subdirectories(path: str | Path) -> list[os.DirEntry[str]]:
    """List the directories in `path`; none where it cannot be read."""
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def read_picture(picture: os.DirEntry[str]) -> list[tuple[float, bytes, int]]:
    """List one picture's derivatives; what an older pipeline or nobody of ours made is removed."""
    found: list[tuple[float, bytes, int]] = []
    with contextlib.suppress(OSError), os.scandir(picture.path) as entries:
        for entry in entries:
            if entry.name in KEYS:
                facts = entry.stat(follow_symlinks=False)
                found.append((facts.st_mtime, Name(picture.name, entry.name).packed, facts.st_size))
            elif entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)
    if not found:
        with contextlib.suppress(OSError):
            os.rmdir(picture.path)
    return found
