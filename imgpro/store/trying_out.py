"""Trying a backup out: its database is fetched and proven, and every blob that it names is read and hashed. Blocking.

What is found damaged at the place is marked there, so that the next backup copies it again.
"""

import contextlib
import sqlite3
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec
from blake3 import blake3

from imgpro.errors import Action, BackupUnusable
from imgpro.store import durable, peek, schema
from imgpro.store.backing_up import Tell, packed
from imgpro.store.quiet_threads import Stop, each, quieten
from imgpro.store.repository import DATABASE, DIGESTS, MOST_NAMED, Manifest, Repository, blob_name
from imgpro.store.snapshot import blobs_of
from imgpro.store.target import Absent, Target

_CHECK_EVERY: Final = 100  # bad ones

Fault = Literal["missing", "altered"]


class Trial(msgspec.Struct, frozen=True):
    """What trying a backup out has shown: its good blobs, how many are not, and the first of those by name."""

    name: str
    good: int
    good_bytes: int
    bad: int
    faults: tuple[tuple[str, Fault], ...]


def fetch_database(repository: Repository, name: str, manifest: Manifest, path: Path, supported: int) -> None:
    """Write the database of a backup to `path`, durably, and prove that it is what was put there, and sound.

    `supported` is the newest schema that this program knows. Raises BackupUnusable, DataUnusable (newer), TargetFault,
    StorageFull, StorageFault.
    """
    hasher, left = blake3(), manifest.database_bytes
    try:
        with (
            path.open("wb", buffering=0) as file,
            contextlib.closing(repository.target.read(f"backups/{name}/{DATABASE}")) as chunks,
        ):
            for chunk in chunks:
                left -= len(chunk)
                if left < 0:  # room was looked for by what the manifest says
                    raise repository.damaged(name, DATABASE)
                hasher.update(chunk)
                durable.write_all(file.fileno(), chunk)
            durable.fsync_fd(file.fileno())
    except Absent:
        raise repository.damaged(name, DATABASE) from None
    except OSError as error:
        raise durable.fault(error, f"writing {path}") from error
    if hasher.hexdigest() != manifest.database_blake3:
        raise repository.damaged(name, DATABASE)
    schema.check_identity(path, path.parent, supported)
    try:
        with contextlib.closing(peek.quiet(path)) as conn:
            conn.execute("PRAGMA trusted_schema = OFF")
            version = schema.version(conn)
            if not version:
                raise repository.damaged(name, DATABASE)
            if foreign := _code(conn) - _own_code(version):
                raise _foreign(name, repository.place, min(foreign))
            verdict = conn.execute("PRAGMA quick_check(1)").fetchone()[0]
            broken = conn.execute("PRAGMA foreign_key_check").fetchone()
            instance = conn.execute("SELECT value FROM meta WHERE key = 'instance_id'").fetchone()
    except sqlite3.Error as error:
        raise BackupUnusable(f"The database of the backup {name} cannot be read ({error}).") from error
    if verdict != "ok" or broken is not None or instance is None or instance[0] != manifest.instance_id:
        raise repository.damaged(name, DATABASE)


def _code(conn: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Return what of a database is carried out when its rows are read or changed: type, name and SQL."""
    found = conn.execute("SELECT type, name, sql FROM sqlite_schema WHERE type IN ('trigger', 'view')")
    return {(str(kind), str(name), str(sql)) for kind, name, sql in found}


def _own_code(version: int) -> set[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        schema.apply(conn, schema.packaged_migrations()[:version])
        return _code(conn)


def _foreign(name: str, place: str, thing: tuple[str, str, str]) -> BackupUnusable:
    return BackupUnusable(
        f"The database of the backup {name} at {place} holds a {thing[0]}, {thing[1]}, that is none of imgpro's: "
        "somebody changed it.",
        Action("fix", label="Take another one: imgpro backup list"),
    )


def read_proven(target: Target, digest: str) -> Generator[bytes, None, None]:
    """Yield a blob at a place; raise Altered after its last piece if it is not what its name says. Raises Absent."""
    hasher = blake3()
    with contextlib.closing(target.read(blob_name(digest))) as chunks:
        for chunk in chunks:
            hasher.update(chunk)
            yield chunk
    if hasher.hexdigest() != digest:
        raise Altered(digest)


class Altered(Exception):
    """A blob at a place is not what its name says."""


def try_blobs(repository: Repository, name: str, manifest: Manifest, database: Path, stop: Stop, tell: Tell) -> Trial:
    """Read and hash every blob that a fetched database names. Raises TargetFault, BackupUnusable, OperatorError."""
    quieten()
    good = good_bytes = bad = 0
    faults: list[tuple[str, Fault]] = []
    with contextlib.closing(peek.quiet(database)) as conn:
        digests = blake3()
        for _ in packed(blobs_of(conn), digests):
            stop.check()
        if digests.hexdigest() != manifest.digests_blake3:
            raise repository.damaged(name, DIGESTS)
        repository.check_digests(name, manifest)
        (total,) = conn.execute("SELECT value FROM totals WHERE name = 'blobs'").fetchone()
        tell("reading pictures", total)
        for digest, size, fault in each(
            with_presence(repository, blobs_of(conn)), _Trying(repository.target), repository.target.parallel, stop
        ):
            tell("", 1)
            if fault is None:
                good += 1
                good_bytes += size
                continue
            if fault == "missing" and bad % _CHECK_EVERY == 0:
                repository.check_there()
            bad += 1
            if fault == "altered":
                repository.mark_bad(digest)
            if len(faults) < MOST_NAMED:
                faults.append((digest, fault))
    return Trial(name, good, good_bytes, bad, tuple(faults))


class _Trying:
    def __init__(self, target: Target) -> None:
        self._target = target

    def __call__(self, wanted: tuple[str, int, int | None]) -> tuple[str, int, Fault | None]:
        digest, size, there = wanted
        if there is None:
            return digest, size, "missing"
        try:
            for _ in read_proven(self._target, digest) if there == size else ():
                pass
        except Absent:
            return digest, size, "missing"
        except Altered:
            return digest, size, "altered"
        return digest, size, None if there == size else "altered"


def with_presence(repository: Repository, wanted: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int, int | None]]:
    """Yield digest, size, and the size that the place has of it; None where it has none. Both are sorted."""
    there = repository.blobs()
    current = next(there, None)
    for digest, size in wanted:
        while current is not None and current[0] < digest:
            current = next(there, None)
        yield digest, size, current[1] if current is not None and current[0] == digest else None
