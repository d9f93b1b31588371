"""The numbers that the parts keep anyway, all at one moment, for whoever draws curves of them. Counts nothing."""

import asyncio
import logging

import msgspec

from imgpro.flows.ingest import Ingest
from imgpro.flows.keeping import Keeping, Kept
from imgpro.flows.serve import Serve
from imgpro.flows.watch_room import Room, RoomWatch
from imgpro.imaging.pool import Pool, PoolStatus
from imgpro.store import queries, room
from imgpro.store.db import Database, DatabaseStats
from imgpro.store.derivs import DerivativeCache, DerivativeStats
from imgpro.store.layout import DataDir
from imgpro.store.queries import Totals
from imgpro.tallies import Counted

log = logging.getLogger(__name__)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand, and what has been counted since the start. None where the disk did not say."""

    totals: Totals | None
    database_bytes: int
    backup_bytes: int | None
    rooms: tuple[Room, ...]
    database: DatabaseStats
    derivatives: DerivativeStats
    pool: PoolStatus
    transforms: dict[tuple[str, str], int]  # by what was done, and how it ended
    transform_durations: dict[str, Counted]  # seconds, by what was done
    uploads: dict[tuple[str, str], int]  # by how they ended, and by whom they came
    upload_bytes: int
    originals: int
    cache_hits: int
    cache_misses: int
    kept: Kept | None


class Figures:
    """Reads them. One for the appliance."""

    def __init__(
        self,
        data: DataDir,
        db: Database,
        derivs: DerivativeCache,
        pool: Pool,
        ingest: Ingest,
        serve: Serve,
        watch: RoomWatch,
        keeping: Keeping,
    ) -> None:
        self._data = data
        self._db = db
        self._derivs = derivs
        self._pool = pool
        self._ingest = ingest
        self._serve = serve
        self._watch = watch
        self._keeping = keeping

    async def read(self) -> Snapshot:
        """Return all of them; raises nothing, because what cannot be read is what they are looked at for."""
        backup_bytes, database_bytes = await asyncio.to_thread(self._sizes)
        pool, ingest, serve = self._pool, self._ingest, self._serve
        return Snapshot(
            totals=await self._totals(),
            database_bytes=database_bytes,
            backup_bytes=backup_bytes,
            rooms=self._watch.rooms,
            database=self._db.stats(),
            derivatives=self._derivs.stats(),
            pool=pool.status(),
            transforms=dict(pool.results),
            transform_durations={op: seen.counted() for op, seen in pool.durations.items()},
            uploads=dict(ingest.results),
            upload_bytes=ingest.stored_bytes,
            originals=serve.originals,
            cache_hits=serve.hits,
            cache_misses=serve.misses,
            kept=await self._kept(),
        )

    async def _totals(self) -> Totals | None:
        try:
            async with self._db.reader() as conn:
                return await queries.totals(conn)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the other figures may tell why
            log.warning("the totals of the database cannot be read: %s", problem)
            return None

    async def _kept(self) -> Kept | None:
        try:
            return await self._keeping.look()
        except Exception as problem:  # noqa: BLE001 - as above
            log.warning("how well pictures are kept cannot be read: %s", problem)
            return None

    def _sizes(self) -> tuple[int | None, int]:
        try:
            backups: int | None = room.copies(self._data.backups).bytes
        except OSError:
            backups = None
        return backups, room.database_bytes(self._data.database)
