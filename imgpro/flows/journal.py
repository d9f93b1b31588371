"""When the journal of metadata is written anew: because it lacks something, grew long, or holds what was deleted.

Knows neither its files nor its tables.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from imgpro.errors import ImgproError, StorageFault
from imgpro.flows.errands import Progress
from imgpro.store import durable, journal_snapshot
from imgpro.store.db import Database
from imgpro.store.journal import Journal, JournalStatus
from imgpro.store.layout import DataDir
from imgpro.store.sqlite_faults import translated

log = logging.getLogger(__name__)

TAIL_BYTES: Final = 4 * 1024 * 1024  # shorter tails are never too long
FORGET_S: Final = 60.0
DAY_S: Final = 86_400.0
SHARE: Final = 20  # at most this part of the time goes into forgetting
BYTES_PER_S: Final = 64 * 1024  # written for forgetting, in the mean: 5 GB a day at most, whatever is stored
WAIT_S: Final = 30.0  # after a failure, doubled by each further one
LONGEST_WAIT_S: Final = 1_800.0


class Journaling:
    """Keeps the journal short and true. One for the appliance."""

    def __init__(self, db: Database, data: DataDir, journal: Journal) -> None:
        self._db = db
        self._data = data
        self._journal = journal
        self._turn = asyncio.Lock()
        self._ended_s = time.monotonic()
        self._pause_s = FORGET_S
        self._failures = 0

    def status(self) -> JournalStatus:
        """Return how the journal stands."""
        return self._journal.status()

    @property
    def failing(self) -> bool:
        """Tell whether it could not be written anew when that was tried last."""
        return self._failures > 0

    def due(self) -> bool:
        """Tell whether it should be written anew now."""
        found = self.status()
        since_s = time.monotonic() - self._ended_s
        if self._failures:
            return bool(since_s >= min(LONGEST_WAIT_S, WAIT_S * 2.0 ** (self._failures - 1)))
        if found.behind or found.tail_bytes > max(TAIL_BYTES, found.snapshot_bytes):
            return True
        return found.overtaken and since_s >= self._pause_s

    async def tend(self) -> None:
        """Write it anew if that is due. A failure is logged once, until it works again."""
        if not self.due():
            return
        try:
            await self.renew()
        except ImgproError as problem:
            if self._failures == 1:
                log.warning("the journal of metadata could not be written anew: %s", problem)

    async def errand(self, _: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Write it anew because somebody asked for it."""
        written = await self.renew(progress)
        return {"rows": written.rows, "bytes": written.bytes}

    async def renew(self, progress: Progress | None = None) -> journal_snapshot.Written:
        """Write a snapshot of what is there now and remove everything older: what was changed or deleted before this
        was called is in no file of the journal afterwards.

        Raises StorageFault, StorageFull, DataUnusable, Busy; the older files are then still there.
        """
        async with self._turn:
            began_s = time.monotonic()
            try:
                written = await self._renew(progress or Progress())
            except BaseException:
                self._journal.overtake()
                self._failures += 1
                raise
            else:
                self._failures = 0
            finally:
                self._ended_s = time.monotonic()
            took_s = self._ended_s - began_s
            self._pause_s = min(DAY_S, max(FORGET_S, SHARE * took_s, written.bytes / BYTES_PER_S))
            return written

    async def _renew(self, progress: Progress) -> journal_snapshot.Written:
        await asyncio.to_thread(self._data.check_there)
        await self._db.write(self._journal.begin_tail)
        place = self._journal.place()
        if place is None:
            raise StorageFault(f"{self._data.journal}: {self.status().reason}.")
        number, faults = place
        progress.begin("writing down all rows")
        stop = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(self._work, number, faults, stop, progress))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([work])
            raise

    def _work(self, number: int, faults: int, stop: threading.Event, progress: Progress) -> journal_snapshot.Written:
        journal = self._journal

        try:
            journal.sync()
            written = journal_snapshot.write(
                self._data.database, journal.folder, partial(journal.snapshot_header, number), stop, progress.advance
            )
            journal.replace_with(number, faults, written.bytes)
        except OSError as error:
            raise durable.write_fault(error, "writing the journal") from error
        except journal_snapshot.Stopped:
            raise StorageFault("Writing the journal anew was broken off.") from None
        except Exception as error:
            raise translated(error) from error
        return written
