"""From a stream of bytes to a stored picture: admit, spool, prove, adopt, record.

The order is the durability law: the file is whole and synced under its digest before the row is written, and
the row is committed before anyone is told. What fails on the way leaves nothing behind.
"""

import contextlib
import logging
import os
import time
from collections import Counter
from types import TracebackType
from typing import Any, Final, Literal, Self

import msgspec

from imgpro.errors import (
    Forbidden,
    IdempotencyKeyConflict,
    ImgproError,
    NotFound,
    QuotaExceeded,
    RateLimited,
    StorageFull,
    Unauthorized,
    UnsupportedFormat,
)
from imgpro.flows.events import Events
from imgpro.flows.hot import HotPictures, canonical_path
from imgpro.flows.keyring import standing, still_usable
from imgpro.flows.options import clean_name, shorten_name
from imgpro.flows.places import Places
from imgpro.flows.quota import Quota
from imgpro.flows.records import Records
from imgpro.flows.remove import Remove
from imgpro.flows.replays import Attempt
from imgpro.flows.watch_room import RoomWatch
from imgpro.ids import new_image_id
from imgpro.imaging.pool import Pool
from imgpro.model import Blob, Caller, Image, Ingested, Principal, UploadOptions
from imgpro.recipes import CONTENT_TYPE, SRC_EXTENSION
from imgpro.settings import Uploads
from imgpro.store import queries
from imgpro.store.blobs import BlobStore, Spool, Staged
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.queries import Replay
from imgpro.store.staging import Scratch

log = logging.getLogger(__name__)

Origin = Literal["upload", "import"]

# What means that the row is certainly not there.
_NOT_STORED: Final = (
    RateLimited,
    QuotaExceeded,
    StorageFull,
    NotFound,
    Unauthorized,
    Forbidden,
    IdempotencyKeyConflict,
)


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
        events: Events,
        room: RoomWatch,
    ) -> None:
        self.db = db
        self.blobs = blobs
        self.derivs = derivs
        self.pool = pool
        self.quota = quota
        self.records = records
        self.hot = hot
        self.remove = remove
        self.events = events
        self.room = room
        self.places = Places(settings.max_in_flight, settings.max_in_flight_per_network, settings.patience_s)
        self.stored = self.stored_bytes = 0
        # How uploads ended: `stored`, `repeated`, `broken_off` or the code of an error; and by whom they came.
        self.results: Counter[tuple[str, str]] = Counter()
        self.apply(settings)

    def apply(self, settings: Uploads) -> None:
        """Take other limits, for uploads from now on."""
        self.settings = settings
        self.places.allow(settings.max_in_flight, settings.max_in_flight_per_network, settings.patience_s)

    def open(
        self, caller: Caller, origin: Origin = "upload", attempt: Attempt | None = None, ticket: bytes | None = None
    ) -> "Upload":
        """Return an upload to be entered with `async with`, written to and committed.

        `attempt` is what makes it repeatable; `ticket` the hash of a one-use upload ticket that it uses up.
        """
        return Upload(self, caller, origin, attempt, ticket)

    def max_bytes(self, caller: Caller) -> int:
        """Return how large a file this caller may send."""
        return self.settings.anonymous_max_bytes if caller.principal is None else self.settings.max_bytes


class Upload:
    """One picture on its way in. Leaving the context without a commit discards everything."""

    _not_stored: tuple[type[Exception], ...] = _NOT_STORED

    def __init__(
        self, ingest: Ingest, caller: Caller, origin: Origin, attempt: Attempt | None, ticket: bytes | None
    ) -> None:
        self._ingest = ingest
        self._caller = caller
        self._origin: Origin = origin
        self._attempt = attempt
        self._ticket = ticket
        self._told: tuple[object, ...] = ()
        self._spool: Spool | None = None
        self._held = contextlib.AsyncExitStack()
        self._counted = False
        self.aside = False  # whether nobody waits for it, and others are being served

    async def __aenter__(self) -> Self:
        try:
            await self._enter()
        except BaseException as error:
            self._count(_result(error))
            raise
        return self

    async def _enter(self) -> None:
        ingest = self._ingest
        if self._ticket is not None:
            self._caller = msgspec.structs.replace(self._caller, by_ticket=True)
        await self._admit()
        await ingest.room.check()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(ingest.places.hold(self._caller.network))
            self._spool = await stack.enter_async_context(ingest.blobs.spool(self._max_bytes()))
            self._held = stack.pop_all()

    async def _admit(self) -> None:
        repeated = self._attempt is not None and self._attempt.repeated
        await self._ingest.quota.admit(self._caller, repeated=repeated)

    def _max_bytes(self) -> int:
        return self._ingest.max_bytes(self._caller)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count(_result(error))
        await self._held.aclose()

    def _count(self, result: str) -> None:
        """Count how this upload ended, the first time that it is said."""
        if self._counted:
            return
        self._counted = True
        principal = self._caller.principal
        by = "anonymous" if principal is None else "session" if principal.key is None else "key"
        by = "import" if self._origin == "import" else "ticket" if self._ticket is not None else by
        self._ingest.results[result, by] += 1

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes of the file. Raises FileTooLarge, StorageFull."""
        assert self._spool is not None
        await self._spool.write(chunk)

    async def commit(self, options: UploadOptions, client_name: str, source: str = "") -> Image | bytes:
        """Prove, store and record the picture. Returning means that it survives a power cut.

        `client_name` is the file name as the client sent it, used where `options` names none; `source` the address
        an import came from. Where the same request was answered before, that answer (bytes) is returned and nothing
        is stored. Raises UnsupportedFormat, ImageBroken, ImageTooLarge, RateLimited, QuotaExceeded, StorageFull,
        Busy, IdempotencyKeyConflict.
        """
        assert self._spool is not None
        ingest = self._ingest
        # A name's bytes may be no text at all.
        client_name = client_name.encode("utf-8", "replace").decode()
        staged = await self._spool.finish()
        # An import may fetch other bytes, and another name, the second time: its address says what was asked for.
        self._told = (self._origin, source or staged.digest, options, "" if source else client_name)
        first = self._attempt.first_answer(*self._told) if self._attempt is not None else None
        if first is not None:
            self._count("repeated")
            return first
        if staged.size == 0:
            raise UnsupportedFormat("The file is empty.")
        known = await self._known(staged.digest)
        if known is not None:
            return await self._adopt(staged, known, (), options, client_name, known=True)
        async with ingest.blobs.scratch() as clean, ingest.blobs.scratch() as out:
            report = await self._prove(staged, clean, out)
            again = False
            if report.cleaned_bytes is not None:
                staged = await self._spool.replace(clean)
                again = await self._known(staged.digest) is not None
            blob = _blob(staged, report)
            image = await self._adopt(staged, blob, report.removed, options, client_name, known=again)
            await self._keep_warm(image, report, out)
        return image

    async def _prove(self, staged: Staged, clean: Scratch, out: Scratch) -> Ingested:
        source_fd = staged.open()
        try:
            return await self._ingest.pool.ingest(source_fd, clean.fd, out.fd, aside=self.aside)
        finally:
            os.close(source_fd)

    async def _known(self, digest: str) -> Blob | None:
        """Return the facts of a blob with these very bytes: they were proven when it was stored."""
        async with self._ingest.db.reader() as conn:
            return await queries.blob_by_digest(conn, digest)

    async def _adopt(
        self,
        staged: Staged,
        blob: Blob,
        removed: tuple[str, ...],
        options: UploadOptions,
        client_name: str,
        *,
        known: bool,
    ) -> Image:
        ingest = self._ingest
        try:
            async with ingest.blobs.guard(blob.digest):
                if known and not await ingest.blobs.run(lambda: _is_there(ingest.blobs, staged)):
                    # The disk has lost or changed these bytes, and nobody knows what derivatives were made of. They go
                    # first: after a crash in between the original would be whole, and nobody look at them again.
                    await ingest.derivs.drop(blob.digest)
                await ingest.blobs.adopt(staged)
                image = await self._record(blob, removed, options, client_name)
        except self._not_stored as problem:
            # After any other failure the row may be there: then the sweeper decides.
            await ingest.remove.blob_if_unreferenced(blob.digest)
            if isinstance(problem, QuotaExceeded) and self._caller.principal is not None:
                raise await ingest.quota.explained(problem, self._caller) from None
            raise
        ingest.records.put(image)
        ingest.stored += 1
        ingest.stored_bytes += staged.size
        self._count("stored")
        ingest.events.uploaded(image)
        return image

    async def _record(self, blob: Blob, removed: tuple[str, ...], options: UploadOptions, client_name: str) -> Image:
        """Write the row, for an uploader who still stands as when the body began: it may have taken minutes."""
        while True:
            image = self._image(blob, removed, options, client_name)
            replay = self._attempt.to_store(image, *self._told) if self._attempt is not None else None
            changed = await self._insert(image, replay)
            if changed is None:
                return image
            self._caller = msgspec.structs.replace(self._caller, principal=changed)

    async def _insert(self, image: Image, replay: Replay | None) -> Principal | None:
        """Insert the row, or return how its uploader stands now if that has changed. Raises as `commit` says."""
        ingest, quota, principal = self._ingest, self._ingest.quota, self._caller.principal
        network = self._caller.network if principal is None else None
        allowance = quota.allowance(self._caller, image.created_ms)

        def write(conn: Any) -> Principal | None:
            if principal is not None:
                now = still_usable(conn, principal)
                if standing(now) != standing(principal):
                    return now
            queries.insert_image(
                conn,
                image,
                network,
                quota.limits,
                quota.storage_bytes,
                allowance=allowance,
                replay=replay,
                ticket=self._ticket,
            )
            return None

        return await ingest.db.write(write)

    def _image(self, blob: Blob, removed: tuple[str, ...], options: UploadOptions, client_name: str) -> Image:
        created_ms = time.time_ns() // 1_000_000
        image_id = new_image_id()
        name = options.name or shorten_name(clean_name(client_name)) or f"{image_id}.{SRC_EXTENSION[blob.format]}"
        expires_ms, wanted_end_ms = self._ingest.quota.ends_ms(self._caller, created_ms, options.ttl_s)
        principal = self._caller.principal
        key = principal.key if principal is not None else None
        return Image(
            id=image_id,
            blob=blob,
            name=name,
            description=options.description,
            public=options.public,
            created_ms=created_ms,
            expires_ms=expires_ms,
            display_date=options.display_date,
            origin=self._origin,
            metadata_removed=removed,
            wanted_end_ms=wanted_end_ms,
            account=principal.account.seq if principal is not None else None,
            key=key.seq if key is not None else None,
            namespace=options.namespace or (key.namespace if key is not None else None),
            tags=options.tags,
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
            if self._ingest.records.cached(image.id) is not image:
                return  # changed or deleted already
            self._ingest.derivs.put(image.blob.digest, warm.recipe.key, body)
            path = canonical_path(image.id, extension, warm.recipe.size)
            etag = derivative_etag(image.blob.digest, warm.recipe.key)
            self._ingest.hot.put(path, image, body, CONTENT_TYPE[warm.recipe.format], etag)


def _result(error: BaseException | None) -> str:
    if isinstance(error, ImgproError):
        return error.code
    return "server_error" if isinstance(error, Exception) and not isinstance(error, OSError) else "broken_off"


def derivative_etag(digest: str, recipe_key: str) -> str:
    """Return the strong ETag of a derivative: its original and its recipe."""
    return f'"{digest[:32]}-{recipe_key}"'


def _is_there(blobs: BlobStore, staged: Staged) -> bool:
    """Tell whether a blob of the same name and size is in place."""
    try:
        fd = blobs.open(staged.digest)
    except ImgproError:
        return False
    try:
        return os.fstat(fd).st_size == staged.size
    finally:
        os.close(fd)


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
