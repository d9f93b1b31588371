"""Restoring: a backup is staged beside what is there, proven, and only then takes its place. Blocking.

Nothing is merged: the database names every blob, and a blob is its digest, so that one which is here already and whole
need not be fetched. Knows no commands.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from imgpro.errors import Action, DataDirMissing, OperatorError, StorageFull
from imgpro.forms import show_bytes
from imgpro.store import durable, peek, queries_keeping, room, swapping
from imgpro.store.backing_up import Tell
from imgpro.store.layout import (
    DATABASE_NAME,
    OWN_NAMES,
    REPLACED,
    STAGE,
)
from imgpro.store.quiet_threads import Stop, each
from imgpro.store.repository import MOST_NAMED, Manifest, Repository, blob_name
from imgpro.store.rereading import NotWhole, proven
from imgpro.store.snapshot import blobs_of, file_chunks
from imgpro.store.swapping import Swap
from imgpro.store.target import Absent
from imgpro.store.target_directory import DirectoryTarget
from imgpro.store.trying_out import Altered, fetch_database, read_proven, with_presence

_CHECK_EVERY: Final = 100  # lost ones
_BLOB_MODE: Final = 0o440
_SPARE_BYTES: Final = 16 * 1024 * 1024
_HOLDING: Final = frozenset({"FORMAT", "secret.key", DATABASE_NAME})  # names that say: there is something to lose


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore did, or would do. `here` are blobs that did not have to be fetched; `missing_blobs` are lost, the
    first of them named in `missing`, with how many pictures show them in `missing_images`."""

    backup: str
    created_ms: int
    instance_id: str
    images: int
    blobs: int
    blob_bytes: int
    here: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    missing_blobs: int = 0
    missing_images: int = 0
    missing: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


class _Tally:
    """Counts where each original comes from: "here", "backup", or "" for nowhere."""

    def __init__(self) -> None:
        self.here = self.fetched = self.fetched_bytes = self.lost = 0
        self.missing: list[str] = []

    def note(self, digest: str, size: int, source: str) -> None:
        if source == "here":
            self.here += 1
        elif source == "backup":
            self.fetched += 1
            self.fetched_bytes += size
        else:
            self.lost += 1
            if len(self.missing) < MOST_NAMED:
                self.missing.append(digest)

    def in_outcome(self, outcome: Restored, missing_images: int) -> Restored:
        return msgspec.structs.replace(
            outcome,
            here=self.here,
            fetched=self.fetched,
            fetched_bytes=self.fetched_bytes,
            missing_blobs=self.lost,
            missing_images=missing_images,
            missing=tuple(self.missing),
        )


class Restoring:
    """One restore into a data directory whose locks are held, or that is only looked at.

    `supported` is the newest schema that this program knows. With `fast` what comes from the backup is not hashed.
    """

    def __init__(
        self, repository: Repository, root: Path, home: Path, supported: int, stop: Stop, tell: Tell, *, fast: bool
    ) -> None:
        self._repository = repository
        self._root = root
        self._home = home
        self._supported = supported
        self._stop = stop
        self._tell = tell
        self._fast = fast
        self._stage = DirectoryTarget(root / STAGE, links=True, mode=_BLOB_MODE, alone=True)
        self._database = home / STAGE / DATABASE_NAME

    def restore(self, name: str, manifest: Manifest) -> Restored:
        """Stage a backup and put it in place. Raises BackupUnusable, DataUnusable, TargetFault, StorageFull,
        StorageFault, OperatorError."""
        try:
            self._prepare(name, manifest)
            with contextlib.closing(self._stage):
                done = self._stage_blobs(self._outline(name, manifest))
            self._stage_rest(name, manifest)
        except OSError as error:
            raise durable.fault(error, f"restoring into {self._root}") from error
        aside = _unused_name((self._root, self._home))
        swap = Swap(name, self._repository.place, str(self._home), aside, done.missing_blobs)
        swapping.begin(self._root, swap)
        asides = swapping.finish(self._root, swap)
        return msgspec.structs.replace(done, replaced=tuple(map(str, asides)))

    def rehearse(self, name: str, manifest: Manifest, scratch: Path) -> Restored:
        """Say what `restore` would do, by names and sizes alone; nothing but `scratch` is written to."""
        self._database = scratch / DATABASE_NAME
        self._tell("fetching the database", 0)
        fetch_database(self._repository, name, manifest, self._database, self._supported)
        for file in ("FORMAT", "secret.key"):
            self._repository.small(name, manifest, file)
        tally = _Tally()
        with contextlib.closing(peek.quiet(self._database)) as conn:
            for digest, size, there in self._with_presence(conn):
                source = "here" if _size(self._here(digest)) == size else "backup" if there == size else ""
                tally.note(digest, size, source)
            images = _showing(conn, tally.missing)
        return tally.in_outcome(self._outline(name, manifest), images)

    def _outline(self, name: str, manifest: Manifest) -> Restored:
        return Restored(
            backup=name,
            created_ms=manifest.created_ms,
            instance_id=manifest.instance_id,
            images=manifest.images,
            blobs=manifest.blobs,
            blob_bytes=manifest.blob_bytes,
        )

    def _prepare(self, name: str, manifest: Manifest) -> None:
        for place in {self._root, self._home}:
            durable.make_directory(place / STAGE)
            durable.fsync_directory(place)
        self._stage.tidy()
        durable.check_database_directory(self._home)
        free = room.file_system(self._home).free_bytes
        if free < manifest.database_bytes + _SPARE_BYTES:
            raise _no_room(self._home, manifest.database_bytes + _SPARE_BYTES)
        self._tell("fetching the database", 0)
        self._database.unlink(missing_ok=True)
        fetch_database(self._repository, name, manifest, self._database, self._supported)
        os.chmod(self._database, 0o640)
        self._tell("looking what is here already", manifest.blobs)
        wanted = self._wanted_bytes() + _SPARE_BYTES
        if room.file_system(self._root).free_bytes < wanted:
            raise _no_room(self._root, wanted)

    def _wanted_bytes(self) -> int:
        """Return the room that the pictures will take that are not here yet."""
        if self._links():
            return 0
        wanted = 0
        with contextlib.closing(peek.quiet(self._database)) as conn:
            for digest, size in blobs_of(conn):
                self._stop.check()
                self._tell("", 1)
                if size not in (_size(self._here(digest)), self._stage.size(blob_name(digest))):
                    wanted += size
        return wanted

    def _links(self) -> bool:
        target = self._repository.target
        return isinstance(target, DirectoryTarget) and target.links

    def _here(self, digest: str) -> Path:
        return self._root / blob_name(digest)

    def _stage_blobs(self, done: Restored) -> Restored:
        tally = _Tally()
        with contextlib.closing(sqlite3.connect(self._database, isolation_level=None)) as conn:
            self._drop_unnamed(conn)
            conn.execute("PRAGMA synchronous = OFF")  # it is flushed as a whole, once it is complete
            conn.execute("BEGIN")
            self._tell("restoring pictures", done.blobs)
            now_ms = time.time_ns() // 1_000_000
            for digest, size, source in each(
                self._with_presence(conn), self._stage_one, self._repository.target.parallel, self._stop
            ):
                self._tell("", 1)
                if source == "":
                    if tally.lost % _CHECK_EVERY == 0:
                        self._repository.check_there()
                    queries_keeping.note_damage(conn, digest, "missing", now_ms)
                tally.note(digest, size, source)
            conn.execute("COMMIT")
            self._stage.flush()
            images = _showing_damaged(conn) if tally.lost else 0
        return tally.in_outcome(done, images)

    def _stage_one(self, wanted: tuple[str, int, int | None]) -> tuple[str, int, str]:
        """Stage one blob: from an earlier try, from what is here, else from the backup. Return which it was."""
        digest, size, there = wanted
        name = blob_name(digest)
        if self._stage.size(name) == size and (self._fast or _is_whole(self._stage.root / name, digest)):
            return digest, size, "here"
        if _size(self._here(digest)) == size and _is_whole(self._here(digest), digest):
            if not self._link(name, self._here(digest)):
                self._stage.put(name, file_chunks(self._here(digest)), size)
            return digest, size, "here"
        if there != size:
            return digest, size, ""
        target = self._repository.target
        try:
            if isinstance(target, DirectoryTarget) and target.links:
                path = target.root / name
                if (self._fast or _is_whole(path, digest)) and self._link(name, path):
                    return digest, size, "backup"
            chunks = target.read(name) if self._fast else read_proven(target, digest)
            self._stage.put(name, chunks, size)
        except (Absent, Altered):
            return digest, size, ""
        return digest, size, "backup"

    def _link(self, name: str, path: Path) -> bool:
        if os.lstat(path).st_mode & 0o777 != _BLOB_MODE:
            os.chmod(path, _BLOB_MODE)
        return self._stage.link(name, path)

    def _drop_unnamed(self, conn: sqlite3.Connection) -> None:
        """Remove what an earlier try has staged of another backup."""
        named = blobs_of(conn)
        current = next(named, None)
        for digest, _ in Repository(self._stage).blobs():
            while current is not None and current[0] < digest:
                current = next(named, None)
            if current is None or current[0] != digest:
                self._stage.delete(blob_name(digest))

    def _with_presence(self, conn: sqlite3.Connection) -> Iterator[tuple[str, int, int | None]]:
        return with_presence(self._repository, blobs_of(conn))

    def _stage_rest(self, name: str, manifest: Manifest) -> None:
        stage = self._root / STAGE
        durable.make_directory(stage / "blobs")
        for file, mode in (("FORMAT", 0o640), ("secret.key", 0o600)):
            durable.write_file(stage / file, self._repository.small(name, manifest, file), mode)
        with contextlib.suppress(OSError):
            (stage / "partial").rmdir()
        fd = os.open(self._database, os.O_RDONLY | os.O_CLOEXEC)
        try:
            durable.fsync_fd(fd)
        finally:
            os.close(fd)
        for folder in {stage, self._database.parent}:
            durable.fsync_directory(folder)


def holds_data(root: Path, home: Path) -> bool:
    """Tell whether there is anything that a restore would put aside. Raises DataDirMissing for what is not ours."""
    try:
        names = set(os.listdir(root))
    except FileNotFoundError:
        names = set()
    except NotADirectoryError:
        raise DataDirMissing(f"{root} is a file.", Action("fix", label="Name a directory with --data")) from None
    foreign = {name for name in names if name not in OWN_NAMES and not name.startswith((DATABASE_NAME, REPLACED))}
    if not names & _HOLDING and foreign - {"lost+found"}:
        raise DataDirMissing(
            f"{root} is not empty and was not made by imgpro.",
            Action("fix", label="Name an empty or new directory with --data"),
        )
    blobs = root / "blobs"
    return bool(names & _HOLDING or (home / DATABASE_NAME).exists() or (blobs.is_dir() and next(blobs.iterdir(), None)))


def refuse_what_is_there(root: Path) -> OperatorError:
    """Return the error for a directory that holds data, where nobody said that it may be put aside."""
    return OperatorError(
        f"{root} holds data. It would be put aside there, as {REPLACED}<time>, and nothing be thrown away.",
        Action("fix", label="Say so with --force, or name an empty or new directory with --data"),
    )


def _unused_name(places: tuple[Path, ...]) -> str:
    """Return what the folder for what is there now will be called: that of an earlier restore is none of ours."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name, number = f"{REPLACED}{stamp}", 1
    while any(os.path.lexists(place / name) for place in places):
        number += 1
        name = f"{REPLACED}{stamp}-{number}"
    return name


def _is_whole(path: Path, digest: str) -> bool:
    try:
        for _ in proven(path, digest, forget=True):
            pass
    except NotWhole:
        return False
    return True


def _size(path: Path) -> int | None:
    try:
        return os.lstat(path).st_size
    except OSError:
        return None


def _showing(conn: sqlite3.Connection, digests: list[str]) -> int:
    sql = "SELECT count(*) FROM images i JOIN blobs b ON b.seq = i.blob WHERE b.digest = ?"
    return sum(conn.execute(sql, (bytes.fromhex(digest),)).fetchone()[0] for digest in digests)


def _showing_damaged(conn: sqlite3.Connection) -> int:
    (found,) = conn.execute(
        "SELECT count(*) FROM damaged_blobs d JOIN blobs b ON b.digest = d.digest JOIN images i ON i.blob = b.seq"
    ).fetchone()
    return int(found)


def _no_room(place: Path, wanted_bytes: int) -> StorageFull:
    return StorageFull(
        f"{place} has no room for what is restored, beside what is there.",
        Action("fix", label=f"Have at least {show_bytes(wanted_bytes)} free there, or restore into another directory"),
    )
