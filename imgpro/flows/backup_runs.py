"""What is remembered of backups: when the last one was made or tried out, how that ended, and what is due."""

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from imgpro.errors import ImgproError
from imgpro.flows import backup_clock
from imgpro.settings import Backup as BackupSettings
from imgpro.store import queries_keeping
from imgpro.store.db import Database
from imgpro.store.queries_keeping import Run, RunName

LATE_S: Final = 2 * 86_400

log = logging.getLogger(__name__)


class BackupStatus(msgspec.Struct, frozen=True):
    """How it stands with backups. `own_disk`: they lie on the same disk as the data, and go with it.

    `made_ms` is when the last one was made, even one that lacks pictures; `late`: a daily one is missing. `verify` is
    the last time that one was tried out.
    """

    place: str
    daily: bool
    own_disk: bool
    run: Run | None
    verify: Run | None
    made_ms: int | None
    next_ms: int | None
    late: bool


class Noted:
    """How a run ended; filled in by whoever does it."""

    def __init__(self) -> None:
        self.good = False
        self.message = ""
        self.result: dict[str, Any] = {}


class BackupRuns:
    """The memory of one appliance."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.failures: dict[str, int] = {"backup": 0, "verify": 0}  # since the start

    @contextlib.asynccontextmanager
    async def noted(self, name: RunName, *, usual: bool) -> AsyncIterator[Noted]:
        """Write down that work begins and how it ends, if at the usual place; others are somebody's own affair."""
        noted, began_s, before = Noted(), time.monotonic(), None
        if usual:
            now_ms = _now_ms()
            await self._db.write(lambda conn: queries_keeping.note_began(conn, name, now_ms))
            async with self._db.reader() as conn:
                before = (await queries_keeping.last_runs(conn))[name]
        try:
            yield noted
        except ImgproError as problem:
            if usual:
                made_ms = _completed_ms(before)
                kept = {} if made_ms is None else {"made_ms": made_ms}
                await self._note_end(name, _now_ms(), False, problem.message, kept)
            raise
        if usual:
            now_ms = _now_ms()
            told = {key: value for key, value in noted.result.items() if key != "named"}
            details = {**told, "seconds": round(time.monotonic() - began_s, 1), "made_ms": now_ms}
            await self._note_end(name, now_ms, noted.good, noted.message, details)
        (log.info if noted.good else log.error)("%s: %s", name, noted.message)

    async def status(self, settings: BackupSettings, place: str, *, own_disk: bool) -> BackupStatus:
        """Tell how it stands."""
        run, trial, since_ms = await self._runs()
        made_ms, now_s = _completed_ms(run), time.time()
        last_s = (since_ms if made_ms is None else made_ms) / 1000
        return BackupStatus(
            place=place,
            daily=settings.daily,
            own_disk=own_disk,
            run=run,
            verify=trial,
            made_ms=made_ms,
            next_ms=round(backup_clock.next_occasion_s(settings.at, now_s) * 1000) if settings.daily else None,
            late=settings.daily and now_s - last_s > LATE_S,
        )

    async def due(self, settings: BackupSettings) -> str:
        """Return the kind of errand that is due now; empty if none is."""
        run, trial, since_ms = await self._runs()
        made_ms, now_s = _completed_ms(run), time.time()
        made_s = (since_ms if made_ms is None else made_ms) / 1000
        if not settings.daily:
            return ""
        if backup_clock.backup_due(settings.at, now_s, made_s=made_s, tried_s=_failed_s(run)):
            return "backup-create"
        if made_ms is not None and backup_clock.verify_due(
            settings.verify_s,
            now_s,
            verified_s=(_completed_ms(trial) or 0) / 1000,
            tried_s=_failed_s(trial),
            good=trial is not None and not trial.failed,
        ):
            return "backup-verify"
        return ""

    async def places(self) -> list[str]:
        """Return the places that backups went to, the last one first."""
        async with self._db.reader() as conn:
            return await queries_keeping.backup_places(conn)

    async def note_place(self, place: str) -> None:
        """Write down that a backup went to a place."""
        now_ms = _now_ms()
        await self._db.write(lambda conn: queries_keeping.note_backup_place(conn, place, now_ms))

    async def _runs(self) -> tuple[Run | None, Run | None, int]:
        async with self._db.reader() as conn:
            runs = await queries_keeping.last_runs(conn)
            return runs.get("backup"), runs.get("verify"), await queries_keeping.created_ms(conn)

    async def _note_end(self, name: RunName, now_ms: int, good: bool, message: str, details: dict[str, Any]) -> None:
        self.failures[name] += not good
        await self._db.write(
            lambda conn: queries_keeping.note_ended(conn, name, now_ms, good=good, message=message, **details)
        )


def _completed_ms(run: Run | None) -> int | None:
    """Return when the last one was completed, be it good or not."""
    found = run.details.get("made_ms") if run is not None else None
    return found if isinstance(found, int) else None


def _failed_s(run: Run | None) -> float:
    """Return when one was tried that was not completed; 0 where the last one was."""
    if run is None or (run.ended_ms is not None and _completed_ms(run) == run.ended_ms):
        return 0.0
    return max(run.began_ms, run.ended_ms or 0) / 1000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
