"""From a link to bytes: record, access, recipe, then memory, cache file, or one transform for all who ask."""

import asyncio
import logging
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from imgpro import recipes
from imgpro.errors import (
    ImageBroken,
    ImageDamaged,
    ImageTooLarge,
    ImgproError,
    NotFound,
    StorageFault,
    StorageFull,
    StorageUnwritable,
)
from imgpro.flows.flight import Flight
from imgpro.flows.hot import HotPictures, canonical_path
from imgpro.flows.ingest import derivative_etag
from imgpro.flows.making import Making, Ticket
from imgpro.flows.records import Records
from imgpro.imaging.pool import Pool
from imgpro.model import Blob, Image, Principal, RenderJob
from imgpro.recipes import CONTENT_TYPE, Recipe
from imgpro.signing import Signer
from imgpro.store.blobs import BlobStore
from imgpro.store.derivs import DerivativeCache
from imgpro.store.rereading import UNREADABLE
from imgpro.store.staging import Scratch

log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 1024 * 1024  # a larger answer is streamed from its file
FAILURE_MEMORY_S: Final = 30.0
MAX_FAILURES: Final = 1_000


class Target(msgspec.Struct, frozen=True):
    """What a link means: the image, the recipe to apply (None: the stored bytes) and the answer's identity."""

    image: Image
    recipe: Recipe | None
    content_type: str
    etag: str
    path: str


class OpenFile:
    """A file to be sent: `fd` and `size` in bytes. Whoever gets it closes it."""

    __slots__ = ("fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size

    def close(self) -> None:
        """Close the descriptor; calling again does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        self.close()

    def twin(self) -> "OpenFile":
        """Return the same file on a descriptor of its own."""
        return OpenFile(os.dup(self.fd), self.size)


async def _nobody() -> Principal | None:
    return None


class View(msgspec.Struct, frozen=True):
    """With what right a picture is looked at: a signed link's token, and whoever asks.

    Who that is, is found out only where a picture is private: most are not, and a look-up costs.
    """

    token: str | None = None
    asker: Callable[[], Awaitable[Principal | None]] = _nobody

    async def owns(self, image: Image) -> bool:
        """Tell whether the asker is the owner, with a key that may read."""
        principal = await self.asker()
        return principal is not None and principal.may("read") and principal.owns(image)


EVERYBODY: Final = View()


class _Failure(msgspec.Struct, frozen=True):
    """What went wrong with one derivative last, when (monotonic seconds), and how often so far."""

    error: ImgproError
    at_s: float
    count: int


class Serve:
    """Finds pictures and makes derivatives. One for the appliance."""

    def __init__(
        self,
        blobs: BlobStore,
        derivs: DerivativeCache,
        pool: Pool,
        records: Records,
        hot: HotPictures,
        signer: Signer,
        making: Making,
    ) -> None:
        self._blobs = blobs
        self._derivs = derivs
        self._pool = pool
        self._records = records
        self._hot = hot
        self._signer = signer
        self._making = making
        self._flight: Flight[bytes | OpenFile] = Flight()
        # Made, and on its way to the disk: who asks in this moment must not cause a second transform.
        self._made: dict[tuple[str, str], bytes | OpenFile] = {}
        self._failures: OrderedDict[tuple[str, str], _Failure] = OrderedDict()
        self.suspect: Callable[[str], None] = lambda _: None  # told of originals that do not look whole
        self.transforms = 0
        # Where pictures came from that were not in memory: their original, the cache on disk, or a transform.
        self.originals = self.hits = self.misses = 0

    async def visible(self, image_id: str, view: View = EVERYBODY) -> Image:
        """Return an image that this caller may see. Raises NotFound for all others alike."""
        image = await self._records.get(image_id)
        if image is None or image.expired(time.time() * 1000):
            raise NotFound()
        if not image.public and not self._admits(image, view.token) and not await view.owns(image):
            raise NotFound()
        return image

    def _admits(self, image: Image, token: str | None) -> bool:
        return bool(token) and self._signer.verify(token or "", "view", image.id, time.time())

    async def target(self, image_id: str, extension: str, size: str | None, view: View) -> Target:
        """Resolve a picture link. Raises NotFound for an image or extension that is not there."""
        image = await self.visible(image_id, view)
        blob = image.blob
        stored_only = blob.format in (extension, "svg")
        recipe = recipes.parse(extension, size)
        if recipe is None and not stored_only:
            raise NotFound()
        if recipe is None or blob.format == "svg":
            return self._stored(image, canonical_path(image_id, extension, "o"))
        path = canonical_path(image_id, extension, recipe.size)
        resolved = recipes.resolve(recipe, blob.format, blob.width, blob.height)
        if resolved is None:
            return self._stored(image, path)
        etag = derivative_etag(blob.digest, resolved.key)
        return Target(image, resolved, CONTENT_TYPE[resolved.format], etag, path)

    async def source(self, target: Target, view: View = EVERYBODY) -> bytes | OpenFile:
        """Return the bytes of a target, or an open file for large ones.

        Raises NotFound if the image went, or was hidden from this caller, meanwhile; ImageDamaged if the disk has lost
        or changed the original; ImageTooLarge if the format cannot hold it; Busy when the workers' queue is full.
        """
        found = await self._find(target)
        try:
            current = await self.visible(target.image.id, view)
        except BaseException:
            if isinstance(found, OpenFile):
                found.close()
            raise
        if isinstance(found, bytes) and current is self._records.cached(target.image.id):
            self._hot.put(target.path, current, found, target.content_type, target.etag)
        return found

    async def broke_off(self, target: Target, error: OSError) -> None:
        """Say that the file of a target could not be read to its end."""
        if target.recipe is None:
            self.suspect(target.image.blob.digest)
        else:
            await self._unreadable_derivative(target.image.blob.digest, error)

    async def is_damaged(self, image: Image) -> bool:
        """Tell whether the original of an image is known to be damaged, or lost: by a look at its file, not into it."""
        try:
            (await self._open(image.blob)).close()
        except ImageDamaged:
            return True
        except ImgproError:
            return False
        return False

    async def drain(self) -> None:
        """Wait for transforms under way."""
        await self._flight.drain()

    async def _find(self, target: Target) -> bytes | OpenFile:
        if target.recipe is None:
            blob = target.image.blob
            self.originals += 1
            return await self._original(blob)
        digest, key = target.image.blob.digest, target.recipe.key
        cached = self._derivs.get(digest, key)
        if cached is not None:
            try:
                found = await self._load(OpenFile(*cached))
            except OSError as error:
                await self._unreadable_derivative(digest, error)
            else:
                self.hits += 1
                return found
        self.misses += 1
        self._raise_known_failure(digest, key)
        made = self._made.get((digest, key))
        if made is not None:
            return made if isinstance(made, bytes) else made.twin()
        recipe = target.recipe
        made = await self._flight.run((digest, key), lambda: self._make(target.image, recipe))
        return made if isinstance(made, bytes) else made.twin()

    async def _original(self, blob: Blob) -> bytes | OpenFile:
        file = await self._open(blob)
        try:
            return await self._load(file)
        except OSError as error:
            raise self._damaged(blob) from error

    async def _unreadable_derivative(self, digest: str, error: OSError) -> None:
        log.warning("derivatives of %s cannot be read (%s), and are made anew", digest, error.strerror or error)
        await self._derivs.drop(digest)

    async def _load(self, file: OpenFile) -> bytes | OpenFile:
        """Read a small file off the loop; leave a large one open for streaming."""
        if file.size > self._hot.max_item_bytes:
            return file
        try:
            return await asyncio.to_thread(os.pread, file.fd, file.size, 0)
        finally:
            file.close()

    async def _make(self, image: Image, recipe: Recipe) -> bytes | OpenFile:
        """Make one derivative, hand it to the cache and return it; NotFound if the picture goes meanwhile."""
        digest = image.blob.digest
        with self._making.of(digest) as ticket:
            if not await self._records.refers_to(digest):
                raise NotFound()
            return await self._render(image, recipe, ticket)

    async def _render(self, image: Image, recipe: Recipe, ticket: Ticket) -> bytes | OpenFile:
        digest = image.blob.digest
        source = await self._open(image.blob)
        job = RenderJob(format=image.blob.format, recipe=recipe)
        try:
            try:
                async with self._blobs.scratch() as out:
                    rendered = await self._pool.render(source.fd, out.fd, job)
                    self.transforms += 1
                    return await self._keep(digest, recipe.key, out, rendered.length, ticket)
            except (StorageFull, StorageUnwritable):
                # Looking at pictures goes on when nothing more can be stored.
                async with self._blobs.scratch(in_memory=True) as out:
                    rendered = await self._pool.render(source.fd, out.fd, job)
                    return await _made(out, rendered.length)
        except ImgproError as error:
            # A worker that the disk denies a page of its source is killed, or knows only that something failed.
            unexplained = isinstance(error, ImageBroken | ImageTooLarge) or type(error) is ImgproError
            if unexplained and not await asyncio.to_thread(_is_readable, source):
                raise self._damaged(image.blob) from error
            if not isinstance(error, ImageBroken | ImageTooLarge):
                raise
            if isinstance(error, ImageBroken):
                log.error("the original %s does not decode any more", digest)
                self.suspect(digest)
            self._remember_failure(digest, recipe.key, error)
            raise
        finally:
            source.close()

    async def _open(self, blob: Blob) -> OpenFile:
        """Open an original that a record refers to. Raises NotFound if its last picture was deleted just now, and
        ImageDamaged where it is missing, or no file of its size.
        """
        try:
            fd = self._blobs.open(blob.digest)
        except NotFound:
            if await self._records.refers_to(blob.digest):
                raise self._damaged(blob) from None
            raise
        except StorageFault as problem:
            if isinstance(problem.__cause__, OSError) and problem.__cause__.errno in UNREADABLE:
                raise self._damaged(blob) from problem
            raise
        file, found = OpenFile(fd, blob.stored_bytes), os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size != blob.stored_bytes:
            file.close()
            raise self._damaged(blob)
        return file

    def _damaged(self, blob: Blob) -> ImageDamaged:
        self.suspect(blob.digest)
        return ImageDamaged()

    async def _keep(self, digest: str, key: str, out: Scratch, length: int, ticket: Ticket) -> bytes | OpenFile:
        made = await _made(out, length)
        # From here on nothing is awaited: a deletion that begins later finds the derivative in the cache's queue.
        if ticket.forbidden:
            if isinstance(made, OpenFile):
                made.close()
            raise NotFound()
        storing = self._derivs.put(digest, key, made if isinstance(made, bytes) else out)
        if storing is not None:
            self._made[digest, key] = made
            storing.add_done_callback(lambda _: self._made.pop((digest, key), None))
        return made

    def _raise_known_failure(self, digest: str, key: str) -> None:
        failure = self._failures.get((digest, key))
        if failure is not None and failure.count > 1 and time.monotonic() - failure.at_s < FAILURE_MEMORY_S:
            raise type(failure.error)(failure.error.message, failure.error.action)

    def _remember_failure(self, digest: str, key: str, error: ImgproError) -> None:
        """A transform that failed twice is not tried again for a while, however often it is asked for.

        Not after the first time: its worker may have been stopped or killed by something else.
        """
        before = self._failures.pop((digest, key), None)
        self._failures[digest, key] = _Failure(error, time.monotonic(), before.count + 1 if before else 1)
        while len(self._failures) > MAX_FAILURES:
            self._failures.popitem(last=False)

    @staticmethod
    def _stored(image: Image, path: str) -> Target:
        blob = image.blob
        return Target(image, None, CONTENT_TYPE[blob.format], f'"{blob.digest[:32]}"', path)


def _is_readable(file: OpenFile) -> bool:
    try:
        at = 0
        while count := len(os.pread(file.fd, MAX_BODY_BYTES, at)):
            at += count
    except OSError:
        return False
    return True


async def _made(out: Scratch, length: int) -> bytes | OpenFile:
    """Return what a worker left in `out`: the bytes if they are few, else the open file."""
    if length <= MAX_BODY_BYTES:
        return await out.read(0, length)
    return OpenFile(os.dup(out.fd), length)
