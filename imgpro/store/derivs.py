"""Derivative files: a cache on disk, bounded by bytes, that may lose anything at any time.

One file per picture and recipe, `cache/ab/<digest>/<recipe key>`, that appears only complete. The index lives on
the event loop's thread; files are written and removed in two threads of the cache. Must not know how a
derivative is made, nor who asks for it.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from imgpro.ids import DIGEST
from imgpro.store import durable
from imgpro.store.derivative_files import (
    KEYS,
    Name,
    checked,
    copy,
    place,
    read_picture,
    subdirectories,
    unlink_if_there,
    unpack,
)
from imgpro.store.staging import Scratch, TempFile

T = TypeVar("T")

_MAX_QUEUED: Final = 256
_MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
_EVICT_TO: Final = 0.95  # evicting a little more than needed makes one round serve many puts
_MAX_TOUCHED: Final = 4_096

log = logging.getLogger(__name__)


class DerivativeStats(msgspec.Struct, frozen=True):
    """What the cache holds and what happened to it since the start."""

    files: int
    bytes: int
    queued: int
    stored: int
    refused: int  # queue full, cache off or disk low
    failed: int  # the disk refused
    evicted: int
    scanned: bool


class _Put:
    """One derivative on its way to the disk. The mark is set by the loop and read by the writing thread."""

    def __init__(self, name: "Name", source: bytes | TempFile, size: int) -> None:
        self.name = name
        self.source = source
        self.size = size
        self._dropped = False

    def drop(self) -> None:
        """The picture is gone: whatever has been done so far is to be undone."""
        self._dropped = True

    def dropped(self) -> bool:
        """Tell whether the picture has gone meanwhile."""
        return self._dropped


class DerivativeCache:
    """LRU of derivative files in `directory`, at most `max_bytes` of them; 0 turns it off.

    `tmp` is a directory on the same file system for files that are not complete yet. `has_room` is asked in a
    thread before each write: when the disk is low, nothing more is cached.
    """

    def __init__(self, directory: Path, tmp: Path, max_bytes: int, has_room: Callable[[], bool] = lambda: True) -> None:
        self._directory = directory
        self._tmp = tmp
        self._max_bytes = max_bytes
        self._still_bytes: int | None = None  # at most so many while the disk is low
        self._has_room = has_room
        # Insertion order is the order of use, oldest first.
        self._sizes: dict[bytes, int] = {}
        self._bytes = 0
        self._touched: dict[bytes, float] = {}
        self._pending: dict[str, list[_Put]] = {}
        self._pending_count = 0
        self._pending_bytes = 0
        self._dropping: dict[str, int] = {}
        self._dropped_in_scan: set[str] | None = None
        self._scan: asyncio.Task[None] | None = None
        self._scanned = False
        self._stored = self._refused = self._failed = self._evicted = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="derivs-put")
        self._remover = ThreadPoolExecutor(1, thread_name_prefix="derivs-drop")
        self._tasks: set[asyncio.Task[None]] = set()

    def resize(self, max_bytes: int) -> None:
        """Take another bound; what is beyond it goes in the background."""
        self._max_bytes = max_bytes
        self._background(self._evict())

    def start(self) -> None:
        """Begin to build the index from the disk; until it is there, `get` asks the disk."""
        self._dropped_in_scan = set()
        self._scan = asyncio.create_task(self._build_index())

    async def settled(self) -> None:
        """Wait for the first scan and for everything that is queued at the moment."""
        waiting = [*self._tasks]
        if self._scan is not None:
            waiting.append(self._scan)
        if waiting:
            await asyncio.wait(waiting)

    async def close(self) -> None:
        """Finish what is queued, note what was used last, and end the threads."""
        if self._scan is not None:
            await asyncio.wait([self._scan])
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        await self.note_uses()
        await asyncio.to_thread(self._writer.shutdown)
        await asyncio.to_thread(self._remover.shutdown)

    def stats(self) -> DerivativeStats:
        """Return the counters."""
        return DerivativeStats(
            files=len(self._sizes),
            bytes=self._bytes,
            queued=self._pending_count,
            stored=self._stored,
            refused=self._refused,
            failed=self._failed,
            evicted=self._evicted,
            scanned=self._scanned,
        )

    def get(self, digest: str, key: str) -> tuple[int, int] | None:
        """Return an open descriptor (the caller's to close) and the size in bytes, or None.

        Cheap enough for the event loop: a look into the index and one open. A miss costs no system call.
        """
        name = checked(digest, key)
        packed = name.packed
        size = self._sizes.get(packed)
        if (size is None and self._scanned) or digest in self._dropping:
            return None
        try:
            fd = os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self._forget(packed)
            return None
        except OSError:
            return None
        found = os.fstat(fd).st_size
        if found == 0 or (size is not None and found != size):
            # Somebody else changed the file: what is left of it is no picture.
            os.close(fd)
            self._forget(packed)
            return None
        if size is not None:
            self._touch(packed, size)
        return fd, found

    def put(self, digest: str, key: str, source: bytes | Scratch) -> asyncio.Task[None] | None:
        """Store a derivative in the background; whatever goes wrong is counted and nothing is raised.

        Return the task that does it, at whose end `get` finds the derivative, or None where there is no room.

        A scratch file must hold exactly the derivative and is this cache's from now on. Its bytes are copied, as the
        worker that wrote them may still hold its descriptor.
        """
        name = checked(digest, key)
        size = len(source) if isinstance(source, bytes) else os.fstat(source.fd).st_size
        full = self._pending_count >= _MAX_QUEUED or self._pending_bytes + size > _MAX_QUEUED_BYTES
        if full or size == 0 or size > self._limit_bytes() or digest in self._dropping:
            self._refused += 1
            return None
        if isinstance(source, Scratch):
            source.temp.adopted = True
        put = _Put(name, source if isinstance(source, bytes) else source.temp, size)
        self._pending.setdefault(digest, []).append(put)
        self._pending_count += 1
        self._pending_bytes += size
        return self._background(self._store(put))

    async def drop(self, digest: str) -> None:
        """Forget every derivative of a picture at once, and unlink them; also one that is being written."""
        for put in self._pending.get(digest, ()):
            put.drop()
        for key in KEYS:
            self._forget(checked(digest, key).packed)
        if self._dropped_in_scan is not None:
            self._dropped_in_scan.add(digest)
        self._dropping[digest] = self._dropping.get(digest, 0) + 1
        await asyncio.shield(self._background(self._unlink_all(digest)))

    def is_writing(self, digest: str) -> bool:
        """Tell whether a derivative of a picture is on its way to the disk, or to be taken away again there."""
        return digest in self._pending

    def hold(self, *, still: bool) -> None:
        """While `still`, take nothing new but in the place of something old: the disk is needed for originals."""
        if not still:
            self._still_bytes = None
        elif self._scanned:
            self._still_bytes = min(self._limit_bytes(), self._bytes)

    async def give_up(self, wanted_bytes: int, wanted_files: int = 0) -> int:
        """Remove what was used longest ago until so much is free again, or nothing is left; return how many went."""
        gone = self._forget_oldest(wanted_bytes, wanted_files)
        if gone:
            await self._run(self._remover, partial(self._unlink, gone))
        return len(gone)

    async def digests(self) -> list[str]:
        """Return the pictures that have a derivative here, as far as the disk has been read."""
        packed = list(self._sizes)
        found = await asyncio.to_thread(lambda: {name[:32] for name in packed})
        return [digest.hex() for digest in found]

    async def note_uses(self) -> None:
        """Write the times of last use to the files, so that a restart keeps the rough order."""
        touched, self._touched = self._touched, {}
        if touched:
            await self._run(self._remover, partial(self._write_uses, touched))

    def _path(self, name: Name) -> str:
        return f"{self._directory}/{name.digest[:2]}/{name.digest}/{name.key}"

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(pool, work))

    def _background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # The index

    def _touch(self, packed: bytes, size: int) -> None:
        del self._sizes[packed]
        self._sizes[packed] = size
        self._touched[packed] = time.time()
        if len(self._touched) >= _MAX_TOUCHED:
            self._background(self.note_uses())

    def _remember(self, packed: bytes, size: int) -> None:
        self._forget(packed)
        self._sizes[packed] = size
        self._bytes += size

    def _forget(self, packed: bytes) -> None:
        self._bytes -= self._sizes.pop(packed, 0)
        self._touched.pop(packed, None)

    def _oldest_over_limit(self) -> list[bytes]:
        """Forget the oldest entries until there is room again, and return them."""
        limit = self._limit_bytes()
        return self._forget_oldest(self._bytes - int(limit * _EVICT_TO), 0) if self._bytes > limit else []

    def _limit_bytes(self) -> int:
        return self._max_bytes if self._still_bytes is None else min(self._max_bytes, self._still_bytes)

    def _forget_oldest(self, excess_bytes: int, excess_files: int) -> list[bytes]:
        gone: list[bytes] = []
        for packed, size in self._sizes.items():
            if excess_bytes <= 0 and len(gone) >= excess_files:
                break
            excess_bytes -= size
            gone.append(packed)
        for packed in gone:
            self._forget(packed)
        self._evicted += len(gone)
        return gone

    async def _build_index(self) -> None:
        # Not in the remover's thread: a deletion must not wait for a walk over the whole cache.
        found, total = await asyncio.to_thread(self._read_disk)
        for digest in self._dropped_in_scan or ():
            for key in KEYS:
                total -= found.pop(Name(digest, key).packed, 0)
        self._dropped_in_scan = None
        for packed, size in self._sizes.items():
            total += size - found.pop(packed, 0)
            found[packed] = size
        self._sizes, self._bytes, self._scanned = found, total, True
        await self._evict()

    async def _evict(self) -> None:
        if gone := self._oldest_over_limit():
            await self._run(self._remover, partial(self._unlink, gone))

    # In the threads

    async def _store(self, put: _Put) -> None:
        digest = put.name.digest
        try:
            stored = await self._run(self._writer, partial(self._write, put))
        except OSError as error:
            self._failed += 1
            log.warning("a derivative could not be cached: %s", error)
            stored = False
        finally:
            self._pending_count -= 1
            self._pending_bytes -= put.size
            waiting = self._pending[digest]
            waiting.remove(put)
            if not waiting:
                del self._pending[digest]
        if stored and not put.dropped():
            self._stored += 1
            self._remember(put.name.packed, put.size)
            await self._evict()

    def _write(self, put: _Put) -> bool:
        """Place one derivative; False if it is not wanted (any more). Raises OSError and leaves nothing then."""
        staged, target = TempFile(self._tmp).path, self._path(put.name)
        try:
            if put.dropped() or not self._has_room():
                return False
            self._stage(put, staged)
            durable.point("derivative.staged")
            if put.dropped():
                return False
            place(staged, target)
            durable.point("derivative.renamed")
        finally:
            unlink_if_there(staged)
            if isinstance(put.source, TempFile):
                unlink_if_there(put.source.path)
        # `drop` sets the mark before it unlinks: either it finds this file, or this sees the mark.
        if put.dropped():
            self._unlink([put.name.packed])
        return not put.dropped()

    def _stage(self, put: _Put, staged: Path) -> None:
        fd = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if isinstance(put.source, bytes):
                durable.write_all(fd, put.source)
            else:
                copy(put.source.path, fd)
            os.fchmod(fd, 0o440)
            durable.fsync_fd(fd)
        finally:
            os.close(fd)

    async def _unlink_all(self, digest: str) -> None:
        try:
            await self._run(self._remover, partial(self._unlink, [Name(digest, key).packed for key in KEYS]))
        finally:
            self._dropping[digest] -= 1
            if not self._dropping[digest]:
                del self._dropping[digest]

    def _unlink(self, names: Iterable[bytes]) -> None:
        parents: set[str] = set()
        for packed in names:
            path = self._path(unpack(packed))
            with contextlib.suppress(OSError):
                os.unlink(path)
            parents.add(os.path.dirname(path))
        for parent in parents:
            with contextlib.suppress(OSError):
                os.rmdir(parent)

    def _write_uses(self, touched: dict[bytes, float]) -> None:
        for packed, at in touched.items():
            with contextlib.suppress(OSError):
                os.utime(self._path(unpack(packed)), (at, at))

    def _read_disk(self) -> tuple[dict[bytes, int], int]:
        """Return what is there, oldest use first, and its bytes; remove what no recipe of today asks for."""
        found: list[tuple[float, bytes, int]] = []
        for first in subdirectories(self._directory):
            for picture in subdirectories(first.path):
                if DIGEST.fullmatch(picture.name) and picture.name.startswith(first.name):
                    found.extend(read_picture(picture))
        found.sort()
        return {packed: size for _, packed, size in found}, sum(size for _, _, size in found)
