"""Whether the journal could make this database again: its files without gaps, each line whole, the same rows in both.

Everything here blocks and belongs into a thread. The journal may be written anew at any moment: then it is looked at
from the beginning.
"""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imgpro.store import journal_reading, journal_tables
from imgpro.store.doubts import Doubt, Looked
from imgpro.store.journal_reading import Plan
from imgpro.store.journal_tables import Kept

# Tables whose rows are numbered upwards: what is above the highest number came after the look began.
_NUMBERED: Final = tuple(kept for kept in journal_tables.KEPT if kept.key == ("seq",))
_TICK: Final = 200  # lines, about a millisecond: others want the interpreter too
_TRIES: Final = 5
_PATIENCE_S: Final = 10.0  # for a commit
_PAUSE_S: Final = 0.1
_WHERE: Final = "journal"


class _Bits:
    """A set of small numbers, an eighth of a byte each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def put(self, number: int, *, there: bool) -> None:
        """Add a number, or take it out."""
        at, mask = number >> 3, 1 << (number & 7)
        if at >= len(self._bits):
            self._bits.extend(bytes(at + 1 - len(self._bits) + 4096))
        self._bits[at] = self._bits[at] | mask if there else self._bits[at] & ~mask

    def take(self, number: int) -> bool:
        """Take a number out; return whether it was there."""
        at, mask = number >> 3, 1 << (number & 7)
        if at >= len(self._bits) or not self._bits[at] & mask:
            return False
        self._bits[at] &= ~mask
        return True

    def __iter__(self) -> Iterator[int]:
        for at, byte in enumerate(self._bits):
            if byte:
                yield from (at * 8 + bit for bit in range(8) if byte >> bit & 1)


def files(folder: Path, instance_id: str) -> Looked:
    """Find gaps between the files, without reading them."""
    found = _again(folder, instance_id)
    if not found.segments:
        yield _doubt("has nothing from which the database could be made")
    yield from (_doubt(gap) for gap in found.gaps)
    yield 1


def rows(conn: sqlite3.Connection, folder: Path, instance_id: str) -> Looked:
    """Read all lines, and compare the rows that they add up to with the rows of the database."""
    for attempt in range(_TRIES):
        conn.execute("BEGIN")
        try:
            conn.execute("SELECT count(*) FROM meta").fetchone()  # the moment begins here
            yield from _compared(conn, journal_reading.plan(folder, instance_id))
        except FileNotFoundError:  # a new snapshot took the place of these files
            if attempt == _TRIES - 1:
                raise
            continue
        finally:
            conn.execute("ROLLBACK")
        return


def _compared(conn: sqlite3.Connection, plan: Plan) -> Looked:
    broken: list[str] = []
    live = {kept.name: _Bits() for kept in _NUMBERED}
    for segment in plan.segments:
        places = {
            kept.name: segment.header.columns[kept.name].index(kept.key[0])
            for kept in _NUMBERED
            if kept.name in segment.header.columns
        }
        for number, line in enumerate(journal_reading.read(segment, broken.append, lambda _: None)):
            if line.table in places:
                key = line.values[0 if line.gone else places[line.table]]
                live[line.table].put(key, there=not line.gone)
            if number % _TICK == 0:
                yield 0
    if broken:
        yield _doubt(f"has lines that are broken: {len(broken):,}, the first is {broken[0]}")
    missing: dict[Kept, list[int]] = {kept: [] for kept in _NUMBERED}
    extra: dict[Kept, list[int]] = {}
    for kept in _NUMBERED:
        yield from _taken(conn, kept, live[kept.name], missing[kept])
        (highest,) = conn.execute(f"SELECT coalesce(max(seq), 0) FROM {kept.name}").fetchone()  # noqa: S608
        extra[kept] = [key for key in live[kept.name] if key <= highest]
    # What has changed since reading began is looked at as it is now. A commit is in the journal a moment before it is
    # in the database: what was under way is given time to end.
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        conn.execute("ROLLBACK")
        conn.execute("BEGIN")
        for kept in _NUMBERED:
            missing[kept] = [key for key in missing[kept] if _exists(conn, kept, key)]
            extra[kept] = [key for key in extra[kept] if not _exists(conn, kept, key)]
        if time.monotonic() > until_s or not (any(missing.values()) or any(extra.values())):
            break
        time.sleep(_PAUSE_S)
        yield 0
    for kept in _NUMBERED:
        if missing[kept]:
            yield _doubt(f"lacks rows of {kept.name}: {len(missing[kept]):,}")
        if extra[kept]:
            yield _doubt(f"has rows of {kept.name} that are not there: {len(extra[kept]):,}")
    yield 1


def _taken(conn: sqlite3.Connection, kept: Kept, live: _Bits, missing: list[int]) -> Iterator[int]:
    """Take the rows that the database had when reading began out of those of the journal; note those not in there."""
    sql = f"SELECT seq FROM {kept.name} ORDER BY seq"  # noqa: S608 - names of our own schema
    for number, (key,) in enumerate(conn.execute(sql)):
        if not live.take(key):
            missing.append(key)
        if number % _TICK == 0:
            yield 0


def _exists(conn: sqlite3.Connection, kept: Kept, key: int) -> bool:
    sql = f"SELECT 1 FROM {kept.name} WHERE seq = ?"  # noqa: S608 - names of our own schema
    return conn.execute(sql, (key,)).fetchone() is not None


def _again(folder: Path, instance_id: str) -> Plan:
    for _ in range(_TRIES - 1):
        try:
            return journal_reading.plan(folder, instance_id)
        except FileNotFoundError:
            continue
    return journal_reading.plan(folder, instance_id)


def _doubt(what: str) -> Doubt:
    return Doubt("journal", _WHERE, what, "journal")
