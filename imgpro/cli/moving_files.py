"""Pictures on this machine's disks that are to be brought: opened once, looked at, read piece by piece.

A file is hostile until the server has proved it: links are not followed, and what is no regular file is not waited for.
"""

import errno
import os
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from blake3 import blake3

from imgpro.errors import ImgproError, SourceUnusable
from imgpro.imaging.sniff import sniff
from imgpro.model import StoredFormat

CHUNK_BYTES: Final = 262_144
HEAD_BYTES: Final = 65_536


class PictureFile:
    """An open file of `size` bytes, for the length of a `with`. Raises SourceUnusable, with the reason to tell.

    `path` is absolute and without links: none is followed that somebody put there since it was looked at.
    """

    def __init__(self, path: str) -> None:
        try:
            self._fd = _opened(path)
        except OSError as error:
            linked = error.errno in (errno.ELOOP, errno.ENOTDIR)
            reason = "It is a symbolic link." if linked else f"It cannot be read: {error.strerror}."
            raise SourceUnusable(reason) from None
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._fd)
            raise SourceUnusable("It is not a file.")
        self.size = found.st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def read(self, at: int, count: int) -> bytes:
        """Return at most `count` bytes from an offset. Raises SourceUnusable."""
        try:
            return os.pread(self._fd, count, at)
        except OSError as error:
            raise SourceUnusable(f"It cannot be read: {error.strerror}.") from None

    def format(self) -> StoredFormat:
        """Return what kind of picture it is by its first bytes. Raises SourceUnusable for what is none."""
        try:
            return sniff(memoryview(self.read(0, HEAD_BYTES)))
        except ImgproError as problem:
            raise SourceUnusable(problem.message) from None

    def chunks(self) -> Iterator[bytes]:
        """Yield exactly `size` bytes. Raises SourceUnusable where there are no longer that many."""
        at = 0
        while at < self.size:
            chunk = self.read(at, min(CHUNK_BYTES, self.size - at))
            if not chunk:
                raise SourceUnusable("It became shorter while it was read.")
            at += len(chunk)
            yield chunk

    def digest(self) -> str:
        """Return the BLAKE3 of the bytes, in hex."""
        hasher = blake3()
        for chunk in self.chunks():
            hasher.update(chunk)
        return hasher.hexdigest()


def _opened(path: str) -> int:
    """Open a file folder by folder. Raises OSError, also where one of them is a link."""
    *folders, name = path.lstrip("/").split("/")
    at = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    finally:
        os.close(at)
