"""A thread of its own for long reading of the disk, so that no upload waits behind it, and with an end on demand.

Knows nothing of what is read.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from imgpro.store.quiet_threads import quieten

T = TypeVar("T")


class SideThread:
    """One thread for the length of an `async with`. Work looks at `stop` between its steps and ends once it is set."""

    def __init__(self, name: str) -> None:
        self.stop = threading.Event()
        self.interrupt: Callable[[], None] = lambda: None  # called from the loop when the work is to end
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=quieten)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        await asyncio.to_thread(self._pool.shutdown)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` and return its result. Whoever is cancelled here waits until it has ended."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self.stop.set()
            self.interrupt()
            while not future.done():  # also for one who is impatient
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            with contextlib.suppress(Exception):
                future.result()
            raise

    async def walk(self, source: Iterator[T]) -> AsyncGenerator[T, None]:
        """Yield what `source` yields, each made in the thread; it is closed there in the end."""
        try:
            while True:
                taken = await self.run(partial(_next, source))
                if not taken:
                    return
                yield taken[0]
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                await self.run(close)


def _next(source: Iterator[T]) -> tuple[T] | None:
    for item in source:
        return (item,)
    return None
