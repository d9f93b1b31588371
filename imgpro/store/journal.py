"""The journal of metadata as the writer keeps it: what each commit changes goes into a file before the commit ends.

A journal that cannot be written never fails a commit: it is behind then, says so once, and is made anew. Knows which
tables are kept from `journal_tables`, and nothing of what their rows mean.
"""

import contextlib
import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from imgpro.store import journal_ahead, journal_position, journal_tables, schema
from imgpro.store import journal_format as form
from imgpro.store.journal_format import Begins, Files, Header
from imgpro.store.journal_tables import Shape
from imgpro.store.journal_tail import Position, Syncer, Tail

_META_KEPT: Final = ("created_ms", "good_clock_ms", "app_version_last")

log = logging.getLogger(__name__)


class JournalStatus(msgspec.Struct, frozen=True):
    """How the journal stands. `behind`: it lacks something that the database has, until a snapshot is complete, and
    `reason` says why. `overtaken`: it holds rows that were changed or deleted since. Bytes of the last complete
    snapshot and of all tails; `snapshot_ms` (Unix ms) is None before there is a snapshot.
    """

    behind: bool
    reason: str
    overtaken: bool
    snapshot_bytes: int
    tail_bytes: int
    snapshot_ms: int | None


class Journal:
    """The journal of one database; a `Follower` of its commits. What is public may be called from any thread."""

    def __init__(self, folder: Path, instance_id: str) -> None:
        self.folder = folder
        self.instance_id = instance_id
        self._shapes: dict[str, Shape] = {}
        self._witness = journal_ahead.Witness(folder, instance_id)
        self._last_number: int | None = None  # of the tail that the last commit went to
        self._one: dict[str, str] = {}  # SQL for the row of a key, by table
        self._dirty: dict[tuple[Any, ...], None] = {}
        self._changed = False  # by what is dirty, a line that was written before is overtaken
        self._tail: Tail | None = None
        self._older: Tail | None = None  # the one before, while the commit that began a new one is under way
        self._began = self._appended = self._wanted = self._resumed = False
        self._gap = self._cleared = False
        self._forgets = False  # the snapshot that is due, or under way, is to forget something
        self._retired: list[Tail] = []
        self._syncing = threading.Lock()
        self._syncer: Syncer | None = None
        self._state = threading.Lock()  # for what both a failure and a snapshot change
        self._broken: OSError | None = None  # what a sync met, for the writer to see
        self._faults = 0
        self._behind = self._overtaken = self._told = False
        self._reason = ""
        self._snapshot_bytes = self._older_bytes = 0
        self._snapshot_ms: int | None = None

    def status(self) -> JournalStatus:
        """Return how the journal stands."""
        tail = self._tail
        tail_bytes = self._older_bytes + (tail.size if tail is not None else 0)
        broken = self._broken
        behind, reason = (True, _why(broken)) if broken is not None else (self._behind, self._reason)
        return JournalStatus(behind, reason, self._overtaken, self._snapshot_bytes, tail_bytes, self._snapshot_ms)

    # For the one who makes snapshots

    def begin_tail(self, _: sqlite3.Connection) -> None:
        """Have the next tail begin with this commit; runs inside `Database.write`."""
        self._wanted = True

    def place(self) -> tuple[int, int] | None:
        """Return the number of the tail that is written now, and how often writing has failed; None if none is."""
        tail = self._tail
        return (tail.number, self._faults) if tail is not None else None

    def replace_with(self, number: int, faults: int, size: int) -> None:
        """Take the snapshot before tail `number` for everything older, and remove that. Blocking; raises OSError.

        `faults` is what `place` said when the tail was begun: if writing has failed since, the journal stays behind.
        """
        found = form.listed(self.folder)
        for path in (*found.numbered(0, number), *found.partial):
            path.unlink(missing_ok=True)
        if self._forgets:
            journal_ahead.drop_asides(self.folder)
            self._forgets = False
        tail = self._tail
        self._snapshot_bytes, self._snapshot_ms = size, time.time_ns() // 1_000_000
        self._older_bytes = sum(
            path.stat().st_size for each, path in found.tails.items() if each >= number and tail and each != tail.number
        )
        with self._state:
            if faults == self._faults:
                self._behind, self._reason, self._told = False, "", False

    def overtake(self) -> None:
        """Say that the journal holds what should go: a snapshot that was to forget it did not come about."""
        self._overtaken = True

    def sync(self) -> None:
        """Make durable what was written so far. Blocking; what fails makes the journal behind."""
        with self._syncing:
            retired, self._retired = self._retired, []
            tail = self._tail
            try:
                for each in retired:
                    each.sync()
                if tail is not None:
                    tail.sync()
                    tail.name_is_durable(self.folder)
            except OSError as error:
                self._broken = error
            finally:
                for each in retired:
                    each.close()

    def header(self, connection: sqlite3.Connection, number: int, begins: Begins, before: int = 0) -> Header:
        """Return the first line of a tail."""
        shapes = journal_tables.shapes(connection)
        sequences = connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
        marks = ", ".join("?" * len(_META_KEPT))
        meta = connection.execute(f"SELECT key, value FROM meta WHERE key IN ({marks})", _META_KEPT).fetchall()  # noqa: S608
        return Header(
            format=form.FORMAT,
            kind="tail",
            number=number,
            schema=schema.version(connection),
            instance=self.instance_id,
            written_ms=time.time_ns() // 1_000_000,
            begins=begins,
            columns={name: shape.columns for name, shape in shapes.items()},
            sequences={name: seq for name, seq in sequences if name in shapes},
            meta=dict(meta),
            before_bytes=before,
        )

    def snapshot_header(self, number: int, connection: sqlite3.Connection) -> Header:
        """Return the first line of the snapshot before tail `number`."""
        return msgspec.structs.replace(self.header(connection, number, "next"), kind="snapshot")

    # In the writer's thread

    def opened(self, connection: sqlite3.Connection) -> None:
        """Find the place where the last commit left the journal, or begin anew; follow all changes from here on."""
        self._shapes = journal_tables.shapes(connection)
        self._one = {name: shape.one for name, shape in self._shapes.items()}
        connection.create_function("journal_note", -1, self._note)
        for shape in self._shapes.values():
            for trigger in shape.triggers():
                connection.execute(trigger)
        self._syncer = Syncer(self.sync)
        try:
            found = form.listed(self.folder)
            if not self._resume(connection, found):
                self._start_anew(connection, found)
        except OSError as error:
            self._fail(error)
            self._clear_position(connection)

    def before_commit(self, connection: sqlite3.Connection) -> None:
        """Write down the rows that this commit leaves, and in the database how far the journal goes."""
        try:
            if self._broken is not None:
                raise self._broken
            if self._wanted:
                self._begin(connection, "gap" if self._gap else "next")
            if self._tail is not None and self._dirty:
                self._tail.append(self._lines(connection))
                self._appended = True
        except (OSError, sqlite3.Error, msgspec.MsgspecError) as error:
            self._fail(error)
        if self._tail is None:
            self._gap = self._gap or bool(self._dirty)
            if self._dirty and not self._cleared:
                self._clear_position(connection)
        elif self._appended or self._began:
            self._set_position(connection)

    def committed(self) -> None:
        """Keep what was written down."""
        if self._began:
            if self._older is not None:
                self._older_bytes += self._older.size
                self._retired.append(self._older)
            self._forgets = self._forgets or self._overtaken
            self._gap = self._cleared = self._overtaken = False
        self._overtaken = self._overtaken or self._changed
        if (self._appended or self._began or self._resumed) and self._tail is not None:
            # When it is resumed, too: what was noted before may be of a journal that somebody took away.
            self._witness.note(self._tail.number, self._tail.size)
            self._last_number = self._tail.number
        if (self._appended or self._began) and self._syncer is not None:
            self._syncer.wake()
        self._settle()

    def rolled_back(self) -> None:
        """Take back what was written down."""
        self._cleared = False  # that the database says so may have been undone too
        try:
            if self._began and self._tail is not None:
                fresh, self._tail = self._tail, self._older
                self._retired.append(fresh)
                (self.folder / form.tail_name(fresh.number)).unlink(missing_ok=True)
            elif self._appended and self._tail is not None:
                self._tail.undo()
        except OSError as error:
            self._fail(error)
        self._settle()

    def closed(self) -> None:
        """Make everything durable and let go of the files."""
        if self._syncer is not None:
            self._syncer.close()
        tail, self._tail = self._tail, None
        if tail is not None:
            self._retired.append(tail)
        self.sync()
        self._witness.close()

    def _settle(self) -> None:
        self._dirty.clear()
        self._older = None
        self._began = self._appended = self._wanted = self._resumed = self._changed = False

    def _note(self, table: str, changed: int, *key: Any) -> None:
        """Called by SQLite for every row that changes, also in a transaction that is undone later."""
        self._dirty[(table, *key)] = None
        if changed and self._shapes[table].table.personal:
            self._changed = True

    def _lines(self, connection: sqlite3.Connection) -> bytes:
        """Return the lines for what changed: whole rows, after all changes of this commit."""
        out = []
        for table, *key in self._dirty:
            row = connection.execute(self._one[table], key).fetchone()
            out.append(form.put(table, row[0]) if row is not None else form.removed(table, tuple(key)))
        return b"".join(out)

    def _resume(self, connection: sqlite3.Connection, found: Files) -> bool:
        """Go on with the tail of the last commit; False if the journal is not the one of this database."""
        noted = journal_position.read(connection)
        if noted is None or noted.position is None or noted.totals != journal_position.totals(connection):
            return False
        position = noted.position
        self._last_number = position.number
        header = _whole(found, position, self.instance_id)
        if header is None:
            return False
        self._tail = Tail.resume(found.tails[position.number], position)
        if self._tail is None:
            return False
        self._resumed = True
        # Numbered higher is what a commit began that did not come about.
        for path in (*found.numbered(position.number + 1, found.highest + 1), *found.partial):
            path.unlink(missing_ok=True)
        self._measure(found, position.number)
        # Something older: a snapshot that was to take its place did not come about.
        self._overtaken = noted.overtaken or bool(found.numbered(0, position.number))
        if header.schema != schema.version(connection):
            self._begin(connection, "next")
            self._changed = True  # so that there is a snapshot of the new schema before long
            self._set_position(connection)
        return True

    def _start_anew(self, connection: sqlite3.Connection, found: Files) -> None:
        """Begin a tail that follows nothing that is there."""
        empty = not any(
            connection.execute(f"SELECT EXISTS (SELECT 1 FROM main.{name})").fetchone()[0]  # noqa: S608
            for name in self._shapes
        )
        for path in found.partial:
            path.unlink(missing_ok=True)
        self._behind = not empty
        self._reason = "" if empty else "the journal is not that of this database, or not there yet"
        above = max(found.highest, journal_ahead.highest(self.folder))
        first = self._begin(connection, "empty" if empty else "gap", above=above)
        first.sync()  # a power cut in the first second, too, leaves something to rebuild from
        first.name_is_durable(self.folder)
        self._changed = bool(found.highest)  # what lies there is of no use any more
        self._set_position(connection)

    def _begin(self, connection: sqlite3.Connection, begins: Begins, above: int = 0) -> Tail:
        """Begin the next tail in this commit, and return it. Raises OSError."""
        before = self._tail
        highest = max(above, before.number if before is not None else form.listed(self.folder).highest)
        header = self.header(connection, highest + 1, begins, before.size if before is not None else 0)
        fresh = Tail.create(self.folder / form.tail_name(highest + 1), highest + 1, form.header_line(header))
        self._older, self._tail, self._began = before, fresh, True
        return fresh

    def _measure(self, found: Files, current: int) -> None:
        with contextlib.suppress(OSError):
            newest = max((number for number in found.snapshots if number <= current), default=None)
            if newest is not None:
                seen = found.snapshots[newest].stat()
                self._snapshot_bytes, self._snapshot_ms = seen.st_size, seen.st_mtime_ns // 1_000_000
            tails = [path for number, path in found.tails.items() if (newest or 0) <= number < current]
            self._older_bytes = sum(path.stat().st_size for path in tails)

    def _set_position(self, connection: sqlite3.Connection) -> None:
        assert self._tail is not None
        overtaken = self._changed or (self._overtaken and not self._began)
        journal_position.note(connection, self._tail.position, overtaken=overtaken)

    def _clear_position(self, connection: sqlite3.Connection) -> None:
        """Have the next start see that the journal lacks something."""
        journal_position.note_behind(connection, self._last_number)
        self._cleared = True

    def _fail(self, error: Exception) -> None:
        """Give the tail up. From here on the journal is behind, until there is a new tail and a snapshot before it."""
        tail, self._tail = self._tail, None
        if tail is not None:
            self._retired.append(tail)
        if self._older is not None:
            self._retired.append(self._older)
            self._older = None
        self._began = self._appended = False
        self._broken = None
        self._gap = True
        with self._state:
            self._faults += 1
            self._behind, self._reason = True, _why(error)
            told, self._told = self._told, True
        if not told:
            log.error(
                "the journal of metadata in %s cannot be written (%s); everything else goes on, and the journal is "
                "made anew once that works again",
                self.folder,
                error,
            )


def _why(error: Exception) -> str:
    return f"it could not be written: {error}"


def _whole(found: Files, position: Position, instance_id: str) -> Header | None:
    """Return the header of the tail that a position lies in, if everything from its snapshot up to it is there."""
    first = max((number for number in found.snapshots if number <= position.number), default=None)
    if position.number not in found.tails:
        return None
    header = form.read_header(found.tails[position.number])
    if header is None or header.instance != instance_id:
        return None
    if first is None:
        first = min(found.tails)
        beginning = form.read_header(found.tails[first])
        if beginning is None or beginning.begins != "empty":
            return None
    return header if all(number in found.tails for number in range(first, position.number + 1)) else None
