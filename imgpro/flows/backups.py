"""Backups: made, tried out, thinned out and listed, by command and by the clock; and originals fetched from them.

What is done at a place is the store's business; here is what is remembered of it, and what the operator is told.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from imgpro.errors import Action, ImgproError, OperatorError
from imgpro.flows import backup_clock
from imgpro.flows.backup_runs import BackupRuns, BackupStatus
from imgpro.flows.errands import Errands, Progress
from imgpro.forms import counted, show_bytes, without_login
from imgpro.settings import Backup as BackupSettings
from imgpro.store import backup_work, room
from imgpro.store.backing_up import Made, Tell
from imgpro.store.backup_work import Place
from imgpro.store.blobs import Spool
from imgpro.store.db import Database
from imgpro.store.layout import DataDir
from imgpro.store.repository import Backup, Repository
from imgpro.store.side_process import SideProcess
from imgpro.store.swapping import clear_stage
from imgpro.store.target import Absent, Target
from imgpro.store.targets import own_place, target_of
from imgpro.store.thinning_out import Thinned
from imgpro.store.trying_out import Altered, read_proven

SHOWN: Final = 20  # digests that an answer names
WAITING: Final = "waiting for other work at the place"
DISK_LOOK_S: Final = 0.5  # how long whoever asks for the state waits for a disk

log = logging.getLogger(__name__)


class Backups:
    """One for the appliance. `suspect` is told of every original that was found damaged."""

    def __init__(
        self,
        settings: Callable[[], BackupSettings],
        db: Database,
        data: DataDir,
        errands: Errands,
        app_version: str,
        suspect: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._runs = BackupRuns(db)
        self._data = data
        self._errands = errands
        self._app_version = app_version
        self._suspect = suspect
        self._stage_cleared = False
        self._turn = asyncio.Lock()  # who comes while other work is under way at a place waits: it is no failure
        self._own_disk = not settings().to  # as it was seen last
        self._disk_look: asyncio.Future[bool] | None = None
        errands.offer("backup-create", self.create)
        errands.offer("backup-verify", self.verify)
        errands.offer("backup-prune", self.prune)

    @property
    def failures(self) -> dict[str, int]:
        """How many backups and trials have failed since the start."""
        return dict(self._runs.failures)

    async def create(self, values: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Make a backup `to` a place, else to the one that is set; there the older ones are thinned out afterwards.

        Raises TargetFault, BackupUnusable, StorageFull, StorageFault, DataUnusable.
        """
        place = values.get("to")
        progress.begin(WAITING)
        async with self._turn:
            return await self._create(values, place, progress)

    async def _create(self, values: Mapping[str, Any], place: str | None, progress: Progress) -> dict[str, Any]:
        at = self._place(place)
        where = self._described(at)
        known = where in await self._runs.places()
        usual = where == self._usual_place()
        progress.begin("looking at the place")
        async with self._process("backup", progress) as side:
            async with self._runs.noted("backup", usual=usual) as noted:
                used_before = known and not values.get("begin_anew", False)
                await side.run(backup_work.prepare, at, used_before)
                # Before there is one: where the first could not be finished, the disk may be gone at the next.
                await self._runs.note_place(where)
                made, kept = await side.run(backup_work.make, at, self._app_version, True)
                for digest, _ in made.damage:
                    self._suspect(digest)
                noted.result = {**_outcome_of(made, where), "kept": kept}
                noted.good = not made.manifest.missing_blobs
                noted.message = _words_of(made, where)
            pruned = await self._thin_out_quietly(side, at) if usual else None
        return {**noted.result, "removed": list(pruned.removed) if pruned else [], "agrees": self._agrees(values)}

    async def verify(self, values: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Try out a backup by `name`, else the newest, `from` a place: fetch it, open it, read and hash every blob.

        Raises TargetFault, BackupUnusable, DataUnusable, StorageFull, StorageFault.
        """
        progress.begin(WAITING)
        async with self._turn:
            return await self._verify(values, progress)

    async def _verify(self, values: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        at = self._place(values.get("from"))
        where = self._described(at)
        usual = where == self._usual_place() and not values.get("name")
        async with self._runs.noted("verify", usual=usual) as noted, self._process("verify", progress) as side:
            name, manifest, trial = await side.run(backup_work.try_out, at, values.get("name"), self._app_version)
            noted.good = not trial.bad
            noted.message = f"{trial.bad} of its pictures are missing or damaged." if trial.bad else f"{name} is good."
            noted.result = {
                "backup": name,
                "place": where,
                "images": manifest.images,
                "blobs": trial.good,
                "bytes": trial.good_bytes,
                "bad": trial.bad,
                "named": [{"digest": digest, "fault": fault} for digest, fault in trial.faults[:SHOWN]],
            }
        return {**noted.result, "agrees": self._agrees(values)}

    async def prune(self, values: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Remove backups beyond the newest `keep` `from` a place, and the blobs that none of the others needs.

        Raises TargetFault, BackupUnusable, OperatorError where who asks thinks of another place.
        """
        if values.get("from") is None and not self._agrees(values):
            raise OperatorError(
                f"The running server's backups go to {self._usual_place()}, and the settings here name another place.",
                Action("fix", label="Reload the server (systemctl reload imgpro), or name the place with --from"),
            )
        keep = values.get("keep") or self._settings().keep
        progress.begin(WAITING)
        async with self._turn:
            return await self._prune(values.get("from"), keep, progress)

    async def _prune(self, place: str | None, keep: int, progress: Progress) -> dict[str, Any]:
        at = self._place(place)
        async with self._process("backup-prune", progress) as side:
            thinned = await side.run(backup_work.prune, at, keep)
        return {
            "place": self._described(at),
            "removed": list(thinned.removed),
            "left": thinned.left,
            "blobs": thinned.blobs,
            "bytes": thinned.bytes,
        }

    async def listed(self, place: str | None = None) -> list[Backup]:
        """Return the backups at a place, the oldest first. Raises TargetFault, BackupUnusable."""
        with self._target(place) as target:
            return await asyncio.to_thread(lambda: _listed(Repository(target)))

    async def fetch(self, digest: str, spool: Spool) -> bool:
        """Write an original into a spool, from the first place whose copy is whole; False if none is."""
        for target in await self._places():
            with contextlib.closing(target):
                if not await asyncio.to_thread(_is_whole, target, digest):
                    continue
                chunks = read_proven(target, digest)
                with contextlib.closing(chunks):
                    while chunk := await asyncio.to_thread(next, chunks, b""):
                        await spool.write(chunk)
                return True
        return False

    async def status(self) -> BackupStatus:
        """Tell how it stands, from what was written down; no place is asked."""
        settings = self._settings()
        await self._look_at_disk(settings)
        return await self._runs.status(settings, self._usual_place(), own_disk=self._own_disk)

    async def keep_going(self) -> str:
        """Make the daily backup if it is due, or try the newest out if that is. For the schedule, every minute."""
        if not self._stage_cleared:
            # A restore that was broken off early, and that nobody goes on with: the server was started instead.
            for place in {self._data.root, self._data.database.parent}:
                await asyncio.to_thread(clear_stage, place)
            self._stage_cleared = True
        kind = await self._runs.due(self._settings())
        return await self._do(kind) if kind else ""

    async def _do(self, kind: str) -> str:
        try:
            report = self._errands.start(kind, {})
        except OperatorError:
            return ""  # somebody asked for it just now
        try:
            while report.state == "running":
                report = await self._errands.ended(report.errand, backup_clock.RETRY_S)
        except asyncio.CancelledError:
            await self._errands.stop(report.errand)
            raise
        if report.state == "failed" and report.error is not None:
            log.error("%s failed: %s Try: %s", kind, report.error["message"], report.error["action"]["label"])
        return ""

    async def _thin_out_quietly(self, side: SideProcess, at: Place) -> Thinned | None:
        """The backup is made; that older ones could not be removed is no failure of it."""
        try:
            return await side.run(backup_work.prune, at, self._settings().keep)
        except ImgproError as problem:
            log.error("old backups could not be removed: %s", problem)
            return None

    def _process(self, name: str, progress: Progress) -> SideProcess:
        return SideProcess(name, _teller(progress))

    def _place(self, place: str | None) -> Place:
        return Place(self._settings(), self._data, place)

    def _described(self, at: Place) -> str:
        with contextlib.closing(target_of(at.settings, at.data.root, at.place)) as target:
            return target.describe()

    @contextlib.contextmanager
    def _target(self, place: str | None) -> Iterator[Target]:
        with contextlib.closing(target_of(self._settings(), self._data.root, place)) as target:
            yield target

    def _agrees(self, values: Mapping[str, Any]) -> bool:
        """Tell whether `backup.to`, as whoever asks has it (`setting`), is what this process goes by."""
        return str(values.get("setting", self._settings().to)) == self._settings().to

    def _usual_place(self) -> str:
        try:
            with self._target(None) as target:
                return target.describe()
        except ImgproError:
            return without_login(self._settings().to)

    async def _look_at_disk(self, settings: BackupSettings) -> None:
        """Look whether it is the data's own; a share that hangs holds one thread, and nobody who asks."""
        if self._disk_look is None:
            self._disk_look = asyncio.ensure_future(asyncio.to_thread(self._on_own_disk, settings))
        done, _ = await asyncio.wait([self._disk_look], timeout=DISK_LOOK_S)
        if done:
            self._own_disk, self._disk_look = self._disk_look.result(), None

    def _on_own_disk(self, settings: BackupSettings) -> bool:
        if settings.to.startswith("s3://"):
            return False
        place = Path(settings.to).expanduser() if settings.to else own_place(self._data.root)
        try:
            return room.file_system(place).device == room.file_system(self._data.root).device
        except ImgproError:
            return not settings.to

    async def _places(self) -> list[Target]:
        """Return the places that backups went to, the usual one first."""
        known = await self._runs.places()
        found: dict[str, Target] = {}
        for place in (None, *known):
            with contextlib.suppress(ImgproError):
                target = target_of(self._settings(), self._data.root, place)
                found.setdefault(target.describe(), target)
        return list(found.values())


def _outcome_of(made: Made, where: str) -> dict[str, Any]:
    manifest = made.manifest
    return {
        "backup": made.name,
        "place": where,
        "images": manifest.images,
        "blobs": manifest.blobs,
        "bytes": manifest.blob_bytes,
        "new_blobs": manifest.new_blobs,
        "new_bytes": manifest.new_bytes,
        "deleted": made.deleted,
        "missing": manifest.missing_blobs,
        "named": [{"digest": digest, "damage": damage} for digest, damage in made.damage[:SHOWN]],
    }


def _teller(progress: Progress) -> Tell:
    def tell(stage: str, count: int) -> None:
        if stage:
            progress.begin(stage, count)
        else:
            progress.advance(count)

    return tell


def _words_of(made: Made, place: str) -> str:
    manifest = made.manifest
    if manifest.missing_blobs:
        all_of_them = counted(manifest.blobs, "original")
        return f"{manifest.missing_blobs:,} of {all_of_them} missing or damaged here, and not in it."
    return f"{counted(manifest.images, 'picture')} to {place}, {show_bytes(manifest.new_bytes)} of them new."


def _listed(repository: Repository) -> list[Backup]:
    repository.for_reading()
    return repository.backups()


def _is_whole(target: Target, digest: str) -> bool:
    try:
        for _ in read_proven(target, digest):
            pass
    except (Absent, Altered, ImgproError):
        return False
    return True
