"""What readers of dumps hand on: the rows of one table, one after the other. Knows no host."""

from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
BOM: Final = b"\xef\xbb\xbf"
MAX_VALUE_CHARS: Final = 64 * 1024  # longer texts are cut: nothing that comes over is longer
MAX_VALUE_BYTES: Final = 8 * MAX_VALUE_CHARS  # before escapes are undone


class Rows(NamedTuple):
    """Rows of a table, or some of them. Names are in lower case; `rows` is used up before the next `Rows` is asked for.

    Values are text in the order of `columns`; None is NULL.
    """

    table: str
    columns: tuple[str, ...]
    rows: Iterator[tuple[str | None, ...]]
