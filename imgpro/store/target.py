"""Where backups go: what every such place can do, whatever it is.

Names are relative, with `/` between their parts. Knows nothing of what the files mean. Everything here blocks and may
be called from several threads at once.
"""

import contextlib
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Final, Literal, Protocol

import msgspec

from imgpro.errors import Action, TargetFault

CHUNK_BYTES: Final = 1024 * 1024
MARKS: Final = "locks/"  # beginning of the names by which a place without locks says who is at work

Lock = Literal["changing", "reading"]


class Item(msgspec.Struct, frozen=True):
    """One file at a target: its name, its bytes, and the Unix seconds of its writing."""

    name: str
    size: int
    mtime_s: float


class Absent(Exception):
    """There is nothing of that name at the target."""


class Target(Protocol):
    """A place for backups. What fails there, or cannot be reached, raises TargetFault, which names the place."""

    parallel: int
    """How many reads or writes at once are worth it."""

    def describe(self) -> str:
        """Return the place as its user wrote it, without secrets."""
        ...

    def put(self, name: str, chunks: Iterable[bytes], size: int) -> None:
        """Write a file of `size` bytes, whole or not at all; replaces. Seen and durable once `flush` has returned.

        What `chunks` raises, maybe after its last piece, is raised here, and then nothing is left of it.
        """
        ...

    def flush(self) -> None:
        """Make everything that was put, and every deletion, durable and seen."""
        ...

    def read(self, name: str) -> Generator[bytes, None, None]:
        """Yield the bytes of a file in pieces of at most `CHUNK_BYTES`; close it when done. Raises Absent."""
        ...

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None if there is none."""
        ...

    def list(self, prefix: str) -> Iterator[Item]:
        """Yield files by the start of their names (a folder with its `/`, or empty), sorted by name.

        Memory does not grow with their number.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a file; it may be gone already."""
        ...

    def lock(self, what: Lock, *, shared: bool = False) -> AbstractContextManager[None]:
        """Keep others from what excludes it, for the length of a `with`. Raises TargetFault if somebody holds it."""
        ...

    def free_bytes(self) -> int | None:
        """Return how much room is left; None where nobody can tell."""
        ...

    def tidy(self) -> None:
        """Remove what a killed process was writing. Hold the lock `changing`."""
        ...

    def abort(self) -> None:
        """Have each call, also those under way, raise OperatorError soon, where waiting can be broken off at all."""
        ...

    def close(self) -> None:
        """Let go of what is held; idempotent."""
        ...


def in_use(place: str) -> TargetFault:
    """Return the error for a place on which other work is going on."""
    return TargetFault(
        f"Another backup, or the pruning of old ones, is under way at {place}.",
        Action("fix", label="Wait until it has ended"),
    )


class _ProcessLocks:
    """Locks between the threads of this process, for places that have none of their own."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: dict[tuple[str, str], int] = {}  # -1: exclusive, else how many share it

    @contextlib.contextmanager
    def hold(self, place: str, what: Lock, *, shared: bool) -> Iterator[None]:
        """Hold a lock, or raise TargetFault."""
        key = (place, what)
        with self._guard:
            count = self._held.get(key, 0)
            if count < 0 or (count and not shared):
                raise in_use(place)
            self._held[key] = count + 1 if shared else -1
        try:
            yield
        finally:
            with self._guard:
                self._held[key] = self._held[key] - 1 if shared else 0
                if not self._held[key]:
                    del self._held[key]


process_locks: Final = _ProcessLocks()
