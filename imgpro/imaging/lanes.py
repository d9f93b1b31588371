"""Who gets the next free worker: light jobs first, heavy ones never all of the workers and never never.

Pure bookkeeping on the event loop; knows nothing of processes or pictures.
"""

import asyncio
from collections import deque
from enum import Enum
from typing import Final, Generic, TypeVar

from imgpro.errors import Busy

W = TypeVar("W")
# So many light jobs may overtake a waiting heavy one that could run.
OVERTAKING: Final = 4


class Lane(Enum):
    """How long a job may hold its worker: tens of milliseconds, or up to seconds."""

    LIGHT = "light"
    HEAVY = "heavy"


class Lanes(Generic[W]):
    """Hands out workers of type `W`. Every worker taken must be given back or written off."""

    def __init__(self, heavy_limit: int, max_queued: int, patience_s: float) -> None:
        self._heavy_limit = heavy_limit
        self._max_queued = max_queued
        self._patience_s = patience_s
        self._free: deque[W] = deque()
        self._waiting: dict[Lane, deque[asyncio.Future[W]]] = {lane: deque() for lane in Lane}
        self._running: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._overtaken = 0

    @property
    def queued(self) -> int:
        """How many jobs wait for a worker."""
        return sum(len(waiting) for waiting in self._waiting.values())

    @property
    def busy(self) -> int:
        """How many jobs have one."""
        return sum(self._running.values())

    async def take(self, lane: Lane) -> W:
        """Return a free worker, in turn. Raises Busy when the queue is full or too slow."""
        if self._free and not self._waiting[lane] and self._may_run(lane):
            self._running[lane] += 1
            return self._free.pop()  # the last one used still has its memory
        if self.queued >= self._max_queued:
            raise Busy
        turn: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        self._waiting[lane].append(turn)
        try:
            async with asyncio.timeout(self._patience_s):
                return await turn
        except BaseException as error:
            self._give_up(turn, lane)
            if isinstance(error, TimeoutError):
                raise Busy from None
            raise

    def give_back(self, worker: W, lane: Lane) -> None:
        """Return a worker after its job."""
        self._running[lane] -= 1
        self.add(worker)

    def write_off(self, lane: Lane) -> None:
        """Say that a taken worker is no more."""
        self._running[lane] -= 1
        self._dispatch()

    def add(self, worker: W) -> None:
        """Put a worker that is ready at the disposal of whoever is next."""
        self._free.append(worker)
        self._dispatch()

    def drop(self, worker: W) -> bool:
        """Forget a free worker that died; False where it is not among the free ones."""
        if worker not in self._free:
            return False
        self._free.remove(worker)
        return True

    def close(self) -> list[W]:
        """Refuse everyone who waits and return the free workers."""
        for waiting in self._waiting.values():
            for turn in waiting:
                if not turn.done():
                    turn.set_exception(Busy())
            waiting.clear()
        free = list(self._free)
        self._free.clear()
        return free

    def _give_up(self, turn: "asyncio.Future[W]", lane: Lane) -> None:
        """Leave the queue; a worker that was assigned in the same moment goes back."""
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self.give_back(turn.result(), lane)
        elif turn in self._waiting[lane]:
            self._waiting[lane].remove(turn)

    def _may_run(self, lane: Lane) -> bool:
        return lane is Lane.LIGHT or self._running[Lane.HEAVY] < self._heavy_limit

    def _dispatch(self) -> None:
        while self._free:
            lane = self._next_lane()
            if lane is None:
                return
            turn = self._waiting[lane].popleft()
            if turn.done():
                continue
            if lane is Lane.LIGHT and self._waiting[Lane.HEAVY]:
                self._overtaken += 1
            elif lane is Lane.HEAVY:
                self._overtaken = 0
            self._running[lane] += 1
            turn.set_result(self._free.pop())

    def _next_lane(self) -> Lane | None:
        heavy = bool(self._waiting[Lane.HEAVY]) and self._may_run(Lane.HEAVY)
        if self._waiting[Lane.LIGHT] and not (heavy and self._overtaken >= OVERTAKING):
            return Lane.LIGHT
        return Lane.HEAVY if heavy else None
