"""What becomes of a bad original: taken out of the way, noted, dropped from memory, and put back from a backup.

Derivatives that were made of it stay until it is whole again: they are good pictures, or were made after the disk had
changed it, and nobody can tell which. Knows nothing of HTTP or SQL.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from imgpro.errors import ImgproError
from imgpro.flows.hot import HotPictures
from imgpro.flows.making import Making
from imgpro.store import queries_keeping, queries_scrub, rereading
from imgpro.store.blobs import BlobStore, Spool
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.quarantine import KEPT_S, Quarantine
from imgpro.store.rereading import Damage, Verdict

PAGE: Final = 200
TRIES: Final = 200  # how many damaged ones are looked for in backups in one go
LOOKED_AT_S: Final = 600.0
MAX_SUSPECTS: Final = 1_000

log = logging.getLogger(__name__)

Fetch = Callable[[str, Spool], Awaitable[bool]]
"""Pours an original into a spool; False where it has none. What was poured is checked by whoever asked."""


class Outcome(msgspec.Struct, frozen=True):
    """What was found about a blob that is bad, or was. `damage` is None where it is whole after all; `done` says how it
    became whole; `known`: it was noted as damaged before."""

    digest: str
    damage: Damage | None
    words: str
    done: str = ""
    known: bool = False

    @property
    def healed(self) -> bool:
        """Tell whether it is whole now."""
        return bool(self.done)


class Healing:
    """One for the appliance. `fetch` is where whole originals come from, asked with the digest; set by who has them."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        derivs: DerivativeCache,
        hot: HotPictures,
        making: Making,
        quarantine: Quarantine,
    ) -> None:
        self.fetch: Fetch | None = None
        self.quarantine = quarantine
        self._db = db
        self._blobs = blobs
        self._derivs = derivs
        self._hot = hot
        self._making = making
        self._cursor = ""
        self._refusal = ""
        self._suspects: OrderedDict[str, float] = OrderedDict()  # when each was last looked at; monotonic seconds
        self._waiting: list[str] = []
        self._looking: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Break off looking at suspects."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def suspect(self, digest: str) -> None:
        """Say that a blob is missing or does not look like what it should be: it is looked at in the background."""
        now_s = time.monotonic()
        if now_s - self._suspects.get(digest, float("-inf")) < LOOKED_AT_S or len(self._waiting) >= MAX_SUSPECTS:
            return
        self._suspects[digest] = now_s
        self._suspects.move_to_end(digest)
        while len(self._suspects) > MAX_SUSPECTS:
            self._suspects.popitem(last=False)
        self._waiting.append(digest)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_at_suspects(), name="look at suspects")

    async def judge(self, digest: str) -> Outcome | None:
        """Look at a blob that seems bad; if it is, take it out of the way and put a whole one in its place if there is
        one. None where nothing is wrong, or nothing refers to it any more. `note` what it returns.

        Raises StorageFault where the disk is not there, or refuses.
        """
        async with self._blobs.guard(digest):
            size = await self._db.write(lambda conn: queries_scrub.stored_bytes(conn, digest))
            if size is None:
                return None
            async with self._db.reader() as conn:
                known = await queries_scrub.damage_of(conn, digest)
            path = self._blobs.path(digest)
            # Said once it is said twice: the first look was without the guard.
            verdict = await asyncio.to_thread(rereading.read_again, path, digest, size)
            if verdict.damage is None and known:
                # Somebody put it back by hand, or a crash came between that and the note.
                await self._derivs.drop(digest)
            if verdict.damage is None:
                return Outcome(digest, None, "was damaged", "it is whole again", known=True) if known else None
            return await self._bad(digest, size, verdict, known)

    async def note(self, outcomes: Sequence[Outcome]) -> None:
        """Write down what was found, of those blobs that still have a picture."""
        if not outcomes:
            return
        now_ms = time.time_ns() // 1_000_000

        def write(conn: Any) -> None:
            for outcome in outcomes:
                if outcome.healed or queries_scrub.stored_bytes(conn, outcome.digest) is None:
                    queries_keeping.note_whole(conn, outcome.digest)
                elif outcome.damage is not None:
                    queries_keeping.note_damage(conn, outcome.digest, outcome.damage, now_ms)

        await self._db.write(write)

    async def try_again(self) -> int:
        """Look again at blobs that are damaged, a part of them where there are many; return how many are whole now."""
        whole = 0
        for _ in range(TRIES // PAGE):
            async with self._db.reader() as conn:
                page = await queries_scrub.damaged_after(conn, self._cursor, PAGE)
            outcomes = []
            for digest in page:
                outcome = await self.judge(digest)
                outcomes.append(outcome or Outcome(digest, None, "was damaged", "no picture has it"))
            await self.note(outcomes)
            whole += sum(outcome.healed for outcome in outcomes)
            self._cursor = page[-1] if len(page) == PAGE else ""
        return whole

    async def sweep(self) -> int:
        """Remove what is kept of pictures that were deleted, and of those that have been whole for long; return how
        many went."""
        removed = 0
        for kept in await asyncio.to_thread(lambda: list(self.quarantine.kept())):
            async with self._blobs.guard(kept.digest):
                size = await self._db.write(partial(queries_scrub.stored_bytes, digest=kept.digest))
                if size is not None:
                    async with self._db.reader() as conn:
                        damaged = await queries_scrub.damage_of(conn, kept.digest) is not None
                    if damaged or time.time() - kept.since_s < KEPT_S:
                        continue
                removed += await asyncio.to_thread(self.quarantine.discard, kept.digest)
        return removed

    async def _bad(self, digest: str, size: int, verdict: Verdict, known: Damage | None) -> Outcome:
        assert verdict.damage is not None
        damage = verdict.damage
        if damage == "missing":
            await asyncio.to_thread(self._blobs.data.check_there)
            if known not in (None, damage):  # it was taken away for what it was
                verdict = Verdict(known, "is in quarantine/")
                damage = known
        else:
            await asyncio.to_thread(self.quarantine.take, self._blobs.path(digest), digest)
        self._making.forbid(digest)
        await self._forget(digest)
        done = await self._heal(digest, size, damage)
        if done:
            log.warning("the original %s was damaged (it %s); %s", digest, verdict.words, done)
        elif known is None:
            log.error("the original %s is damaged: it %s, and could not be put back", digest, verdict.words)
        return Outcome(digest, damage, verdict.words, done, known is not None)

    async def _heal(self, digest: str, size: int, damage: Damage) -> str:
        """Put a whole original in place, durably, and say how; nothing if there is none, or no room for it."""
        back = partial(self.quarantine.give_back, digest, size, self._blobs.path(digest))
        if await asyncio.to_thread(back):  # what could not be read may be readable now
            await self._drop_derivatives(digest, damage)
            return "it can be read again"
        if self.fetch is None:
            return ""
        try:
            async with self._blobs.spool(size) as spool:
                if not await self.fetch(digest, spool):
                    return ""
                staged = await spool.finish()
                if staged.digest != digest or staged.size != size:
                    log.error("the copy of the original %s in a backup is damaged as well", digest)
                    return ""
                # Before: after a crash in between the original would be whole, and nobody look at them again.
                await self._drop_derivatives(digest, damage)
                await self._blobs.adopt(staged)
        except ImgproError as problem:
            if str(problem) != self._refusal:  # the same of a thousand is said once
                log.warning("the original %s could not be put back: %s", digest, problem)
            self._refusal = str(problem)
            return ""
        return "it was put back from a backup"

    async def _drop_derivatives(self, digest: str, damage: Damage) -> None:
        # Some may have been made of the bad bytes, also where those were set aside and a crash came before the note.
        if damage != "missing" or await asyncio.to_thread(self.quarantine.has, digest):
            await self._derivs.drop(digest)

    async def _forget(self, digest: str) -> None:
        """Drop the pictures of a blob from memory."""
        after = ""
        while True:
            async with self._db.reader() as conn:
                page = await queries_scrub.images_of(conn, digest, after, PAGE)
            for image_id, _ in page:
                self._hot.forget(image_id)
            if len(page) < PAGE:
                return
            after = page[-1][0]

    async def _look_at_suspects(self) -> None:
        while self._waiting:
            digest = self._waiting.pop(0)
            try:
                outcome = await self.judge(digest)
                await self.note([outcome] if outcome is not None else [])
            except ImgproError as problem:
                log.warning("the original %s could not be looked at: %s", digest, problem)
            except Exception:
                log.exception("the original %s could not be looked at", digest)
