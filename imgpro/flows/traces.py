"""Seeing to it that what was deleted is gone from the database's files too, soon and at little cost."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from imgpro.store import queries_keeping, room, traces
from imgpro.store.db import Database
from imgpro.store.layout import DataDir

log = logging.getLogger(__name__)

STEP_PAUSE_S: Final = 0.05  # between two steps of a merge: uploads get their turn
WAIT_PER_MERGE: Final = 50  # so many times as long as it took passes before the next: a fiftieth of the writer's time
WAIT_PER_REWRITE: Final = 500  # all writes wait for it
LONG_S: Final = 1.0  # a pause that uploaders notice: once a day is enough
MAX_WAIT_S: Final = 86_400.0
NO_ROOM_S: Final = 3_600.0
MAX_STEPS: Final = 100_000


class Traces:
    """Clears the files after deletions. One for the appliance."""

    def __init__(self, db: Database, data: DataDir) -> None:
        self._db = db
        self._data = data
        self._not_before_s = 0.0
        self._one = asyncio.Lock()

    async def clear(self, *, at_once: bool = False) -> int:
        """Clear what deletions since the last time left in the database's files; return how many those were.

        Nothing where none were, or where the last time was so costly that it is too soon; `at_once` does not wait.
        Raises StorageFault, StorageFull, Busy: then all is as it was, and the next call tries again.
        """
        async with self._one:
            if time.monotonic() < self._not_before_s and not at_once:
                return 0
            async with self._db.reader() as conn:
                count = await queries_keeping.traces_left(conn)
            if not count:
                return 0
            began_s = time.monotonic()
            await self._merge()
            merged_s = time.monotonic() - began_s
            rewritten_s = await self._rewrite()
            wait_s = merged_s * WAIT_PER_MERGE
            wait_s += NO_ROOM_S if rewritten_s is None else rewritten_s * WAIT_PER_REWRITE
            if rewritten_s is not None and rewritten_s > LONG_S:
                wait_s = MAX_WAIT_S
            self._not_before_s = time.monotonic() + min(wait_s, MAX_WAIT_S)
            folded = await self._db.between(traces.fold)
            if rewritten_s is None or not folded:
                return 0
            await self._db.write(lambda conn: queries_keeping.take_traces(conn, count))
            return count

    async def _merge(self) -> None:
        work: Callable[[Any], bool | None] = traces.begin_merge
        for _ in range(MAX_STEPS):
            if await self._db.write(work) is False:
                return
            work = traces.merge_step
            await asyncio.sleep(STEP_PAUSE_S if self._db.stats().queued else 0)

    async def _rewrite(self) -> float | None:
        """Write the database anew; return how long all others waited (seconds), None where there is no room for it."""
        database = self._data.database

        def lacking() -> int:
            return traces.room_wanted(database) - room.file_system(database.parent).free_bytes

        if await asyncio.to_thread(lacking) > 0:
            log.warning("there is no room to write the database anew: traces of what was deleted stay in it until then")
            return None
        began_s = time.monotonic()
        await self._db.between(lambda _: traces.rewrite(database))
        return time.monotonic() - began_s
