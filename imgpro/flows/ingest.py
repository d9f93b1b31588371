"""From a stream of bytes to a stored picture: admit, spool, prove, adopt, record.

The order is the durability law: the file is whole and synced under its digest before the row is written, and
the row is committed before anyone is told. What fails on the way leaves nothing behind.
"""

import contextlib
import logging
import os
import time
from typing import Literal, Self

from imgpro.errors import ImgproError, RateLimited, StorageFull, UnsupportedFormat
from imgpro.flows.hot import HotPictures, canonical_path
from imgpro.flows.options import clean_name, shorten_name
from imgpro.flows.places import Places
from imgpro.flows.quota import Quota
from imgpro.flows.records import Records
from imgpro.flows.remove import Remove
from imgpro.ids import new_image_id
from imgpro.imaging.pool import Pool
from imgpro.model import Blob, Caller, Image, Ingested, UploadOptions
from imgpro.recipes import CONTENT_TYPE, SRC_EXTENSION
from imgpro.settings import Uploads
from imgpro.store import queries
from imgpro.store.blobs import BlobStore, Spool, Staged
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.staging import Scratch

log = logging.getLogger(__name__)

Origin = Literal["upload", "import"]


class Ingest:
    """Opens uploads and carries them through. One for the appliance."""

    def __init__(
        self,
        settings: Uploads,
        db: Database,
        blobs: BlobStore,
        derivs: DerivativeCache,
        pool: Pool,
        quota: Quota,
        records: Records,
        hot: HotPictures,
        remove: Remove,
    ) -> None:
        self.settings = settings
        self.db = db
        self.blobs = blobs
        self.derivs = derivs
        self.pool = pool
        self.quota = quota
        self.records = records
        self.hot = hot
        self.remove = remove
        self.places = Places(settings.max_in_flight, settings.max_in_flight_per_network, settings.patience_s)
        self.stored = 0

    def open(self, caller: Caller, origin: Origin = "upload") -> "Upload":
        """Return an upload to be entered with `async with`, written to and committed."""
        return Upload(self, caller, origin)


class Upload:
    """One picture on its way in. Leaving the context without a commit discards everything."""

    def __init__(self, ingest: Ingest, caller: Caller, origin: Origin) -> None:
        self._ingest = ingest
        self._caller = caller
        self._origin: Origin = origin
        self._spool: Spool | None = None
        self._held = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        ingest = self._ingest
        await ingest.quota.admit(self._caller)
        ingest.blobs.check_room()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(ingest.places.hold(self._caller.network))
            self._spool = await stack.enter_async_context(ingest.blobs.spool(ingest.settings.anonymous_max_bytes))
            self._held = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._held.aclose()

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes of the file. Raises FileTooLarge, StorageFull."""
        assert self._spool is not None
        await self._spool.write(chunk)

    async def commit(self, options: UploadOptions, client_name: str) -> Image:
        """Prove, store and record the picture. Returning means that it survives a power cut.

        `client_name` is the file name as the client sent it, used where `options` names none. Raises
        UnsupportedFormat, ImageBroken, ImageTooLarge, RateLimited, StorageFull, Busy.
        """
        assert self._spool is not None
        ingest = self._ingest
        staged = await self._spool.finish()
        if staged.size == 0:
            raise UnsupportedFormat("The file is empty.")
        known = await self._known(staged.digest)
        if known is not None:
            return await self._adopt(staged, known, (), options, client_name)
        async with ingest.blobs.scratch() as clean, ingest.blobs.scratch() as out:
            report = await self._prove(staged, clean, out)
            if report.cleaned_bytes is not None:
                staged = await self._spool.replace(clean)
            blob = _blob(staged, report)
            image = await self._adopt(staged, blob, report.removed, options, client_name)
            await self._keep_warm(image, report, out)
        return image

    async def _prove(self, staged: Staged, clean: Scratch, out: Scratch) -> Ingested:
        source_fd = staged.open()
        try:
            return await self._ingest.pool.ingest(source_fd, clean.fd, out.fd)
        finally:
            os.close(source_fd)

    async def _known(self, digest: str) -> Blob | None:
        """Return the facts of a blob with these very bytes: they were proven when it was stored."""
        async with self._ingest.db.reader() as conn:
            return await queries.blob_by_digest(conn, digest)

    async def _adopt(
        self, staged: Staged, blob: Blob, removed: tuple[str, ...], options: UploadOptions, client_name: str
    ) -> Image:
        ingest = self._ingest
        image = self._image(blob, removed, options, client_name)
        try:
            async with ingest.blobs.guard(blob.digest):
                await ingest.blobs.adopt(staged)
                quota, network = ingest.quota, self._caller.network
                await ingest.db.write(
                    lambda conn: queries.insert_image(conn, image, network, quota.limits, quota.storage_bytes)
                )
        except (RateLimited, StorageFull):
            # The row is certainly not there. After any other failure it may be: then the sweeper decides.
            await ingest.remove.blob_if_unreferenced(blob.digest)
            raise
        ingest.records.put(image)
        ingest.stored += 1
        return image

    def _image(self, blob: Blob, removed: tuple[str, ...], options: UploadOptions, client_name: str) -> Image:
        created_ms = time.time_ns() // 1_000_000
        image_id = new_image_id()
        name = options.name or shorten_name(clean_name(client_name)) or f"{image_id}.{SRC_EXTENSION[blob.format]}"
        return Image(
            id=image_id,
            blob=blob,
            name=name,
            description=options.description,
            public=options.public,
            created_ms=created_ms,
            expires_ms=self._ingest.quota.expires_ms(created_ms, options.ttl_s),
            display_date=options.display_date,
            origin=self._origin,
            metadata_removed=removed,
        )

    async def _keep_warm(self, image: Image, report: Ingested, out: Scratch) -> None:
        """Put the derivatives that the proof left behind where the first viewer will look.

        The picture is stored already: whatever fails here is no reason to tell its uploader otherwise.
        """
        extension = SRC_EXTENSION[image.blob.format]
        for warm in report.warm:
            try:
                body = await out.read(warm.offset, warm.length)
            except ImgproError as problem:
                log.warning("derivatives of an upload are not kept: %s", problem)
                return
            self._ingest.derivs.put(image.blob.digest, warm.recipe.key, body)
            path = canonical_path(image.id, extension, warm.recipe.size)
            etag = derivative_etag(image.blob.digest, warm.recipe.key)
            self._ingest.hot.put(path, image, body, CONTENT_TYPE[warm.recipe.format], etag)


def derivative_etag(digest: str, recipe_key: str) -> str:
    """Return the strong ETag of a derivative: its original and its recipe."""
    return f'"{digest[:32]}-{recipe_key}"'


def _blob(staged: Staged, report: Ingested) -> Blob:
    return Blob(
        digest=staged.digest,
        format=report.format,
        stored_bytes=staged.size,
        width=report.width,
        height=report.height,
        frames=report.frames,
        has_alpha=report.has_alpha,
        placeholder=report.placeholder,
        phash=report.phash,
    )
