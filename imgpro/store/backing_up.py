"""Making one backup: what a place lacks is copied there, every byte hashed on its way. Blocking; knows no asyncio.

A name and a size that are there already are taken for the blob itself: only whole and proven blobs get there, and
`trying_out` marks those that go bad.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, Literal

import msgspec
from blake3 import blake3

from imgpro.errors import Action, TargetFault
from imgpro.forms import show_bytes
from imgpro.store import durable, room
from imgpro.store.layout import DataDir, blob_path
from imgpro.store.quiet_threads import Stop, each, quieten
from imgpro.store.repository import (
    DATABASE,
    DIGEST_BYTES,
    DIGESTS,
    LAYOUT,
    MOST_NAMED,
    Manifest,
    Repository,
    blob_name,
)
from imgpro.store.rereading import NotWhole, proven
from imgpro.store.snapshot import Snapshot, file_chunks, is_live, read_only, scratch
from imgpro.store.target_directory import DirectoryTarget

_SPARE_BYTES: Final = 16 * 1024 * 1024
_BATCH: Final = 10_000

BlobDamage = Literal["altered", "missing", "unreadable"]
Tell = Callable[[str, int], None]
"""Told how it stands: what begins and how much of it there is; or an empty name, and how much more has been done."""


class Made(msgspec.Struct, frozen=True):
    """A backup that was made, and what it lacks: digest and what is wrong with it here, the first of them by name."""

    name: str
    manifest: Manifest
    deleted: int  # pictures that were deleted while it was made, and are not in it
    damage: tuple[tuple[str, BlobDamage], ...]


class _Done(Enum):
    COPIED = "copied"
    GONE = "gone"


class Making:
    """One backup of a data directory to one place. `make` does it."""

    def __init__(
        self, repository: Repository, data: DataDir, app_version: str, stop: Stop, tell: Tell, *, used_before: bool
    ) -> None:
        self._repository = repository
        self._target = repository.target
        self._data = data
        self._app_version = app_version
        self._stop = stop
        self._tell = tell
        self._used_before = used_before
        self._created_ms = time.time_ns() // 1_000_000
        self._deleted = 0
        self._new = self._new_bytes = 0
        self._absent: dict[str, int] = {}  # the first of those that were not there, and their bytes
        self._missing: list[str] = []
        self._missing_count = 0
        self._damage: list[tuple[str, BlobDamage]] = []

    def make(self) -> Made:
        """Make it. Raises TargetFault, BackupUnusable, StorageFull, StorageFault, DataUnusable, OperatorError."""
        quieten()
        self._repository.for_writing(self._data.instance_id, used_before=self._used_before)
        wanted = room.database_bytes(self._data.database) + _SPARE_BYTES
        with self._target.lock("changing"), scratch(self._data, "backup-copy", wanted) as folder:
            self._target.tidy()
            there = self._target.free_bytes()
            if there is not None and there < wanted:
                raise _no_room(self._repository.place, wanted)
            self._tell("copying the database", 0)
            with contextlib.closing(Snapshot.take(self._data.database, folder / DATABASE)) as snapshot:
                durable.point("backup.copied")
                self._copy_blobs(snapshot)
                self._target.flush()
                durable.point("backup.blobs")
                self._forget_marks()
                self._stop.check()
                self._tell("writing the backup", 0)
                return self._put(snapshot)

    def _copy_blobs(self, snapshot: Snapshot) -> None:
        self._tell("copying pictures", snapshot.counts().blobs)
        self._bad = self._repository.bad()
        self._marks_to_lift: list[str] = []
        with contextlib.closing(read_only(self._data.database)) as live:
            for done in each(self._lacking(snapshot), self._copy_one, self._target.parallel, self._stop):
                self._take(snapshot, live, *done)
            self._look_again(snapshot, live)

    def _take(
        self, snapshot: Snapshot, live: sqlite3.Connection, digest: str, size: int, outcome: "_Done | BlobDamage"
    ) -> None:
        """Count what came of one blob."""
        if outcome is not _Done.COPIED:
            self._note(snapshot, live, digest, size, outcome)
            return
        self._new += 1
        self._new_bytes += size
        if digest in self._bad:
            self._marks_to_lift.append(digest)

    def _look_again(self, snapshot: Snapshot, live: sqlite3.Connection) -> None:
        """Look once more for what was not there: it may have been deleted, and sent again, a moment before it was asked
        for, or deleted since.
        """
        absent, self._absent = self._absent, {}
        self._missing_count -= len(absent)
        self._missing = [digest for digest in self._missing if digest not in absent]
        self._damage = [found for found in self._damage if found[0] not in absent]
        for digest, size in absent.items():
            self._stop.check()
            self._take(snapshot, live, *self._copy_one((digest, size)))

    def _lacking(self, snapshot: Snapshot) -> Iterator[tuple[str, int]]:
        """Yield what the copy names and the place has not: both are sorted, so that one walk along both tells."""
        there = self._repository.blobs()
        current = next(there, None)
        for digest, size in snapshot.blobs():
            while current is not None and current[0] < digest:
                current = next(there, None)
            self._tell("", 1)
            if current != (digest, size) or digest in self._bad:
                yield digest, size

    def _copy_one(self, wanted: tuple[str, int]) -> tuple[str, int, "_Done | BlobDamage"]:
        digest, size = wanted
        path = self._data.blobs / blob_path(digest)
        try:
            if isinstance(self._target, DirectoryTarget) and self._target.links:
                for _ in proven(path, digest, size, forget=True):
                    pass
                if self._target.link(blob_name(digest), path):
                    return digest, size, _Done.COPIED
            self._target.put(blob_name(digest), proven(path, digest, size, forget=True), size)
        except NotWhole as found:
            return digest, size, _Done.GONE if found.damage == "missing" else found.damage
        return digest, size, _Done.COPIED

    def _note(
        self, snapshot: Snapshot, live: sqlite3.Connection, digest: str, size: int, outcome: "_Done | BlobDamage"
    ) -> None:
        """Tell what was deleted meanwhile from what is lost."""
        if not is_live(live, digest):
            # Deleted since the copy was made, and a delete is a delete: it must not come back from a backup.
            self._deleted += snapshot.forget_blob(digest)
            return
        self._data.check_there()  # else all of it would look lost
        damage: BlobDamage = "missing" if isinstance(outcome, _Done) else outcome
        self._missing_count += 1
        if len(self._missing) < MOST_NAMED:
            self._missing.append(digest)
            self._damage.append((digest, damage))
            if damage == "missing":
                self._absent[digest] = size

    def _forget_marks(self) -> None:
        for digest in self._marks_to_lift:
            self._repository.unmark_bad(digest)

    def _put(self, snapshot: Snapshot) -> Made:
        counts = snapshot.counts()
        name = self._repository.new_name()
        digests, database = blake3(), blake3()
        try:
            chunks = packed(snapshot.blobs(), digests)
            self._target.put(f"backups/{name}/{DIGESTS}", chunks, counts.blobs * DIGEST_BYTES)
            snapshot.close()
            size = snapshot.path.stat().st_size
            self._target.put(f"backups/{name}/{DATABASE}", file_chunks(snapshot.path, database), size)
            small = {
                "FORMAT": (self._data.root / "FORMAT").read_bytes(),
                "secret.key": self._data.secret.hex().encode("ascii") + b"\n",
            }
            manifest = Manifest(
                layout=LAYOUT,
                schema=counts.schema,
                app_version=self._app_version,
                instance_id=self._data.instance_id,
                created_ms=self._created_ms,
                images=counts.images,
                blobs=counts.blobs,
                blob_bytes=counts.blob_bytes,
                new_blobs=self._new,
                new_bytes=self._new_bytes,
                database_bytes=size,
                database_blake3=database.hexdigest(),
                digests_blake3=digests.hexdigest(),
                files_blake3={file: self._repository.put_small(name, file, small[file]) for file in small},
                missing_blobs=self._missing_count,
                missing=tuple(self._missing),
            )
            self._target.flush()
            durable.point("backup.unmarked")
            self._repository.put_manifest(name, manifest)
        except BaseException:
            with contextlib.suppress(TargetFault):
                self._repository.delete(name)
            raise
        return Made(name, manifest, self._deleted, tuple(self._damage))


def packed(blobs: Iterator[tuple[str, int]], hasher: blake3) -> Iterator[bytes]:
    """Yield digests one after the other in pieces of many, and hash them on the way."""
    batch = bytearray()
    for digest, _ in blobs:
        batch += bytes.fromhex(digest)
        if len(batch) >= _BATCH * DIGEST_BYTES:
            hasher.update(bytes(batch))
            yield bytes(batch)
            batch.clear()
    hasher.update(bytes(batch))
    if batch:
        yield bytes(batch)


def _no_room(place: str, wanted_bytes: int) -> TargetFault:
    return TargetFault(
        f"{place} has no room for another backup.",
        Action("fix", label=f"Have at least {show_bytes(wanted_bytes)} free there, or keep fewer: imgpro backup prune"),
    )
