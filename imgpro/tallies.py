"""Counting cheaply enough for every request: a histogram is a list of numbers. Knows nothing of who reads them."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import msgspec

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of how long things take here, from a picture in memory to a transform that is given up."""


class Counted(msgspec.Struct, frozen=True):
    """What a histogram has seen: for each bound how many fell at or under it and over the one before; then the rest."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class Histogram:
    """Counts values by fixed upper bounds. One thread at a time may note; any may read."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def note(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def counted(self) -> Counted:
        """Return what was seen so far."""
        return Counted(self.bounds, tuple(self.counts), self.sum)
