"""The parts of an appliance that keep pictures, without a server: real database, real blobs, real cache."""

import os
import time
from typing import Any

from imgpro.flows.events import Events
from imgpro.flows.hot import HotPictures
from imgpro.flows.keyring import KeyRing
from imgpro.flows.making import Making
from imgpro.flows.records import Records
from imgpro.flows.remove import Remove
from imgpro.flows.second_look import SecondLook
from imgpro.flows.upkeep import ClockWatch, Upkeep
from imgpro.model import Image
from imgpro.store import queries
from imgpro.store.blobs import BlobStore
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.layout import DataDir
from imgpro.store.quarantine import Quarantine
from tests.samples import sample_image

KEY = "m-1.webp"
LIMIT = 10_000_000


class Steady(ClockWatch):
    """A clock that is trusted, or not."""

    trusted = True

    def steady(self) -> bool:
        return self.trusted


class House:
    def __init__(self, data: DataDir, db: Database) -> None:
        self.data = data
        self.db = db
        self.blobs = BlobStore(data)
        self.derivs = DerivativeCache(data.cache, data.tmp, LIMIT)
        self.derivs.start()
        self.records = Records(db, 100)
        self.hot = HotPictures(1_000_000, 100_000)
        self.remove = Remove(
            *(db, self.blobs, self.derivs, self.records, self.hot, Making(), data.ballast, Events(), Quarantine(data))
        )
        self.second = SecondLook(db, self.blobs, self.derivs, self.remove)
        self.clock = Steady()
        self.upkeep = Upkeep(db, self.blobs, self.derivs, self.remove, KeyRing(db, Events(), 60), self.clock)

    async def place(self, content: bytes, age_s: float = 0.0) -> str:
        """Put a blob on the disk that no row refers to."""
        async with self.blobs.spool(LIMIT) as spool:
            await spool.write(content)
            staged = await spool.finish()
            await self.blobs.adopt(staged)
        then = time.time() - age_s
        os.utime(self.blobs.path(staged.digest), (then, then))
        return staged.digest

    async def store(self, content: bytes, **facts: Any) -> Image:
        """Do what an upload does."""
        image = sample_image(content, **facts)
        async with self.blobs.spool(LIMIT) as spool:
            await spool.write(content)
            staged = await spool.finish()
            async with self.blobs.guard(staged.digest):
                await self.blobs.adopt(staged)
                await self.db.write(lambda conn: queries.insert_image(conn, image, "192.0.2.1"))
        self.records.put(image)
        return image

    async def cache(self, digest: str) -> None:
        self.derivs.put(digest, KEY, b"derivative" * 10)
        await self.derivs.settled()

    def blob_names(self) -> set[str]:
        return {path.name for path in self.data.blobs.rglob("*") if path.is_file()}

    def cached_names(self) -> set[str]:
        return {path.parent.name for path in self.data.cache.rglob(KEY)}
