"""Holding database, originals, cache and the rest against each other: what disagrees is looked at twice, named, mended.

Looks in a process of its own while the server goes on. Knows nothing of HTTP or SQL.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from imgpro.errors import ImgproError
from imgpro.flows.errands import Progress
from imgpro.flows.healing import Healing, Outcome
from imgpro.flows.journal import Journaling
from imgpro.flows.remove import Remove
from imgpro.flows.scrub import Scrub, finding_of
from imgpro.flows.second_look import SecondLook
from imgpro.flows.upkeep import ORPHAN_GRACE_S
from imgpro.store import check_files, mending, queries, queries_keeping, queries_scrub
from imgpro.store.blobs import BlobStore
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.doubts import Doubt
from imgpro.store.findings import Finding, Findings
from imgpro.store.looks import BROKEN, Looks, look_at
from imgpro.store.side_process import SideProcess

REPAIR: Final = "imgpro check --repair"
BY_HAND: Final = "imgpro rebuild makes the database anew, imgpro backup restore takes one from a backup"

log = logging.getLogger(__name__)

More = Callable[[bool, bool, Progress], Awaitable[list[Finding]]]
"""A check of somebody else's: told whether to repair, and whether to look deeply."""


class Checkup:
    """One for the appliance."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        derivs: DerivativeCache,
        remove: Remove,
        healing: Healing,
        scrub: Scrub,
        journal: Journaling,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._derivs = derivs
        self._remove = remove
        self._healing = healing
        self._scrub = scrub
        self._journal = journal
        self._data = blobs.data
        self._looks = Looks(blobs.data, healing.quarantine, ORPHAN_GRACE_S)
        self._second = SecondLook(db, blobs, derivs, remove)
        self._more: list[More] = []

    def offer(self, check: More) -> None:
        """Have every check-up ask this too."""
        self._more.append(check)

    async def errand(self, values: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Look at everything; with `repair` mend what can be mended, with `deep` read all originals and words too.

        Answers with where the findings are, and how many are `left`. Raises StorageFault where the disk is not there.
        """
        repair, deep = bool(values.get("repair")), bool(values.get("deep"))
        await asyncio.to_thread(self._data.check_there)
        await self._journal.tend()  # what it would do by itself in a moment is nobody's business
        began_ms = _now_ms()
        await self._db.write(lambda conn: queries_keeping.note_began(conn, "check", began_ms))
        async with Findings(self._data.tmp) as findings:
            run = _Run(findings, progress, repair=repair, deep=deep)
            await self._look(run)
            if not run.broken:
                for check in self._more:
                    for finding in await check(repair, deep, progress):
                        await findings.add(finding)
                if deep:
                    await self._scrub.add_findings(findings, progress)
            backed_up = {} if run.broken else await self._backed_up()
            result = await findings.result(broken=run.broken, **await self._counted(), **backed_up)
        await self._note_ended(result)
        return result

    async def _counted(self) -> dict[str, int]:
        async with self._db.reader() as conn:
            totals = await queries.totals(conn)
        return {"images": totals.images, "blobs": totals.blobs, "bytes": totals.blob_bytes}

    async def _backed_up(self) -> dict[str, int | None]:
        """Return when the last good backup was made, and when one was last tried out well: none is looked into here."""
        async with self._db.reader() as conn:
            runs = await queries_keeping.last_runs(conn)
        made, tried = runs.get("backup"), runs.get("verify")
        return {
            "backup_made_ms": made.details.get("made_ms") if made is not None else None,
            "backup_tried_ms": tried.good_ms if tried is not None else None,
        }

    async def _note_ended(self, result: Mapping[str, Any]) -> None:
        found, left, now_ms = result["found"], result["left"], _now_ms()
        message = f"found wrong: {found:,}; left: {left:,}" if found else "nothing is wrong"
        kinds = dict(result["kinds"])
        await self._db.write(
            lambda conn: queries_keeping.note_ended(
                conn, "check", now_ms, good=not left, message=message, found=found, left=left, kinds=kinds
            )
        )
        log.info("check: %s", message)

    async def _look(self, run: "_Run") -> None:
        """Go through all looks."""
        blobs = (await self._counted())["blobs"]
        async with SideProcess("check") as side:
            for number, look in enumerate(self._looks.listed(deep=run.deep)):
                if run.broken and look.reads_database:
                    continue
                run.progress.begin(f"looking at {look.words}", blobs if look.counts_blobs else 0)
                walk = side.walk(look_at, self._data, ORPHAN_GRACE_S, number, run.deep)
                async with contextlib.aclosing(walk) as doubts:
                    async for seen in doubts:
                        if isinstance(seen, int):
                            run.progress.advance(seen)
                        else:
                            await self._weigh(seen, run)
        standing = self._journal.status()
        if standing.behind and "journal" not in run.findings.kinds:
            what = f"lacks something that the database has: {standing.reason}"
            await self._weigh(Doubt("journal", "journal", what, "journal"), run)

    async def _weigh(self, doubt: Doubt, run: "_Run") -> None:
        """Look a second time, and mend it if that is asked for."""
        run.broken |= doubt.mend == "" and BROKEN in doubt.what
        if doubt.mend == "blob" and run.deep:
            return  # these are named when all originals are read
        if not await self._second.confirms(doubt):
            return
        finding = Finding(doubt.kind, doubt.where, doubt.what, todo=doubt.todo or (REPAIR if doubt.mend else BY_HAND))
        if run.repair and doubt.mend:
            try:
                finding = await self._mended(doubt, finding)
            except ImgproError as problem:
                finding = replace(finding, todo=f"{problem} {problem.action.label or ''}".strip())
        elif doubt.mend == "blob":
            async with self._db.reader() as conn:
                named = await queries_scrub.named(conn, doubt.subject[0])
            finding = replace(finding, count=named.count, pictures=named.first)
        await run.findings.add(finding)

    async def _mended(self, doubt: Doubt, finding: Finding) -> Finding:
        """Mend it and say so; raises what kept it from being mended."""
        if doubt.mend in ("blob", "note"):
            return await self._healed(doubt.subject[0], finding)
        done = await self._do(doubt)
        return replace(finding, done=done, todo="" if done else BY_HAND)

    async def _do(self, doubt: Doubt) -> str:
        if doubt.mend in mending.WORK:
            done = await self._db.write(lambda conn: mending.mend(conn, doubt))
            if doubt.mend == "blob_row":
                await self._remove.blob_if_unreferenced(doubt.subject[0])
            return done
        if doubt.mend == "journal":
            await self._journal.renew()
            return "it was written anew"
        if doubt.mend in ("orphan", "derivative"):
            return await self._removed(*doubt.subject)
        return await asyncio.to_thread(self._on_disk, doubt)

    async def _removed(self, digest: str, *bad: bool) -> str:
        if any(bad):
            await self._derivs.drop(digest)
            return "what was made of this picture was removed; it is made again"
        return "it was removed" if await self._remove.blob_if_unreferenced(digest) else ""

    def _on_disk(self, doubt: Doubt) -> str:
        self._data.check_there()
        (name,) = doubt.subject
        if doubt.mend == "quarantine":
            self._healing.quarantine.discard(name)
            return "it was removed"
        if doubt.mend == "stray":
            place = self._healing.quarantine.take_other(Path(name))
            return f"it was moved to {place.relative_to(self._data.root)}" if place is not None else "it is gone"
        return check_files.tidy(Path(name), doubt.mend)

    async def _healed(self, digest: str, finding: Finding) -> Finding:
        outcome = await self._healing.judge(digest)
        await self._healing.note([outcome or Outcome(digest, None, "", "the note was removed")])
        if outcome is None:
            return replace(finding, done="the note was removed", todo="")
        if outcome.damage is None:
            return replace(finding, done=outcome.done, todo="")
        async with self._db.reader() as conn:
            return finding_of(outcome, await queries_scrub.named(conn, digest))


class _Run:
    """One check-up under way."""

    def __init__(self, findings: Findings, progress: Progress, *, repair: bool, deep: bool) -> None:
        self.findings = findings
        self.progress = progress
        self.repair = repair
        self.deep = deep
        self.broken = False  # the database cannot be read on


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
