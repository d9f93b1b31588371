"""Temporary files beside the data, on the same file system: born in `tmp/`, then moved into place or removed.

Every disk operation here runs in a thread of the store, never on the event loop, and every file is removed
unless something adopts it. Knows nothing of digests or limits.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from imgpro.errors import StorageFault
from imgpro.ids import random_base62
from imgpro.store import durable

T = TypeVar("T")


class Run(Protocol):
    """Runs a function in a thread of the store; once begun, it ends even if the caller is cancelled."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, raise what it raises."""


class TempFile:
    """One file in `tmp/`. Its methods block and belong into a thread, except `adopted` and `fd`.

    The lock orders a write that is under way against the removal that a cancelled request asks for: closing a
    descriptor that another thread writes to would let that write land in whatever file gets the number next.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / random_base62(16)
        self.fd = -1
        self.gone = False
        self.adopted = False
        self._lock = threading.Lock()

    def open(self) -> int:
        """Create the file if that has not happened yet and return its descriptor; raises OSError."""
        if self.fd < 0 and not self.gone:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self.fd = os.open(self.path, flags, 0o600)
            durable.point("stage.opened")
        return self.fd

    def use(self, work: Callable[[int], T]) -> T:
        """Call `work` with the open descriptor, which stays open until it returns; raises OSError."""
        with self._lock:
            if self.gone:
                raise FileNotFoundError(f"{self.path} was discarded")
            return work(self.open())

    def discard(self) -> None:
        """Close the descriptor, and remove the name unless the file was adopted; idempotent, raises nothing."""
        with self._lock:
            if self.gone:
                return
            self.gone = True
            if self.fd < 0:
                return
            os.close(self.fd)
            if not self.adopted:
                _unlink_quietly(self.path)


class MemoryFile(TempFile):
    """The same in memory, for when the disk is full; it cannot be adopted."""

    def open(self) -> int:
        """Create the file if that has not happened yet and return its descriptor; raises OSError."""
        if self.fd < 0 and not self.gone:
            self.fd = os.memfd_create("imgpro", os.MFD_CLOEXEC)
        return self.fd

    def discard(self) -> None:
        """Close the descriptor; idempotent, raises nothing."""
        self.adopted = True  # there is no name to remove
        super().discard()


def _unlink_quietly(path: Path) -> None:
    # A file that cannot be removed now is removed at the next start; no request should fail for it.
    try:
        os.unlink(path)
    except OSError:
        return


class Scratch:
    """An empty file for a worker's output, for the length of an `async with`; removed at its end unless adopted."""

    def __init__(self, directory: Path, run: Run, *, in_memory: bool = False) -> None:
        self.temp = MemoryFile(directory) if in_memory else TempFile(directory)
        self._run = run

    @property
    def fd(self) -> int:
        """The descriptor, open for reading and writing inside the `async with`."""
        return self.temp.fd

    @property
    def path(self) -> Path:
        """Where the file lies until it is adopted."""
        return self.temp.path

    async def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`; raises StorageFault if they are not all there."""
        try:
            body = await self._run(lambda: self.temp.use(lambda fd: os.pread(fd, length, offset)))
        except OSError as error:
            raise durable.fault(error, "reading a temporary file") from error
        if len(body) != length:
            raise StorageFault("A temporary file is shorter than its writer said.")
        return body

    async def __aenter__(self) -> Self:
        try:
            await self._run(lambda: self.temp.use(lambda fd: fd))
        except OSError as error:
            raise durable.write_fault(error, "making a temporary file") from error
        except BaseException:
            await self._run(self.temp.discard)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._run(self.temp.discard)
