"""Looking again at what seemed wrong, with everybody else held off: uploads and deletions go on during a check."""

import asyncio
from pathlib import Path

from imgpro.flows.remove import Remove
from imgpro.store import check_files, queries_scrub
from imgpro.store.blobs import BlobStore
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.doubts import Doubt


class SecondLook:
    """Confirms doubts, or does not. Changes nothing."""

    def __init__(self, db: Database, blobs: BlobStore, derivs: DerivativeCache, remove: Remove) -> None:
        self._db = db
        self._blobs = blobs
        self._derivs = derivs
        self._remove = remove

    async def confirms(self, doubt: Doubt) -> bool:
        """Tell whether it is still so. Raises StorageFault where the disk is not there any more.

        What the database says of itself was one moment of it, and needs no second look.
        """
        if doubt.mend in ("blob", "orphan", "derivative", "note"):
            digest = doubt.subject[0]
            async with self._blobs.guard(digest):
                return await self._still(doubt, digest)
        if doubt.mend in ("mode", "stray", "litter"):
            return await asyncio.to_thread(check_files.is_there, Path(doubt.subject[0]))
        return True

    async def _still(self, doubt: Doubt, digest: str) -> bool:
        await asyncio.to_thread(self._blobs.data.check_there)
        size = await self._db.write(lambda conn: queries_scrub.stored_bytes(conn, digest))
        if size is None and (self._remove.is_going(digest) or self._derivs.is_writing(digest)):
            return False  # the row has gone, and its files are going: many of one deletion wait for their turn
        path = self._blobs.path(digest)
        if doubt.mend == "blob":
            return size is not None and not await asyncio.to_thread(check_files.looks_whole, path, size)
        if doubt.mend == "orphan":
            return size is None and await asyncio.to_thread(check_files.is_there, path)
        if doubt.mend == "derivative":
            there = await asyncio.to_thread(check_files.is_there, self._blobs.data.root / doubt.where)
            return there and (size is None or doubt.subject[1])
        async with self._db.reader() as conn:
            return await queries_scrub.damage_of(conn, digest) is not None
