"""Uploads, deletes and caches in an endless round until a crash point kills it; prints what was acknowledged.

Run by test_crash_points.py: `python crash_child.py DATA_DIR SEED`.
"""

import asyncio
import random
import sys
from pathlib import Path

from imgpro.store import queries
from imgpro.store.blobs import BlobStore
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.layout import DataDir
from tests.samples import sample_image

KEY = "m-1.webp"
ROUNDS = 40
LIMIT = 10_000_000


def derivative(digest: str) -> bytes:
    return f"derivative of {digest}".encode() * 1_000


class Child:
    def __init__(self, data: DataDir, db: Database) -> None:
        self.db = db
        self.blobs = BlobStore(data)
        self.derivs = DerivativeCache(data.cache, data.tmp, 10_000_000)
        self.derivs.start()

    async def upload(self, content: bytes) -> tuple[str, str]:
        async with self.blobs.spool(LIMIT) as spool:
            await spool.write(content)
            staged = await spool.finish()
            image = sample_image(content)
            async with self.blobs.guard(staged.digest):
                await self.blobs.adopt(staged)
                await self.db.write(lambda conn: queries.insert_image(conn, image, "192.0.2.1"))
        print("STORED", image.id, staged.digest, flush=True)
        self.derivs.put(staged.digest, KEY, derivative(staged.digest))
        return image.id, staged.digest

    async def delete(self, image_id: str, digest: str) -> None:
        print("DELETING", image_id, flush=True)
        async with self.blobs.guard(digest):
            gone = await self.db.write(lambda conn: queries.delete_image(conn, image_id))
            if gone is not None and gone.last:
                await self.derivs.drop(digest)
                await self.blobs.remove(digest)
        print("DELETED", image_id, flush=True)


async def main(path: Path, seed: int) -> None:
    dice = random.Random(seed)
    data = DataDir.open(path)
    child = Child(data, await Database.open(data.database, data.backups, data.instance_id, "1.0"))
    alive: list[tuple[str, str]] = []
    for _ in range(ROUNDS):
        contents = [dice.randbytes(dice.choice([10, 5_000, 700_000])) for _ in range(3)]
        # Twice the same bytes at once, as two people who share one screenshot.
        alive += await asyncio.gather(*(child.upload(content) for content in [*contents, contents[0]]))
        while len(alive) > 4:
            await child.delete(*alive.pop(dice.randrange(len(alive))))
    await child.derivs.close()
    await child.blobs.close()
    await child.db.close()
    data.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
