"""Which processors a process of ours uses: all that we may, or for work that nobody waits for the last half of them.

Others are free then for those who are served. Without it Linux (EEVDF, since 6.6) gives even an idle process a whole
tick now and then, 4 ms, while somebody else could run. The last half: where some are slower, it is those.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

NICE: Final = 10


def half(allowed: set[int]) -> set[int]:
    """Return the last half of some processors, at least one of them."""
    ordered = sorted(allowed)
    return set(ordered[len(ordered) // 2 :])


def keep_to(processors: set[int], pid: int = 0) -> None:
    """Keep a process, or this thread and all that it starts, to some processors, where that is allowed."""
    with suppress(OSError):
        os.sched_setaffinity(pid, processors)


def give_way() -> None:
    """Let those who are served go first, for a command that somebody waits for; call it before there are threads.

    Not `SCHED_IDLE`, which gets next to nothing where all processors are always busy.
    """
    keep_to(half(os.sched_getaffinity(0)))
    with suppress(OSError):
        os.nice(NICE)


@contextmanager
def at_half() -> Iterator[None]:
    """Keep this thread to half of our processors for the length of a `with`."""
    allowed = os.sched_getaffinity(0)
    keep_to(half(allowed))
    try:
        yield
    finally:
        keep_to(allowed)
