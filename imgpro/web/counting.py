"""How many requests were answered, how, and how fast: cheaply, with labels that nobody outside can add to.

Knows nothing of who reads the numbers.
"""

from typing import Final

from imgpro.tallies import Histogram

METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
OTHER: Final = "other"


class RequestCounts:
    """Counts by method, route template and status. Routes are those of the table, or `-`."""

    __slots__ = ("cells", "from_memory")

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str, int], Histogram] = {}
        self.from_memory = 0  # pictures that left without being looked up anywhere else

    def note(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count one answer."""
        cell = self.cells.get((method, route, status))
        if cell is None:
            key = (method if method in METHODS else OTHER, route, status)
            cell = self.cells.get(key)
            if cell is None:
                cell = self.cells[key] = Histogram()
        cell.note(took_s)
