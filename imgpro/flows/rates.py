"""Request rates per network in memory (GCRA). For limits that must survive a restart see quota."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

MAX_NETWORKS: Final = 50_000


class Rate:
    """At most `count` events in `period_s` (None: any number), all at once if need be, then evenly spaced.

    The table is bounded: the network that was silent longest is forgotten first.
    """

    def __init__(self, count: int | None, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s = period_s
        self._clock = clock
        self._due: OrderedDict[str, float] = OrderedDict()
        self.allow(count)

    def allow(self, count: int | None) -> None:
        """Take another count; what was counted stays."""
        self._count = count
        self._spacing_s = self._period_s / count if count else 0.0

    def take(self, network: str) -> float:
        """Count one event. Return 0.0, or the seconds until one would be allowed (then it is not counted)."""
        if self._count is None:
            return 0.0
        if self._count <= 0:
            return self._period_s
        now = self._clock()
        due = max(self._due.get(network, now), now)
        wait_s = due - now - (self._period_s - self._spacing_s)
        if wait_s > 1e-9:
            return wait_s
        self._due[network] = due + self._spacing_s
        self._due.move_to_end(network)
        while len(self._due) > MAX_NETWORKS:
            self._due.popitem(last=False)
        return 0.0


class Window:
    """At most `count` events in any `period_s` (None: any number): strict, for small counts.

    The table is bounded like that of `Rate`.
    """

    def __init__(self, count: int | None, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s = period_s
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self.allow(count)

    def allow(self, count: int | None) -> None:
        """Take another count; what was counted stays, as far as that many."""
        self._count = count
        for subject, times in self._times.items():
            self._times[subject] = deque(times, maxlen=count or 0)

    def wait_s(self, subject: str) -> float:
        """Return 0.0 if one more event is allowed now, else the seconds until it will be. Counts nothing."""
        if self._count is None:
            return 0.0
        if self._count <= 0:
            return self._period_s
        times = self._times.get(subject)
        if times is None or len(times) < self._count:
            return 0.0
        return max(0.0, times[0] + self._period_s - self._clock())

    def count(self, subject: str) -> None:
        """Count one event."""
        if not self._count or self._count <= 0:
            return
        times = self._times.setdefault(subject, deque(maxlen=self._count))
        times.append(self._clock())
        self._times.move_to_end(subject)
        while len(self._times) > MAX_NETWORKS:
            self._times.popitem(last=False)
