"""Keeping house: expired images, orphaned blobs and old log rows go; the clock is not trusted blindly.

Each function is one pass, used by the schedule and the command line alike. Expiry is exact where pictures are
served; here only the bytes are cleared away, so being late is harmless and being early is not.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from imgpro.errors import Action, StorageFault
from imgpro.flows.keyring import KeyRing
from imgpro.flows.remove import Remove
from imgpro.store import copies, durable, journal_ahead, queries, queries_accounts
from imgpro.store.blobs import BlobStore
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.layout import DataDir, Presence

log = logging.getLogger(__name__)

BATCH: Final = 200
CLOCK_SLACK_S: Final = 300.0
SETTLE_S: Final = 600.0
ABSENCE_S: Final = 7 * 86_400.0
DOUBT_S: Final = 86_400.0
LOOK_S: Final = 2.0
FIRST_MS: Final = 1_767_225_600_000  # no picture was uploaded before the year of the first imgpro
NOTE_CLOCK_S: Final = 3_600.0
PENDING_KEPT_MS: Final = 7 * 86_400_000
COPIES_KEPT_S: Final = 30 * 86_400.0  # they hold what was deleted since
ORPHAN_GRACE_S: Final = 86_400.0


class ClockWatch:
    """Tells whether the wall clock has moved in step with the monotonic one.

    A box without a battery clock boots in 1970 and jumps decades when NTP answers; a wrong jump forward must
    not delete every picture that has an end. After a jump, expiry waits until the clock has been steady for
    `SETTLE_S`. A clock that is more than a week away from the last time that was found good, in this run or before it,
    waits for `DOUBT_S`: the box was off that long, or the clock is or was wrong, and only a person can tell. The
    operator sees a warning and has that long to set it right.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = self._good_offset = wall() - monotonic()
        self._steady_since = monotonic()
        self._doubted_until = monotonic()

    def compare(self, good_s: float) -> None:
        """Hold the wall clock against the last time (Unix seconds) that was found good before this start."""
        now = self._monotonic()
        self._good_offset = good_s - now
        self._judge(self._wall() - now, now)

    def steady(self) -> bool:
        """Look at both clocks; return whether wall time can be trusted for deleting."""
        now = self._monotonic()
        offset = self._wall() - now
        if abs(offset - self._offset) > CLOCK_SLACK_S:
            log.warning(
                "the clock jumped by %.0f s; nothing is cleared away for %.0f s", offset - self._offset, SETTLE_S
            )
            self._steady_since = now
            self._judge(offset, now)
        self._offset = offset
        if now - self._steady_since < SETTLE_S or now < self._doubted_until:
            return False
        self._good_offset = offset
        return True

    def _judge(self, offset: float, now: float) -> None:
        """Doubt a clock that is far from what was good; one that came back is doubted no more."""
        ahead_s = offset - self._good_offset
        self._doubted_until = now
        if abs(ahead_s) > ABSENCE_S:
            way = "ahead of" if ahead_s > 0 else "behind"
            log.warning(
                "the clock is %.0f days %s the last good time; nothing is cleared away for a day",
                abs(ahead_s) / 86_400,
                way,
            )
            self._doubted_until = now + DOUBT_S


class DataWatch:
    """Looks whether the data directory is still the one that was opened, while the server runs.

    One that went away may come back as it was, and all goes on. One in whose place another lies does not: what is
    open belongs to what was there before, and only a new start can tell what is right.
    """

    def __init__(self, data: DataDir, interval_s: float = LOOK_S) -> None:
        self._data = data
        self._interval_s = interval_s

    async def exchanged(self) -> StorageFault:
        """Wait until another data directory lies at the path; return what to stop with."""
        before = Presence.THERE
        while True:
            await asyncio.sleep(self._interval_s)
            found = await asyncio.to_thread(self._data.look)
            if found is before:
                if found is Presence.EXCHANGED:  # seen twice: not the middle of two renames
                    return StorageFault(
                        f"Another data directory took the place of {self._data.root}, or of its database.",
                        Action("fix", label="Start imgpro again"),
                    )
                continue
            before = found
            if found is Presence.GONE:
                log.error("the data directory %s is gone; uploads are refused until it is back", self._data.root)
            elif found is Presence.THERE:
                log.warning("the data directory %s is back", self._data.root)


class Upkeep:
    """The passes. One for the appliance."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        derivs: DerivativeCache,
        remove: Remove,
        ring: KeyRing,
        clock: ClockWatch | None = None,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._derivs = derivs
        self._remove = remove
        self._ring = ring
        self._clock = clock or ClockWatch()
        self._clock_compared = False
        self._clock_noted_s = float("-inf")

    async def expire(self) -> int:
        """Delete images whose time is over, in batches. Return how many went; none while the clock is in doubt."""
        await self._spare_the_early()
        if not await self.clock_is_good():
            return 0
        deleted = 0
        while True:
            async with self._db.reader() as conn:
                ids = await queries.expired_images(conn, _now_ms(), BATCH)
            if not ids:
                return deleted
            deleted += await self._remove.expired(ids, _now_ms())

    async def _spare_the_early(self) -> None:
        """Let pictures that came while the clock had not been set live as long as they were meant to, from now on."""
        now_ms = _now_ms()
        if now_ms < FIRST_MS:
            return
        async with self._db.reader() as conn:
            ids = await queries.expired_images(conn, FIRST_MS, BATCH)
        while ids:
            log.warning("%d pictures came before the clock was set; their ends are counted from now", len(ids))
            await self._remove.postpone(ids, now_ms)
            async with self._db.reader() as conn:
                ids = await queries.expired_images(conn, FIRST_MS, BATCH)

    async def clock_is_good(self) -> bool:
        """Tell whether wall time can be trusted for deleting."""
        if not self._clock_compared:
            async with self._db.reader() as conn:
                good_ms = await queries.good_clock_ms(conn)
            if good_ms is not None:
                self._clock.compare(good_ms / 1000)
            self._clock_compared = True
        if not self._clock.steady():
            return False
        if time.monotonic() - self._clock_noted_s >= NOTE_CLOCK_S:
            now_ms = _now_ms()
            await self._db.write(lambda conn: queries.note_good_clock(conn, now_ms))
            self._clock_noted_s = time.monotonic()
        return True

    async def sweep_orphans(self, grace_s: float = ORPHAN_GRACE_S) -> int:
        """Unlink what no image refers to: blobs older than `grace_s`, and derivatives. Return how many pictures went.

        A kill between the steps of a deletion leaves such things behind. Nothing while a journal is set aside: it
        names originals that the database does not know.
        """
        await asyncio.to_thread(self._blobs.data.check_there)
        if await asyncio.to_thread(self._journal_is_aside):
            return 0
        removed = 0
        limit = time.time() - grace_s
        batch: list[str] = []
        async for blob in self._blobs.iterate():
            if blob.mtime_s < limit:
                batch.append(blob.digest)
            if len(batch) >= BATCH:
                removed += await self._remove_unknown(batch)
                batch.clear()
        removed += await self._remove_unknown(batch)
        cached = await self._derivs.digests()
        for start in range(0, len(cached), BATCH):
            removed += await self._remove_unknown(cached[start : start + BATCH])
        return removed

    def _journal_is_aside(self) -> bool:
        folder = self._blobs.data.journal
        try:
            journal_ahead.drop_asides(folder, now_s=time.time())
            return bool(journal_ahead.asides(folder))
        except OSError as error:
            raise durable.fault(error, "looking for journals that were set aside") from error

    async def prune_logs(self) -> None:
        """Forget uploads that no window looks at, answers that nobody may ask for again, links and keys that ended.

        And those that a wrong clock put into the future. Nothing while the clock is in doubt.
        """
        if not await self.clock_is_good():
            return
        now_ms = _now_ms()
        await self._db.write(lambda conn: queries.prune_upload_log(conn, now_ms))
        await self._db.write(lambda conn: queries.prune_replays(conn, now_ms))
        await self._db.write(lambda conn: queries_accounts.prune_links(conn, now_ms))
        await self._db.write(lambda conn: queries_accounts.revoke_pending(conn, now_ms - PENDING_KEPT_MS, now_ms))
        await self._db.write(queries_accounts.prune_keys)

    async def note_key_uses(self) -> None:
        """Write down when keys were used last."""
        await self._ring.note_uses()

    async def maintain_database(self) -> None:
        """Give free pages back to the disk, and forget copies from before migrations that nobody goes back to."""
        await self._db.maintain()
        backups, before_s = self._blobs.data.backups, time.time() - COPIES_KEPT_S
        await asyncio.to_thread(lambda: copies.prune_old(backups, before_s))

    async def note_uses(self) -> None:
        """Write down which derivatives were used last, so that a restart evicts the right ones."""
        await self._derivs.note_uses()

    async def _remove_unknown(self, digests: Sequence[str]) -> int:
        async with self._db.reader() as conn:
            known = await queries.blob_digests_known(conn, digests)
        gone = [await self._remove.blob_if_unreferenced(digest) for digest in digests if digest not in known]
        return sum(gone)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
