"""What is done at a place for backups, as one piece of work each for a `SideProcess`.

Everything here blocks. Knows nothing of what is remembered of it afterwards.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from imgpro.settings import Backup as BackupSettings
from imgpro.store import queries_keeping
from imgpro.store.backing_up import Made, Making
from imgpro.store.db import Database
from imgpro.store.desk import Desk
from imgpro.store.layout import DataDir
from imgpro.store.quiet_threads import Stop
from imgpro.store.repository import DATABASE, Manifest, Repository
from imgpro.store.schema import packaged_migrations
from imgpro.store.snapshot import scratch
from imgpro.store.target import Target
from imgpro.store.targets import target_of
from imgpro.store.thinning_out import Thinned, thin_out
from imgpro.store.trying_out import Trial, fetch_database, try_blobs


class Place(NamedTuple):
    """A place for backups of a data directory: `place` as on the command line, None for the one that is set."""

    settings: BackupSettings
    data: DataDir
    place: str | None


def prepare(desk: Desk, at: Place, used_before: bool) -> None:
    """Make a place ready for backups. Raises as `Repository.for_writing` does."""
    with _target(desk, at) as target:
        Repository(target).for_writing(at.data.instance_id, used_before=used_before)


def make(desk: Desk, at: Place, app_version: str, used_before: bool) -> tuple[Made, int]:
    """Make a backup; return it, and how many whole ones are there now. Raises as `Making.make` does."""
    with _target(desk, at) as target:
        repository = Repository(target)
        made = Making(repository, at.data, app_version, Stop(desk.stop), desk.tell, used_before=used_before).make()
        return made, sum(backup.manifest is not None for backup in repository.backups())


def prune(desk: Desk, at: Place, keep: int) -> Thinned:
    """Remove the backups beyond the newest `keep`. Raises as `thin_out` does."""
    with _target(desk, at) as target:
        return thin_out(Repository(target), keep, Stop(desk.stop), desk.tell)


def try_out(desk: Desk, at: Place, wanted: str | None, app_version: str) -> tuple[str, Manifest, Trial]:
    """Fetch a backup by name (None: the newest), open it as a server would, read and hash every blob.

    Raises TargetFault, BackupUnusable, DataUnusable, StorageFull, StorageFault, OperatorError.
    """
    with _target(desk, at) as target, target.lock("reading", shared=True):
        repository = Repository(target)
        name, manifest = repository.find(wanted)
        desk.tell("fetching the database", 0)
        with scratch(at.data, "backup-trial", 2 * manifest.database_bytes) as folder:
            path = folder / DATABASE
            fetch_database(repository, name, manifest, path, packaged_migrations()[-1].version)
            for file in ("FORMAT", "secret.key"):
                repository.small(name, manifest, file)
            if asyncio.run(_counted(path, manifest, app_version)) != (manifest.images, manifest.blobs):
                raise repository.damaged(name, DATABASE)
            return name, manifest, try_blobs(repository, name, manifest, path, Stop(desk.stop), desk.tell)


async def _counted(path: Path, manifest: Manifest, app_version: str) -> tuple[int, int]:
    """Open a database as a server would, and return how many pictures and blobs it holds."""
    database = await Database.open(path, path.parent, manifest.instance_id, app_version)
    try:
        async with database.reader() as conn:
            return await queries_keeping.counted(conn)
    finally:
        await database.close()


@contextlib.contextmanager
def _target(desk: Desk, at: Place) -> Iterator[Target]:
    with contextlib.closing(target_of(at.settings, at.data.root, at.place)) as target:
        desk.interrupt = target.abort
        yield target
