"""One piece of work per key, however many ask for it at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """Coalesces concurrent calls: the first one starts the work, the others wait for the same result.

    The work runs in a task of its own: a caller that goes away takes nothing from the others.
    """

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work()`, run once for all who ask for `key` meanwhile."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.create_task(self._fly(key, work))
            self._tasks[key] = task
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait until everything under way has ended, well or badly."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def _fly(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        finally:
            del self._tasks[key]
