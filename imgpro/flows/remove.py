"""Deleting: after it nothing serves the picture again, from memory, cache or disk."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from imgpro.errors import StorageFault, StorageFull
from imgpro.flows.events import Events
from imgpro.flows.hot import HotPictures
from imgpro.flows.keyring import still_usable
from imgpro.flows.making import Making
from imgpro.flows.records import Records
from imgpro.model import Principal
from imgpro.store import queries, queries_retention
from imgpro.store.ballast import Ballast
from imgpro.store.blobs import BlobStore
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.quarantine import Quarantine
from imgpro.store.queries import Deletion
from imgpro.store.queries_retention import Rule

log = logging.getLogger(__name__)

AT_ONCE: Final = 8  # blobs of one deletion: each waits for threads in turn


class Remove:
    """Takes images out of database, memory and disk, in that order."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        derivs: DerivativeCache,
        records: Records,
        hot: HotPictures,
        making: Making,
        ballast: Ballast,
        events: Events,
        quarantine: Quarantine,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._derivs = derivs
        self._records = records
        self._hot = hot
        self._making = making
        self._ballast = ballast
        self._events = events
        self._quarantine = quarantine
        self._going: Counter[str] = Counter()

    def is_going(self, digest: str) -> bool:
        """Tell whether bytes that no image refers to any more are about to be unlinked."""
        return digest in self._going

    async def images(self, image_ids: Sequence[str]) -> int:
        """Delete images by id and return how many there were. Bytes go when their last image goes."""
        return await asyncio.shield(asyncio.ensure_future(self._images(image_ids)))

    async def expired(self, image_ids: Sequence[str], now_ms: int) -> int:
        """Delete those of the images that have ended by `now_ms`, and return how many."""
        return await asyncio.shield(asyncio.ensure_future(self._expired(image_ids, now_ms)))

    async def by_rule(self, rule: Rule, image_ids: Sequence[str], now_ms: int) -> int:
        """Delete those of the images that a retention rule still matches at `now_ms`, and return how many."""
        return await asyncio.shield(asyncio.ensure_future(self._by_rule(rule, image_ids, now_ms)))

    async def owned(self, image_ids: Sequence[str], principal: Principal) -> int:
        """Delete those of the images that are this principal's, and return how many."""
        return await asyncio.shield(asyncio.ensure_future(self._owned(image_ids, principal)))

    async def postpone(self, image_ids: Sequence[str], begin_ms: int) -> None:
        """Count the time of pictures from `begin_ms` (Unix ms) instead of from their upload."""
        await self._db.write(lambda conn: queries.postpone_ends(conn, image_ids, begin_ms))
        for image_id in image_ids:
            self._records.forget(image_id)
            self._hot.forget(image_id)

    async def blob_if_unreferenced(self, digest: str) -> bool:
        """Unlink a blob and its derivatives unless an image refers to it. Return whether it went.

        The guard keeps an upload of the same bytes from being adopted between the look and the unlink.
        """
        async with self._blobs.guard(digest):
            if await self._db.write(lambda conn: queries.blob_exists(conn, digest)):
                return False
            self._making.forbid(digest)
            await self._derivs.drop(digest)
            await self._blobs.remove(digest)
            await self._blobs.run(lambda: self._quarantine.discard(digest))
        return True

    # Carried through when the caller goes away: rows that are gone while memory still shows them are the one thing
    # that must not be.

    async def _images(self, image_ids: Sequence[str]) -> int:
        return await self._clear(await self._write(lambda conn: queries.delete_images(conn, image_ids)))

    async def _owned(self, image_ids: Sequence[str], principal: Principal) -> int:
        now_ms = time.time_ns() // 1_000_000
        return await self._clear(
            await self._write(lambda conn: queries.delete_owned(conn, image_ids, still_usable(conn, principal), now_ms))
        )

    async def _expired(self, image_ids: Sequence[str], now_ms: int) -> int:
        return await self._clear(await self._write(lambda conn: queries.delete_expired(conn, image_ids, now_ms)))

    async def _by_rule(self, rule: Rule, image_ids: Sequence[str], now_ms: int) -> int:
        return await self._clear(
            await self._write(lambda conn: queries_retention.delete_by_rule(conn, rule, image_ids, now_ms))
        )

    async def _write(self, function: Callable[[Any], list[Deletion]]) -> list[Deletion]:
        """Write what makes room, even where there is none: then the ballast goes."""
        try:
            return await self._db.write(function)
        except StorageFull:
            if not await asyncio.to_thread(self._ballast.release):
                raise
        log.warning("the disk is full; its ballast was given up so that pictures can be deleted")
        return await self._db.write(function)

    async def _clear(self, deletions: Sequence[Deletion]) -> int:
        """Follow the rows: memory at once, then the bytes that nothing refers to any more."""
        for deletion in deletions:
            self._records.forget(deletion.id)
            self._hot.forget(deletion.id)
            self._events.deleted(deletion.account, deletion.key, deletion.id)
        going = Counter({deletion.digest for deletion in deletions if deletion.last})
        self._going += going  # before anything is awaited: there is no moment in which they look forgotten
        try:
            waiting = set(going)
            await asyncio.gather(*(self._clear_blobs(waiting) for _ in range(min(AT_ONCE, len(waiting)))))
        finally:
            self._going -= going
        return len(deletions)

    async def _clear_blobs(self, waiting: set[str]) -> None:
        while waiting:
            try:
                await self.blob_if_unreferenced(waiting.pop())
            except StorageFault as problem:
                # Nothing serves it any more. The bytes go with the daily sweep, once the disk lets them.
                log.warning("the bytes of a deleted picture are still on the disk: %s", problem)
