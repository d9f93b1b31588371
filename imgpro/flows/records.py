"""Image records in memory, exactly as fresh as the database: every write forgets what it changed.

One process owns the data directory, so nobody else can change a row behind this cache.
"""

from collections import OrderedDict

from imgpro.model import Image
from imgpro.store import queries
from imgpro.store.db import Database


class Records:
    """A bounded LRU of image records by id in front of SQLite."""

    def __init__(self, db: Database, capacity: int) -> None:
        self._db = db
        self._capacity = capacity
        self._images: OrderedDict[str, Image] = OrderedDict()
        self._writes = 0

    def resize(self, capacity: int) -> None:
        """Take another bound; what is beyond it is dropped."""
        self._capacity = capacity
        while len(self._images) > max(0, capacity):
            self._images.popitem(last=False)

    def cached(self, image_id: str) -> Image | None:
        """Return the record if it is in memory."""
        image = self._images.get(image_id)
        if image is not None:
            self._images.move_to_end(image_id)
        return image

    async def get(self, image_id: str) -> Image | None:
        """Return the record, or None. The caller judges access and expiry."""
        image = self.cached(image_id)
        if image is not None:
            return image
        writes = self._writes
        async with self._db.reader() as conn:
            image = await queries.image_by_id(conn, image_id)
        # A write that ended while this read was under way may have changed the row: then do not keep it.
        if image is not None and writes == self._writes:
            self.put(image)
        return image

    async def refers_to(self, digest: str) -> bool:
        """Tell whether any image has these bytes, as the database says now."""
        async with self._db.reader() as conn:
            return await queries.blob_by_digest(conn, digest) is not None

    def put(self, image: Image) -> None:
        """Keep a record that is known to be current."""
        if self._capacity <= 0:
            return
        self._images[image.id] = image
        self._images.move_to_end(image.id)
        while len(self._images) > self._capacity:
            self._images.popitem(last=False)

    def forget(self, image_id: str) -> None:
        """Drop a record that was changed or deleted; call it as soon as the commit is known."""
        self._writes += 1
        self._images.pop(image_id, None)

    def clear(self) -> None:
        """Drop all records, after a change that concerns many."""
        self._writes += 1
        self._images.clear()
