"""Reading all originals again: what the disk has changed or lost is found, served no more, and put back if possible.

A rolling round goes on by small steps; the operator may ask for a whole one at once. Knows nothing of HTTP or SQL.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from imgpro.errors import Action, StorageFault
from imgpro.flows.errands import Progress
from imgpro.flows.healing import Healing, Outcome
from imgpro.forms import counted
from imgpro.settings import Scrub as ScrubSettings
from imgpro.store import queries, queries_keeping, queries_scrub
from imgpro.store.blobs import BlobStore
from imgpro.store.db import Database
from imgpro.store.doubts import place_of
from imgpro.store.findings import Finding, Findings
from imgpro.store.queries_scrub import Named, Round
from imgpro.store.rereading import Pace, Spell, read_beside, read_page
from imgpro.store.side_process import SideProcess
from imgpro.store.side_thread import SideThread

STEP_S: Final = 600.0
PAGE: Final = 512
MOST_IN_A_ROW: Final = 50
LOST: Final = "upload the same file again, or have a backup that has it"

log = logging.getLogger(__name__)


class Scrub:
    """Finds bad originals. One for the appliance."""

    def __init__(self, settings: ScrubSettings, db: Database, blobs: BlobStore, healing: Healing) -> None:
        self._settings = settings
        self._db = db
        self._blobs = blobs
        self._healing = healing
        self._busy = asyncio.Lock()

    def apply(self, settings: ScrubSettings) -> None:
        """Take other settings, from the next step on."""
        self._settings = settings

    async def step(self) -> str:
        """Read as many originals as are due in one step of the rolling round, and try again to heal what is damaged.

        Returns words about what was bad. Raises StorageFault where so many in a row are bad, and none can be put
        back, that it must be something else than a few bad sectors.
        """
        if self._busy.locked():
            return ""
        async with self._busy:
            healed = await self._healing.try_again()
            words = [f"{counted(healed, 'damaged original')} whole again"] if healed else []
            if self._settings.every_s is not None:
                words += await self._step(self._settings.every_s)
            return "; ".join(words)

    async def errand(self, values: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Read all originals again now, or with `rest` those that the round under way has not come to.

        `rate` is how many bytes are read a second at most (None: any number). Answers with where the findings are.
        """
        async with self._busy, Findings(self._blobs.data.tmp) as findings:
            found = await self._whole(findings, progress, values.get("rate"), rest=bool(values.get("rest")))
            async with self._db.reader() as conn:
                left = await queries_keeping.damaged_count(conn)
            return await findings.result(left=left, checked=found.checked, bytes=found.bytes, healed=found.healed)

    async def add_findings(self, findings: Findings, progress: Progress) -> None:
        """Read all originals again now, and add what is bad."""
        async with self._busy:
            await self._whole(findings, progress, None, rest=False)

    async def _step(self, every_s: int) -> list[str]:
        async with self._db.reader() as conn:
            totals = await queries.totals(conn)
        now = await self._begun(rest=True)
        bad_before, until = now.bad, now.checked + math.ceil(totals.blobs / max(1.0, every_s / STEP_S))
        blobs = self._blobs.data.blobs
        async with SideThread("scrub") as side:  # so little is due at a time that a process would cost more
            pace = Pace(self._settings.max_rate_bytes, side.stop)
            while now.checked < until:
                page = await self._page(now.cursor, min(PAGE, until - now.checked))
                if not page:
                    await self._ended(now)
                    break
                reading = side.run(partial(read_page, blobs, page, pace, MOST_IN_A_ROW))
                spell, outcomes = await self._judged(reading)
                now = await self._noted(now, page, spell, outcomes)
                fresh = [outcome for outcome in outcomes[-spell.row :] if not outcome.healed and not outcome.known]
                if spell.row >= MOST_IN_A_ROW and len(fresh) >= MOST_IN_A_ROW:
                    raise _too_many(len(fresh))
        return [f"{counted(now.bad - bad_before, 'original')} damaged"] if now.bad > bad_before else []

    async def _whole(self, findings: Findings, progress: Progress, rate_bytes: int | None, *, rest: bool) -> Round:
        now = await self._begun(rest=rest)
        async with self._db.reader() as conn:
            totals = await queries.totals(conn)
        progress.begin("reading originals again", totals.blob_bytes, "bytes")
        progress.advance(now.bytes)
        async with SideProcess("scrub") as side:
            while page := await self._page(now.cursor, PAGE):
                reading = side.run(read_beside, self._blobs.data.blobs, page, rate_bytes, MOST_IN_A_ROW)
                spell, outcomes = await self._judged(reading)
                now = await self._noted(now, page, spell, outcomes)
                progress.advance(spell.bytes)
                for outcome in outcomes:
                    await findings.add(await self._finding(outcome))
        await self._ended(now)
        return now

    async def _begun(self, *, rest: bool) -> Round:
        """Return the round under way, or begin one."""
        if rest:
            async with self._db.reader() as conn:
                found = await queries_scrub.round_under_way(conn)
            if found is not None:
                return found
        begun = Round(_now_ms())
        await self._db.write(lambda conn: queries_keeping.note_began(conn, "scrub", begun.began_ms))
        return begun

    async def _ended(self, now: Round) -> None:
        async with self._db.reader() as conn:
            left = await queries_keeping.damaged_count(conn)
        message = f"{counted(now.checked, 'original')} read again: {f'{left:,} damaged' if left else 'all are whole'}"
        now_ms = _now_ms()

        def write(conn: Any) -> None:
            queries_scrub.note_round(conn, None)
            queries_keeping.note_ended(
                conn,
                "scrub",
                now_ms,
                good=not left,
                message=message,
                checked=now.checked,
                bytes=now.bytes,
                bad=now.bad,
                healed=now.healed,
                left=left,
                whole_round_ms=now_ms,
            )

        await self._db.write(write)
        log.info("scrub: %s", message)

    async def _page(self, cursor: str, limit: int) -> list[tuple[str, int]]:
        async with self._db.reader() as conn:
            return await queries_scrub.digests_after(conn, cursor, limit)

    async def _judged(self, reading: Awaitable[Spell]) -> tuple[Spell, list[Outcome]]:
        """Read for a while, and judge what seems bad."""
        spell = await reading
        judged = [await self._healing.judge(digest) for digest in spell.bad]
        return spell, [outcome for outcome in judged if outcome is not None]

    async def _noted(
        self, now: Round, page: Sequence[tuple[str, int]], spell: Spell, outcomes: Sequence[Outcome]
    ) -> Round:
        """Write down what was found, and how far the round has come."""
        await self._healing.note(outcomes)
        after = Round(
            now.began_ms,
            page[spell.checked - 1][0],
            now.checked + spell.checked,
            now.bytes + spell.bytes,
            now.bad + len(outcomes),
            now.healed + sum(outcome.healed for outcome in outcomes),
        )
        await self._db.write(lambda conn: queries_scrub.note_round(conn, after))
        return after

    async def _finding(self, outcome: Outcome) -> Finding:
        async with self._db.reader() as conn:
            named = await queries_scrub.named(conn, outcome.digest)
        return finding_of(outcome, named)


def finding_of(outcome: Outcome, named: Named) -> Finding:
    """Return the line about a bad blob and its pictures."""
    return Finding(
        kind="damaged" if outcome.damage != "missing" else "missing",
        where=place_of(outcome.digest),
        what=outcome.words,
        done=outcome.done,
        todo="" if outcome.done else LOST,
        count=named.count,
        pictures=named.first,
    )


def _too_many(count: int) -> StorageFault:
    return StorageFault(
        f"{count} originals in a row are missing or damaged, and no backup has them: this is no bad sector.",
        Action("fix", label="Look at the disk; then `imgpro scrub` reads all of them and names what is lost"),
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
