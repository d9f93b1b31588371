"""The journal of metadata read from its files: which of them count, in which order, and every line that proves itself.

What is broken, missing or of another server is named and left out. Knows no database.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from imgpro.store import journal_format as form
from imgpro.store.journal_format import Header

NAMED: Final = 1_000


class Named(msgspec.Struct):
    """Things that went wrong: how many, and the first of them by name."""

    count: int = 0
    names: list[str] = msgspec.field(default_factory=list)

    def add(self, name: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.names) < NAMED:
            self.names.append(name)


class Segment(msgspec.Struct, frozen=True):
    """A file of the journal that counts. `header` is its own, or its neighbour's where its own is broken."""

    path: Path
    header: Header
    snapshot: bool
    last: bool


class Plan(msgspec.Struct, frozen=True):
    """What there is to read, in order; `gaps` says in sentences what is not there."""

    segments: tuple[Segment, ...]
    gaps: tuple[str, ...]
    bytes: int


class Line(msgspec.Struct, frozen=True):
    """A row of a table as it became, or the key of one that went."""

    gone: bool
    table: str
    values: tuple[Any, ...]


def plan(folder: Path, instance_id: str) -> Plan:
    """Look through a journal's directory; without any segment nothing can be made from it. Raises OSError."""
    found = form.listed(folder)
    gaps: list[str] = []
    headers = {path: form.read_header(path) for path in (*found.snapshots.values(), *found.tails.values())}
    foreign = {path for path, header in headers.items() if header is not None and header.instance != instance_id}
    gaps += [f"{path.name} belongs to another server and is left out" for path in sorted(foreign)]
    snapshots = {number: path for number, path in found.snapshots.items() if path not in foreign}
    tails = {number: path for number, path in found.tails.items() if path not in foreign}
    newest = max(snapshots, default=None)
    first = newest if newest is not None else min(tails, default=0)
    chosen = [snapshots[newest]] if newest is not None else []
    chosen += [tails[number] for number in sorted(tails) if number >= first]
    known = [header for path in chosen if (header := headers[path]) is not None]
    if not known:
        return Plan((), tuple(gaps), 0)
    gaps += _holes(first, tails, headers, snapshot=newest is not None)
    segments: list[Segment] = []
    for path in chosen:
        # Rows are read by the columns of the header; a file whose own is broken has those of the one before, or after.
        header = headers[path] or (segments[-1].header if segments else known[0])
        segments.append(Segment(path, header, path in snapshots.values(), path == chosen[-1]))
    return Plan(tuple(segments), tuple(gaps), sum(path.stat().st_size for path in chosen))


def _holes(first: int, tails: dict[int, Path], headers: dict[Path, Header | None], *, snapshot: bool) -> Iterator[str]:
    """Say what is missing between the first file and the last."""
    numbers = sorted(number for number in tails if number >= first)
    beginning = headers[tails[numbers[0]]] if numbers else None
    if not snapshot and (beginning is None or beginning.begins != "empty"):
        yield f"there is no snapshot: what was there before {tails[numbers[0]].name} is not known"
    for number in range(first, max(numbers, default=first) + 1):
        if number not in tails:
            yield f"{form.tail_name(number)} is missing"
            continue
        header = headers[tails[number]]
        if header is None or number == first:
            continue
        if header.begins == "gap":
            yield f"changes right before {tails[number].name} were not written down"
        elif number - 1 in tails and tails[number - 1].stat().st_size < header.before_bytes:
            yield f"the end of {tails[number - 1].name} is missing"


def read(segment: Segment, broken: Callable[[str], None], advance: Callable[[int], None]) -> Iterator[Line]:
    """Yield what a segment says; `broken` is told of each line that does not prove itself. Raises OSError."""
    columns, complete = segment.header.columns, not segment.snapshot
    with segment.path.open("rb") as file:
        for number, line in form.lines(file):
            advance(len(line) + 1)
            content = form.opened(line)
            if content is None or (number == 1) is not (form.header_of(content) is not None):
                broken(f"{segment.path.name}, line {number}")
            elif content[0] == "end":
                complete = True
            elif number > 1:
                found = _line(content, columns)
                if found is not None:
                    yield found
                else:
                    broken(f"{segment.path.name}, line {number}: of a kind that this program does not know")
    if not complete:
        broken(f"{segment.path.name}: its end is missing")


def _line(content: list[Any], columns: dict[str, tuple[str, ...]]) -> Line | None:
    match content:
        case ["put", str(table), list(row)] if table in columns and len(row) == len(columns[table]):
            return Line(False, table, tuple(row))
        case ["del", str(table), list(key)] if table in columns and key:
            return Line(True, table, tuple(key))
    return None
