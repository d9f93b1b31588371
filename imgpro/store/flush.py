"""Two small tools of the blob store: locks by key that vanish when unused, and directory flushes that are shared.

Know nothing of blobs.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from imgpro.store import durable

T = TypeVar("T")

log = logging.getLogger(__name__)


class Begin(Protocol):
    """Starts a function in a thread of the store."""

    def __call__(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Return the future of what `work` returns."""


class _Lock(asyncio.Lock):
    users = 0  # holders and waiters


class KeyedLocks:
    """Mutual exclusion per key. A lock lives only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, _Lock] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @contextlib.asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Wait for the key and hold it."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = _Lock()
        lock.users += 1
        try:
            async with lock:
                yield
        finally:
            lock.users -= 1
            if not lock.users:
                del self._locks[key]


class DirectoryFlusher:
    """Flushes directories, those of all callers that wait at the same time in one go.

    On a journaling file system the first fsync of a round commits the others' names too, so a hundred uploads
    at once pay for few commits, not for a hundred.
    """

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._waiting: list[tuple[tuple[Path, ...], asyncio.Future[None]]] = []
        self._round: asyncio.Task[None] | None = None
        self.rounds = 0

    async def flush(self, directories: Iterable[Path]) -> None:
        """Return once all `directories` are on disk; raises OSError if one of them could not be flushed."""
        await asyncio.shield(self._join(tuple(directories)))

    def flush_later(self, directory: Path) -> None:
        """Flush with the next round, waiting for nothing and failing nobody."""
        self._join((directory,)).add_done_callback(_report)

    async def settled(self) -> None:
        """Wait until nothing is left to flush."""
        while self._round is not None:
            await asyncio.wait([self._round])

    def _join(self, directories: tuple[Path, ...]) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((directories, future))
        if self._round is None:
            self._round = asyncio.create_task(self._serve())
        return future

    async def _serve(self) -> None:
        try:
            while self._waiting:
                callers, self._waiting = self._waiting, []
                try:
                    failed = await self._begin(partial(_flush_all, {d for wanted, _ in callers for d in wanted}))
                except BaseException as error:
                    for _, future in callers:
                        _settle(future, error)
                    raise
                self.rounds += 1
                for wanted, future in callers:
                    _settle(future, next((failed[d] for d in wanted if d in failed), None))
        finally:
            self._round = None


def _flush_all(directories: set[Path]) -> dict[Path, OSError]:
    failed: dict[Path, OSError] = {}
    for directory in sorted(directories):
        try:
            durable.fsync_directory(directory)
        except OSError as error:
            failed[directory] = error
    return failed


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _report(future: asyncio.Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.warning("a directory could not be flushed after a removal: %s", error)
