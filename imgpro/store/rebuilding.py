"""A database made again from the journal of metadata and the originals beside it.

It is built in a file of its own and takes its name when it is whole; what had that name is kept. Nobody else may work
on the data directory meanwhile: the caller holds its lock. Everything here blocks.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from imgpro.errors import Action, DataUnusable
from imgpro.store import (
    check_files,
    durable,
    journal_format,
    journal_position,
    journal_reading,
    journal_tables,
    journal_tail,
    layout,
    peek,
    rebuilding_rows,
    schema,
)
from imgpro.store.doubts import Doubt
from imgpro.store.journal_format import Header
from imgpro.store.journal_reading import Line, Named, Plan, Segment
from imgpro.store.schema import Migration
from imgpro.store.snapshot import blobs_of
from imgpro.store.sqlite_faults import translated

UNKNOWN: Final = "unknown"  # folder in quarantine/ of originals that no picture refers to
_BATCH: Final = 500
_COMMIT_ROWS: Final = 50_000
_REFUSED: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, ValueError, OverflowError)
_ENDINGS: Final = ("", "-wal", "-shm", "-journal")
_PRAGMAS: Final = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = MEMORY",  # it is worth nothing until it is whole
    "PRAGMA synchronous = OFF",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA cache_size = -64000",
    "PRAGMA trusted_schema = OFF",
)

Show = Callable[[str, int, int, str], None]
"""Told how it stands: the stage in words, how much is done, of how much, and its unit ('' or 'bytes')."""


class Rebuilt(msgspec.Struct):
    """What came of it. `gaps` are sentences; `broken` names lines of the journal, `dropped` rows that referred to
    nothing, `lost` pictures whose original is missing or has another size, `unknown` originals that no picture refers
    to. `aside` is where the database lies that was there before.
    """

    images: int = 0
    accounts: int = 0
    keys: int = 0
    blobs: int = 0
    gaps: list[str] = msgspec.field(default_factory=list)
    broken: Named = msgspec.field(default_factory=Named)
    dropped: Named = msgspec.field(default_factory=Named)
    lost: Named = msgspec.field(default_factory=Named)
    unknown: Named = msgspec.field(default_factory=Named)
    unknown_bytes: int = 0
    aside: str | None = None

    @property
    def whole(self) -> bool:
        """Tell whether everything is there."""
        return not (self.gaps or self.broken.count or self.dropped.count or self.lost.count or self.unknown.count)


def damage(database: Path, supported: int) -> str | None:
    """Return what is wrong with a database, in words; None if it is sound. Raises DataUnusable if it is a newer one."""
    if not database.exists() or database.stat().st_size == 0:
        return "it is missing"
    try:
        with contextlib.closing(peek.quiet(database)) as conn:
            (application,) = conn.execute("PRAGMA application_id").fetchone()
            if application == schema.APPLICATION_ID and schema.version(conn) > supported:
                raise DataUnusable(
                    f"{database} was written by a newer imgpro.", Action("fix", label="Start the newer imgpro")
                )
            if application != schema.APPLICATION_ID:
                return "it is no database of imgpro"
            (verdict,) = conn.execute("PRAGMA integrity_check(1)").fetchone()
            broken = conn.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.DatabaseError as error:
        return f"it cannot be read ({error})"
    if verdict != "ok":
        return f"it is damaged ({verdict})"
    return "it has rows that refer to nothing" if broken is not None else None


def build(
    target: Path,
    plan: Plan,
    instance_id: str,
    steps: Sequence[Migration],
    blobs: Path,
    quarantine: Path | None,
    show: Show,
    *,
    supersedes: int | None = None,
) -> Rebuilt:
    """Make a new database at `target`, which must not exist, and hold it against the originals in `blobs`.

    Originals of no picture are moved into `quarantine`, unless that is None. `supersedes`: the journal is not the one
    that the server will go on with; whatever that one has up to the file of this number counts as known. Raises
    DataUnusable, StorageFull, StorageFault; what is left of the file then is the caller's to remove.
    """
    done = Rebuilt(gaps=list(plan.gaps))
    try:
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
        with contextlib.closing(sqlite3.connect(target, isolation_level=None, cached_statements=256)) as conn:
            for pragma in _PRAGMAS:
                conn.execute(pragma).fetchall()
            conn.execute("CREATE TEMP TABLE gone (digest BLOB PRIMARY KEY) WITHOUT ROWID")
            _replay(conn, plan, steps, done, show)
            show("counting, and making the words findable", 0, 0, "")
            _complete(conn, plan.segments[-1].header, instance_id)
            last = plan.segments[-1]
            if supersedes is not None or done.gaps or done.broken.count or last.snapshot:
                # By the files' names, of those too that could not be read: the server is to ask about none of them.
                journal_position.note_behind(conn, supersedes or journal_format.listed(last.path.parent).highest)
            else:
                # Reading it again gives the same, so that the journal goes on from here.
                journal_position.note(conn, journal_tail.end_of(last.path, last.header.number), overtaken=True)
            _hold_against(conn, blobs, quarantine, done, show)
            _prove(conn)
            for name in ("images", "accounts", "keys", "blobs"):
                setattr(done, name, conn.execute(f"SELECT count(*) FROM {name}").fetchone()[0])  # noqa: S608
        _make_durable(target)
    except OSError as error:
        raise durable.write_fault(error, "building the database") from error
    except sqlite3.Error as error:
        raise translated(error) from error
    return done


def install(built: Path, database: Path) -> Path | None:
    """Give a finished database its name, durably; return where the one lies that had it. Raises StorageFault."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside, number = database.with_name(f"{database.name}.damaged-{stamp}"), 1
    while any(os.path.lexists(f"{aside}{ending}") for ending in _ENDINGS):
        number += 1
        aside = database.with_name(f"{database.name}.damaged-{stamp}-{number}")
    kept: Path | None = None
    lost = not database.exists()
    try:
        # The log of the old one must not be taken for the new one's. Broken off in between, there is no database, and
        # no server starts.
        for ending in _ENDINGS:
            with contextlib.suppress(FileNotFoundError):
                if lost and (ending == "-shm" or os.stat(f"{database}{ending}").st_size == 0):
                    os.unlink(f"{database}{ending}")  # of no use without the database
                    continue
                os.rename(f"{database}{ending}", f"{aside}{ending}")
                kept = kept or Path(f"{aside}{ending}")
        durable.fsync_directory(database.parent)
        os.rename(built, database)
        durable.fsync_directory(database.parent)
    except OSError as error:
        raise durable.write_fault(error, "putting the database in place") from error
    return kept


def _replay(conn: sqlite3.Connection, plan: Plan, steps: Sequence[Migration], done: Rebuilt, show: Show) -> None:
    """Carry out what the segments say, each at the schema that it was written with."""
    read = _Counter(show, "reading the journal", plan.bytes, "bytes")
    at, rest = 0, list(plan.segments)
    while rest:
        version = rest[0].header.schema
        if version > steps[-1].version or version < at:
            raise DataUnusable(
                f"{rest[0].path.name} was written with schema {version}; this program knows up to {steps[-1].version}.",
                Action("fix", label="Use the version of imgpro that wrote it, or a newer one"),
            )
        _migrate(conn, at, version, steps)
        at = version
        with rebuilding_rows.bare(conn):
            while rest and rest[0].header.schema == at:
                _Replay(conn, rest[0], done).run(read)
                rest.pop(0)
            rebuilding_rows.settle(conn, done.dropped)
    _migrate(conn, at, steps[-1].version, steps)


def _migrate(conn: sqlite3.Connection, old: int, new: int, steps: Sequence[Migration]) -> None:
    due = [step for step in steps if old < step.version <= new]
    if due:
        schema.apply(conn, due)
    conn.execute("PRAGMA foreign_keys = OFF")


class _Replay:
    """One segment on its way into the database. Rows keep their order within a table, not beyond it."""

    def __init__(self, conn: sqlite3.Connection, segment: Segment, done: Rebuilt) -> None:
        self._conn = conn
        self._segment = segment
        self._done = done
        self._shapes = journal_tables.shapes(conn)
        self._waiting: dict[str, list[Line]] = {name: [] for name in self._shapes}
        self._uncommitted = 0

    def run(self, read: "_Counter") -> None:
        columns = self._segment.header.columns
        for name in columns:
            if name not in self._shapes or not set(columns[name]) <= set(self._shapes[name].columns):
                raise DataUnusable(
                    f"{self._segment.path.name} holds a table {name} that its schema does not have.",
                    Action("fix", label="Use the version of imgpro that wrote it"),
                )
        self._conn.execute("BEGIN")
        for line in journal_reading.read(self._segment, self._done.broken.add, read.advance):
            waiting = self._waiting[line.table]
            waiting.append(line)
            if len(waiting) == _BATCH:
                self._flush(line.table)
        for name in self._waiting:
            self._flush(name)
        self._keep_numbers()
        self._conn.execute("COMMIT")

    def _flush(self, name: str) -> None:
        waiting, self._waiting[name] = self._waiting[name], []
        for gone, lines in _runs(waiting):
            if gone and name == "blobs":
                # Their bytes may still lie there; nobody wants them back.
                forget = "INSERT OR IGNORE INTO gone SELECT digest FROM blobs WHERE seq = ?"
                self._conn.executemany(forget, [line.values for line in lines])
            statement = self._deletion(name) if gone else self._insertion(name)
            try:
                self._conn.executemany(statement, (self._row(name, line) for line in lines))
            except _REFUSED:
                self._one_by_one(statement, name, lines)
        self._uncommitted += len(waiting)
        if self._uncommitted >= _COMMIT_ROWS:
            self._conn.execute("COMMIT")
            self._conn.execute("BEGIN")
            self._uncommitted = 0

    def _one_by_one(self, statement: str, name: str, lines: Sequence[Line]) -> None:
        for line in lines:
            try:
                self._conn.execute(statement, self._row(name, line))
            except _REFUSED as error:
                self._done.broken.add(f"{self._segment.path.name}, a row of {name}: {error}")

    def _insertion(self, name: str) -> str:
        columns = self._segment.header.columns[name]
        # A row that was written later takes the place of an earlier one, also where another one had its name.
        marks = ", ".join("?" * len(columns))
        return f"INSERT OR REPLACE INTO {name} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608

    def _deletion(self, name: str) -> str:
        where = " AND ".join(f"{column} = ?" for column in self._shapes[name].table.key)
        return f"DELETE FROM {name} WHERE {where}"  # noqa: S608

    def _row(self, name: str, line: Line) -> tuple[Any, ...]:
        if line.gone:
            return line.values
        binary = self._shapes[name].binary
        columns = self._segment.header.columns[name]
        return tuple(
            bytes.fromhex(value) if column in binary and value is not None else value
            for column, value in zip(columns, line.values, strict=True)
        )

    def _keep_numbers(self) -> None:
        """Numbers of what was deleted are not given again."""
        for name, seq in self._segment.header.sequences.items():
            found = self._conn.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (name,)).fetchone()
            if found is None:
                self._conn.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, seq))
            elif found[0] < seq:
                self._conn.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (seq, name))


def _runs(lines: Sequence[Line]) -> Iterator[tuple[bool, list[Line]]]:
    """Split lines where puts and deletions take turns."""
    run: list[Line] = []
    for line in lines:
        if run and run[0].gone != line.gone:
            yield run[0].gone, run
            run = []
        run.append(line)
    if run:
        yield run[0].gone, run


def _complete(conn: sqlite3.Connection, header: Header, instance_id: str) -> None:
    with rebuilding_rows.bare(conn):
        conn.execute("BEGIN")
        rebuilding_rows.derive(conn)
        conn.executemany(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)",
            [*header.meta.items(), ("instance_id", instance_id)],
        )
        conn.execute("COMMIT")


def _hold_against(conn: sqlite3.Connection, blobs: Path, quarantine: Path | None, done: Rebuilt, show: Show) -> None:
    """Compare with what lies in `blobs`: name what is lost, and put aside what is not known."""
    (total,) = conn.execute("SELECT count(*) FROM blobs").fetchone()
    counter = _Counter(show, "comparing with the originals", total, "")
    now_ms = time.time_ns() // 1_000_000
    conn.execute("BEGIN")
    for found in check_files.originals(blobs, blobs_of(conn), grace_s=float("-inf"), modes=False):
        if isinstance(found, Doubt):
            if found.kind in ("missing", "damaged"):
                _lose(conn, found, now_ms, done)
            elif found.kind == "orphan":
                _put_aside(conn, blobs, found.subject[0], quarantine, done)
        else:
            counter.advance(found)
    conn.execute("COMMIT")
    if quarantine is not None and done.unknown.count:
        durable.fsync_directory(quarantine / UNKNOWN)


def _lose(conn: sqlite3.Connection, found: Doubt, now_ms: int, done: Rebuilt) -> None:
    digest = bytes.fromhex(found.subject[0])
    conn.execute(
        "INSERT OR REPLACE INTO damaged_blobs (digest, damage, found_ms) VALUES (?, ?, ?)",
        (digest, "missing" if found.kind == "missing" else "altered", now_ms),
    )
    rows = conn.execute(
        "SELECT i.id, i.name FROM images i JOIN blobs b ON b.seq = i.blob WHERE b.digest = ?", (digest,)
    )
    for image_id, name in rows:
        done.lost.add(f"{image_id} {name}: its original {found.what}")


def _put_aside(conn: sqlite3.Connection, blobs: Path, digest: str, quarantine: Path | None, done: Rebuilt) -> None:
    if conn.execute("SELECT 1 FROM gone WHERE digest = ?", (bytes.fromhex(digest),)).fetchone() is not None:
        return  # deleted on purpose; the sweep takes it
    source = blobs / layout.blob_path(digest)
    done.unknown_bytes += source.stat().st_size
    done.unknown.add(digest)
    if quarantine is not None:
        durable.make_directories(quarantine / UNKNOWN)
        os.rename(source, quarantine / UNKNOWN / digest)


def _prove(conn: sqlite3.Connection) -> None:
    broken = conn.execute("PRAGMA foreign_key_check").fetchall()
    (verdict,) = conn.execute("PRAGMA quick_check(1)").fetchone()
    if broken or verdict != "ok":
        raise DataUnusable(
            f"What came of the journal is not sound ({verdict}, {len(broken)} rows refer to nothing).",
            Action("fix", label="imgpro backup restore"),
        )


def _make_durable(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        durable.fsync_fd(fd)
    finally:
        os.close(fd)


class _Counter:
    """Counts what is done of a stage and shows it now and then."""

    def __init__(self, show: Show, stage: str, total: int, unit: str) -> None:
        self._show = show
        self._stage = stage
        self._total = total
        self._unit = unit
        self._done = self._shown = 0

    def advance(self, count: int) -> None:
        self._done += count
        if self._done - self._shown >= self._total // 200:
            self._shown = self._done
            self._show(self._stage, self._done, self._total, self._unit)
