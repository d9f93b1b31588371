"""Originals by digest: stage, adopt, open, remove, iterate.

A name in `blobs/` is the BLAKE3 of the bytes behind it, appears only complete and never changes. Must not know
rows, pictures or requests.
"""

import asyncio
import contextlib
import contextvars
import os
import stat
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec
from blake3 import blake3

from imgpro.errors import FileTooLarge, NotFound, StorageFull
from imgpro.ids import DIGEST
from imgpro.store import durable, room
from imgpro.store.flush import DirectoryFlusher, KeyedLocks
from imgpro.store.layout import DataDir, Presence, blob_path
from imgpro.store.staging import Scratch, TempFile

T = TypeVar("T")

_BATCH_BYTES: Final = 512 * 1024
_READ_BYTES: Final = 1024 * 1024
_BLOB_MODE: Final = 0o440
MIN_FREE_INODES: Final = 256
_THREADS: Final = 4
_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in its place is not waited for


class Staged:
    """A complete file in `tmp/`, measured and hashed, that may become a blob. `digest` is lower-case hex."""

    def __init__(self, temp: TempFile, size: int, digest: str) -> None:
        self.temp = temp
        self.size = size
        self.digest = digest

    @property
    def path(self) -> Path:
        """Where the bytes lie until they are adopted."""
        return self.temp.path

    def open(self) -> int:
        """Return a read-only descriptor of its own, the caller's to close; raises StorageFault.

        Whoever only looks at the bytes must not be able to change them after they were hashed.
        """
        try:
            return os.open(self.temp.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise durable.fault(error, "reading an upload") from error


class BlobFile(msgspec.Struct, frozen=True):
    """One blob as the disk knows it: hex digest, bytes, Unix seconds of its writing."""

    digest: str
    size: int
    mtime_s: float


class BlobTotals(msgspec.Struct, frozen=True):
    """How many blobs there are and how many bytes they hold."""

    count: int
    bytes: int


class Spool:
    """An upload on its way to the disk, for the length of an `async with`.

    While one batch is written and hashed in a thread the next is received: at most two batches are in memory.
    """

    def __init__(self, store: "BlobStore", limit_bytes: int) -> None:
        self._store = store
        self._limit_bytes = limit_bytes
        self._temp = TempFile(store.data.tmp)
        self._hasher = blake3()
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._under_way: asyncio.Future[None] | None = None
        self.size = 0

    @property
    def fd(self) -> int:
        """The descriptor, open for reading once `finish` has returned; -1 before the first byte is on disk."""
        return self._temp.fd

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.discard()

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises FileTooLarge once the limit is passed, StorageFull, StorageFault."""
        self.size += len(chunk)
        if self.size > self._limit_bytes:
            raise FileTooLarge
        self._batch.append(chunk)
        self._batch_bytes += len(chunk)
        if self._batch_bytes >= _BATCH_BYTES:
            await self._send()

    async def finish(self) -> Staged:
        """Write what is left and return the staged file; raises StorageFull, StorageFault."""
        await self._send()
        await self._settled()
        durable.point("stage.written")
        return Staged(self._temp, self.size, self._hasher.hexdigest())

    async def replace(self, scratch: Scratch) -> Staged:
        """Stage what a worker left in `scratch` instead of what was uploaded; raises StorageFull, StorageFault.

        A copy: a worker that a picture has taken over may still hold the descriptor of `scratch`, and what was
        hashed must never change.
        """
        before, self._temp = self._temp, TempFile(self._store.data.tmp)
        await self._store.run(before.discard)
        target = self._temp
        try:
            size, digest = await self._store.run(
                lambda: scratch.temp.use(lambda source: target.use(lambda fd: _copy_hashed(source, fd)))
            )
        except OSError as error:
            raise durable.write_fault(error, "copying a cleaned picture") from error
        return Staged(target, size, digest)

    async def discard(self) -> None:
        """Let go of the file, and remove it unless it was adopted; idempotent."""
        self._batch.clear()
        if self._under_way is not None:
            # Its failure was either raised to the writer already or no longer matters.
            self._under_way.add_done_callback(_retrieve)
        await self._store.run(self._temp.discard)

    async def _settled(self) -> None:
        if self._under_way is not None:
            try:
                await asyncio.shield(self._under_way)
            except OSError as error:
                raise durable.write_fault(error, "writing an upload") from error

    async def _send(self) -> None:
        await self._settled()
        batch, self._batch, size, self._batch_bytes = self._batch, [], self._batch_bytes, 0
        self._under_way = self._store.begin(lambda: self._put(batch, size))

    def _put(self, batch: list[bytes], size: int) -> None:
        self._store.check_room(size)
        self._temp.use(lambda fd: self._append(fd, batch))

    def _append(self, fd: int, batch: list[bytes]) -> None:
        for chunk in batch:
            durable.write_all(fd, chunk)
            self._hasher.update(chunk)


def _retrieve(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


class BlobStore:
    """The originals of one data directory.

    `reserve_bytes` (a number, or a function asked each time) is the free space below which nothing new is taken.
    """

    def __init__(self, data: DataDir, reserve_bytes: int | Callable[[], int] = 0) -> None:
        self.data = data
        self._root = data.blobs
        self._reserve_bytes = reserve_bytes if callable(reserve_bytes) else lambda: reserve_bytes
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="blobs")
        self._flusher = DirectoryFlusher(self.begin)
        self._adopting = KeyedLocks()
        self._guards = KeyedLocks()
        # One flag per fan-out directory: its own name is known to be durable since this process looked.
        self._named = bytearray(65_536)

    def begin(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Start `work` in a thread of the store; blocking disk work has no other place."""
        return asyncio.get_running_loop().run_in_executor(self._pool, contextvars.copy_context().run, work)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread of the store; it is carried through even if the caller is cancelled."""
        return await asyncio.shield(self.begin(work))

    async def close(self) -> None:
        """Wait for the work under way and end the threads."""
        await self._flusher.settled()
        await asyncio.to_thread(self._pool.shutdown)

    def check_room(self, wanted_bytes: int = 0) -> None:
        """Raise StorageFull if `wanted_bytes` would leave less than the reserve, StorageFault where the directory has
        gone. Blocking (a few system calls)."""
        self.data.check_there()
        free = self.data.free_space()
        if free.free_bytes - wanted_bytes < self._reserve_bytes():
            raise StorageFull
        if free.free_inodes is not None and free.free_inodes < MIN_FREE_INODES:
            raise StorageFull

    def keep_ballast(self) -> None:
        """Take the ballast again where the reserve does not suffer. Blocking. Raises StorageFault."""
        self.data.check_there()
        beside = room.file_system(self.data.database.parent)  # which may be another disk than that of the pictures
        self.data.ballast.keep(beside.free_bytes - self._reserve_bytes())

    def spool(self, limit_bytes: int) -> Spool:
        """Return a spool for one upload of at most `limit_bytes`: `async with store.spool(n) as spool`."""
        return Spool(self, limit_bytes)

    def scratch(self, *, in_memory: bool = False) -> Scratch:
        """Return an empty temporary file for a worker's output: `async with store.scratch() as scratch`.

        `in_memory` is for a full disk: such a file can be read and sent, not kept.
        """
        return Scratch(self.data.tmp, self.run, in_memory=in_memory)

    @contextlib.asynccontextmanager
    async def guard(self, digest: str) -> AsyncIterator[None]:
        """Exclude every other holder of the same digest.

        Held across adopt + insert of the row, and across re-check + remove, so that a blob cannot be swept
        between the moment an upload finds it present and the moment the row refers to it.
        """
        async with self._guards.hold(digest):
            yield

    def path(self, digest: str) -> Path:
        """Return where the blob lies or would lie; raises NotFound for what is no digest."""
        if DIGEST.fullmatch(digest) is None:
            raise NotFound
        return self._root / blob_path(digest)

    def open(self, digest: str) -> int:
        """Return a read-only descriptor of the blob, the caller's to close; raises NotFound, StorageFault."""
        try:
            return os.open(self.path(digest), _OPEN_FLAGS)
        except FileNotFoundError:
            self.data.check_there()  # else everything would look deleted, and be remembered so by caches
            raise NotFound from None
        except OSError as error:
            raise durable.fault(error, "opening a picture") from error

    async def adopt(self, staged: Staged) -> None:
        """Make a staged file the blob of its digest, durably; on return it survives a power cut.

        A blob that is already there stays, after its name was made durable too. Raises StorageFull or
        StorageFault, and then neither the staged file nor a new blob is left.
        """
        # Carried through when the caller goes away: half an adoption would leave a blob that nobody flushed.
        await asyncio.shield(asyncio.ensure_future(self._adopt(staged)))

    async def _adopt(self, staged: Staged) -> None:
        async with self._adopting.hold(staged.digest):
            target = self.path(staged.digest)
            placed = False
            try:
                placed = await self.run(lambda: self._place(staged, target))
                await self._make_names_durable(staged.digest)
            except OSError as error:
                await self.run(lambda: _withdraw(staged.temp, target if placed else None))
                raise durable.write_fault(error, "storing a picture") from error
            if not staged.temp.adopted:
                await self.run(staged.temp.discard)
            durable.point("blob.directory_fsynced")

    def _place(self, staged: Staged, target: Path) -> bool:
        """Move the staged file to its name; False if a whole blob (of the right size) has that name already."""
        found = _size_of(target)
        if found == staged.size:
            return False
        staged.temp.use(_make_file_durable)
        durable.point("blob.fsynced")
        durable.make_directory(target.parent.parent)
        durable.make_directory(target.parent)
        os.rename(staged.path, target)
        staged.temp.adopted = True
        durable.point("blob.renamed")
        # A damaged file of this name was replaced by good bytes: should the flush fail now, they stay.
        return found is None

    async def _make_names_durable(self, digest: str) -> None:
        """Flush the directory that holds the blob, and its parents unless this process has seen that done.

        Also for a blob that was there before: whoever made it may have been killed before this step.
        """
        leaf, fan_out = self.path(digest).parent, int(digest[:4], 16)
        directories = [leaf]
        if not self._named[fan_out]:
            directories += [leaf.parent, self._root]
        await self._flusher.flush(directories)
        self._named[fan_out] = 1

    async def remove(self, digest: str) -> None:
        """Unlink a blob that no row refers to; it may be gone already. Hold `guard`. Raises StorageFault.

        The directory is flushed later: after a power cut the name may be back, as an orphan for the sweeper.
        """
        await asyncio.shield(asyncio.ensure_future(self._remove(digest)))

    async def _remove(self, digest: str) -> None:
        target = self.path(digest)
        async with self._adopting.hold(digest):
            durable.point("delete.row_gone")
            try:
                await self.run(lambda: self._unlink(target))
            except FileNotFoundError:
                return
            except OSError as error:
                raise durable.fault(error, "removing a picture") from error
            durable.point("delete.unlinked")
        self._flusher.flush_later(target.parent)

    def _unlink(self, target: Path) -> None:
        """Unlink a blob, unless something else lies at the path of the data directory now: that has its own blobs."""
        if self.data.look() is Presence.THERE:
            os.unlink(target)

    async def iterate(self) -> AsyncIterator[BlobFile]:
        """Yield every blob in the order of its digest, reading one of 256 directories at a time."""
        for first in await self.run(partial(_names, self._root, 2)):
            for blob in await self.run(partial(_scan, self._root / first)):
                yield blob

    async def total(self) -> BlobTotals:
        """Count blobs and their bytes by walking the disk."""
        count = size = 0
        async for blob in self.iterate():
            count += 1
            size += blob.size
        return BlobTotals(count, size)


def _make_file_durable(fd: int) -> None:
    # A file system without Unix modes may refuse; the mode only guards against accidents.
    with contextlib.suppress(PermissionError):
        os.fchmod(fd, _BLOB_MODE)
    durable.fsync_fd(fd)


def _withdraw(temp: TempFile, target: Path | None) -> None:
    """Leave nothing of a failed adoption. The descriptor is not tried again: after EIO a retry would lie."""
    if target is not None:
        with contextlib.suppress(OSError):
            os.unlink(target)
    temp.discard()


def _size_of(path: Path) -> int | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def _copy_hashed(source: int, target: int) -> tuple[int, str]:
    """Copy a whole file and return its length in bytes and its digest, both of what was written."""
    hasher, at = blake3(), 0
    while chunk := os.pread(source, _READ_BYTES, at):
        durable.write_all(target, chunk)
        hasher.update(chunk)
        at += len(chunk)
    return at, hasher.hexdigest()


def _names(directory: Path, length: int) -> list[str]:
    try:
        found = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(name for name in found if len(name) == length)


def _scan(first: Path) -> list[BlobFile]:
    found: list[BlobFile] = []
    for second in _names(first, 2):
        for name in _names(first / second, 64):
            if DIGEST.fullmatch(name) is None or not name.startswith(first.name + second):
                continue
            with contextlib.suppress(FileNotFoundError):
                entry = os.lstat(first / second / name)
                found.append(BlobFile(name, entry.st_size, entry.st_mtime))
    return found
