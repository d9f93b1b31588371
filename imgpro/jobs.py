"""The schedule of housekeeping: which pass of `flows.upkeep` runs how often."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from imgpro.appliance import Appliance
from imgpro.errors import ImgproError
from imgpro.flows.scrub import STEP_S

log = logging.getLogger(__name__)

ROOM_S: Final = 2.0
JOURNAL_S: Final = 5.0
SOON_S: Final = 10.0
MINUTE_S: Final = 60.0
HOUR_S: Final = 3_600.0


class Jobs:
    """Runs every pass by its interval until stopped. A failing pass is logged and tried again next time."""

    def __init__(self, appliance: Appliance) -> None:
        self._schedule: tuple[tuple[str, float, Callable[[], Awaitable[object]]], ...] = (
            ("expire", MINUTE_S, appliance.upkeep.expire),
            ("watch_room", ROOM_S, appliance.room.look),
            ("go_on_deleting_accounts", SOON_S, appliance.leaving.go_on),
            ("clear_traces", SOON_S, appliance.traces.clear),
            ("apply_retention", HOUR_S, appliance.retention.apply),
            ("keep_journal", JOURNAL_S, appliance.journal.tend),
            ("note_key_uses", MINUTE_S, appliance.upkeep.note_key_uses),
            ("prune_logs", HOUR_S, appliance.upkeep.prune_logs),
            ("note_uses", 10 * MINUTE_S, appliance.upkeep.note_uses),
            ("scrub", STEP_S, appliance.scrub.step),
            ("backups", MINUTE_S, appliance.backups.keep_going),
            ("sweep_quarantine", 24 * HOUR_S, appliance.healing.sweep),
            ("sweep_orphans", 24 * HOUR_S, appliance.upkeep.sweep_orphans),
            ("maintain_database", 24 * HOUR_S, appliance.upkeep.maintain_database),
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; the first run of each pass comes one interval, at most an hour, after the start."""
        self._tasks = [asyncio.create_task(self._repeat(*row), name=f"job {row[0]}") for row in self._schedule]

    async def stop(self) -> None:
        """End; a pass under way is interrupted between its steps."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    async def _repeat(name: str, interval_s: float, run: Callable[[], Awaitable[object]]) -> None:
        await asyncio.sleep(min(interval_s, HOUR_S))
        while True:
            try:
                done = await run()
                if done:
                    log.info("%s: %s", name, done)
            except ImgproError as problem:
                log.warning("%s failed: %s", name, problem)
            except Exception:
                log.exception("%s failed", name)
            await asyncio.sleep(interval_s)
