"""Threads for long work on many files that must not be felt by visitors: few, bounded, and last in line at the disk."""

import contextlib
import ctypes
import platform
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from imgpro.errors import OperatorError

T = TypeVar("T")
R = TypeVar("R")

_AHEAD: Final = 4  # pieces of work per thread that wait or whose results wait
# ioprio_set(2) has no wrapper in the C library.
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}
_WHO_PROCESS: Final = 1
_BEST_EFFORT_LAST: Final = (2 << 13) | 7


class Stop:
    """Says that long work shall end, once `event` is set; asked between the steps."""

    def __init__(self, event: threading.Event | None = None) -> None:
        self._event = event or threading.Event()

    def check(self) -> None:
        """Raise OperatorError if it shall end."""
        if self._event.is_set():
            raise OperatorError("It was broken off.")


def quieten() -> None:
    """Put the calling thread behind all others at the disk, as far as this system can.

    Not at the processor: it would be kept from going on while it holds the interpreter's lock, and all wait for it.
    """
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).syscall(number, _WHO_PROCESS, 0, _BEST_EFFORT_LAST)


def each(items: Iterable[T], work: Callable[[T], R], threads: int, stop: Stop) -> Iterator[R]:
    """Do `work` on every item and yield the results in order; memory does not grow with their number.

    What `work` raises is raised here once the others under way have ended.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="quiet", initializer=quieten) as pool:
        try:
            for item in items:
                stop.check()
                waiting.append(pool.submit(work, item))
                if len(waiting) >= threads * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                stop.check()
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
