"""Collects, during a walk, which pieces of a file stay, which are written anew and what kinds of data go.

Knows no container format.
"""

from typing import Final

from imgpro.imaging.examined import Examined
from imgpro.model import Probe

# The closed set of what uploaders are told; the order is the one they are told in.
KINDS: Final = (
    "gps",
    "exif",
    "xmp",
    "iptc",
    "comment",
    "thumbnail",
    "text",
    "time",
    "maker_data",
    "extra_images",
    "application_data",
    "unknown_chunks",
    "scripts",
    "trailing_data",
)


class Cleaning:
    """The cleaned file in the making. Spans are half-open byte offsets into `data`."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._pieces: list[tuple[int, int] | bytes] = []
        self._removed: set[str] = set()

    def keep(self, start: int, end: int, place: int | None = None) -> None:
        """Let the bytes from `start` to `end` stay as they are, at the end or at a `place` taken earlier."""
        self._pieces.insert(len(self._pieces) if place is None else place, (start, end))

    def put(self, piece: bytes, place: int | None = None) -> None:
        """Add bytes that the file does not hold in this form, at the end or at a `place` taken earlier."""
        self._pieces.insert(len(self._pieces) if place is None else place, piece)

    def place(self) -> int:
        """Return the place behind all that is there by now."""
        return len(self._pieces)

    def length(self) -> int:
        """Bytes of the cleaned file by now."""
        return sum(piece[1] - piece[0] if isinstance(piece, tuple) else len(piece) for piece in self._pieces)

    def withdraw(self, span: tuple[int, int]) -> None:
        """Take back a span that was kept, once more of the file showed that it is worth nothing."""
        self._pieces.remove(span)

    def drop(self, *kinds: str) -> None:
        """Note the kinds of what was left out. Each must be one of KINDS."""
        self._removed.update(kinds)

    def finish(self, probe: Probe) -> Examined:
        """Join neighbours and say whether anything changed at all."""
        merged: list[tuple[int, int] | bytes] = []
        for piece in self._pieces:
            last = merged[-1] if merged else None
            if isinstance(piece, tuple) and isinstance(last, tuple) and last[1] == piece[0]:
                merged[-1] = (last[0], piece[1])
            else:
                merged.append(piece)
        removed = tuple(kind for kind in KINDS if kind in self._removed)
        if merged == [(0, len(self._data))]:
            return Examined(probe=probe, removed=removed)
        parts = tuple(self._data[piece[0] : piece[1]] if isinstance(piece, tuple) else piece for piece in merged)
        return Examined(probe=probe, removed=removed, parts=parts)
