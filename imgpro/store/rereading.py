"""Reading an original again and holding its bytes against its name, without washing others out of the page cache.

Everything here blocks and belongs into a thread. Knows nothing of rows, of quarantine or of who asked.
"""

import ctypes
import errno
import mmap
import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from blake3 import blake3

from imgpro.store import durable
from imgpro.store.desk import Desk
from imgpro.store.layout import blob_path

CHUNK_BYTES: Final = 1024 * 1024
SPELL_S: Final = 1.0  # after which a reading says how far it is
BLOB_MODE: Final = 0o440
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in its place must not be waited for

Damage = Literal["altered", "missing", "unreadable"]
# The file is there and cannot be read; other errors say nothing about the file.
UNREADABLE: Final = frozenset(
    {errno.EIO, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EUCLEAN}
)


class Verdict(msgspec.Struct, frozen=True):
    """What was found at a blob's name: None for whole, else the damage and words about it. `read_bytes` were read."""

    damage: Damage | None
    words: str = ""
    read_bytes: int = 0


class Pace:
    """At most `rate_bytes` a second, None for any; and an end where `stop` is set."""

    def __init__(self, rate_bytes: int | None = None, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()
        self.chunk_bytes = CHUNK_BYTES if rate_bytes is None else max(4096, min(CHUNK_BYTES, rate_bytes // 10))
        self._rate_bytes = rate_bytes
        self._due_s = time.monotonic()

    def took(self, count: int) -> None:
        """Wait as long as reading `count` bytes has to take; raises Stopped."""
        if self._rate_bytes is not None:
            now_s = time.monotonic()
            # What was not used is not saved up: reading after a pause goes as fast as any.
            self._due_s = max(self._due_s, now_s - 0.1) + count / self._rate_bytes
            self.stop.wait(max(0.0, self._due_s - now_s))
        if self.stop.is_set():
            raise Stopped


class Spell(msgspec.Struct, frozen=True):
    """What some reading has found: blobs, their bytes, the bad ones, and how many of the last in a row were."""

    checked: int
    bytes: int
    bad: list[str]
    row: int


class Stopped(Exception):
    """Whoever asked does not want to know any more."""


class NotWhole(Exception):
    """A blob is not what its name says; `reason` is what the operating system said of one that cannot be read."""

    def __init__(self, damage: Damage, reason: str) -> None:
        super().__init__(damage, reason)
        self.damage = damage
        self.reason = reason


def read_again(path: Path, digest: str, size: int | None, pace: Pace | None = None) -> Verdict:
    """Read the file at `path` and say whether it is the blob of `digest`, `size` bytes long where that is known.

    A file of ours that its mode keeps from being read gets its mode back first. Raises Stopped, and StorageFault for
    what says nothing about this one file.
    """
    pace = pace or Pace()
    try:
        fd = _open(path)
    except FileNotFoundError:
        return Verdict("missing", "is not there")
    except OSError as error:
        return _unreadable(error)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return Verdict("unreadable", "is no file")
        if size is not None and found.st_size != size:
            return Verdict("altered", f"has {found.st_size:,} bytes, not {size:,}")
        return _compared(fd, found.st_size, digest, pace)
    except OSError as error:
        return _unreadable(error)
    finally:
        os.close(fd)


def read_page(blobs: Path, page: Sequence[tuple[str, int]], pace: Pace, patience: int) -> Spell:
    """Read the blobs of a page again for a second or so, or until `patience` of them in a row are bad."""
    until_s = time.monotonic() + SPELL_S
    checked = read = row = 0
    bad: list[str] = []
    for digest, size in page:
        verdict = read_again(blobs / blob_path(digest), digest, size, pace)
        checked, read = checked + 1, read + verdict.read_bytes
        row = row + 1 if verdict.damage is not None else 0
        if verdict.damage is not None:
            bad.append(digest)
        if time.monotonic() > until_s or row >= patience:
            break
    return Spell(checked, read, bad, row)


def read_beside(
    desk: Desk, blobs: Path, page: Sequence[tuple[str, int]], rate_bytes: int | None, patience: int
) -> Spell:
    """Do so in a `SideProcess`, which keeps the pace from one page to the next."""
    pace = desk.kept.setdefault("pace", Pace(rate_bytes, desk.stop))
    return read_page(blobs, page, pace, patience)


def proven(path: Path, digest: str, size: int | None = None, *, forget: bool = False) -> Iterator[bytes]:
    """Yield the bytes of a blob; raise NotWhole after the last piece, or before, if they are not what its name says.

    `forget`: they need not stay in the page cache. Nothing about the file is changed.
    """
    try:
        fd = os.open(path, _FLAGS)
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR)
        raise NotWhole("missing" if gone else "unreadable", error.strerror or str(error)) from error
    hasher, at = blake3(), 0
    try:
        while True:
            try:
                chunk = os.pread(fd, CHUNK_BYTES, at)
            except OSError as error:
                raise NotWhole("unreadable", error.strerror or str(error)) from error
            if not chunk:
                break
            hasher.update(chunk)
            at += len(chunk)
            yield chunk
        if forget:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    if size not in (None, at) or hasher.hexdigest() != digest:
        raise NotWhole("altered", "")


def _open(path: Path) -> int:
    try:
        return os.open(path, _FLAGS)
    except PermissionError:
        set_mode(path)
        return os.open(path, _FLAGS)


def _unreadable(error: OSError) -> Verdict:
    if error.errno not in UNREADABLE:
        raise durable.fault(error, "reading an original again") from error
    if error.errno == errno.ELOOP:
        return Verdict("unreadable", "is a link")
    return Verdict("unreadable", f"cannot be read ({os.strerror(error.errno)})")


def _compared(fd: int, size: int, digest: str, pace: Pace) -> Verdict:
    """Hash an open file. What was in the page cache before stays there; what only this brought in goes again."""
    cached = _cached_chunks(fd, size, pace.chunk_bytes)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    hasher, at = blake3(), 0
    buffer = _buffer()
    while count := os.preadv(fd, [memoryview(buffer)[: pace.chunk_bytes]], at):
        hasher.update(memoryview(buffer)[:count])
        if at // pace.chunk_bytes not in cached:
            os.posix_fadvise(fd, at, count, os.POSIX_FADV_DONTNEED)
        at += count
        pace.took(count)
    if hasher.hexdigest() == digest:
        return Verdict(None, "", at)
    return Verdict("altered", "holds other bytes than its name says", at)


_own = threading.local()


def _buffer() -> bytearray:
    """Return this thread's buffer: a new one for each of a million files would cost more than hashing them."""
    if not hasattr(_own, "buffer"):
        _own.buffer = bytearray(CHUNK_BYTES)
    found: bytearray = _own.buffer
    return found


def _libc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    except (AttributeError, OSError):
        return None
    return libc


_LIBC: Final = _libc()
_FAILED: Final = ctypes.c_void_p(-1).value


def _cached_chunks(fd: int, size: int, chunk_bytes: int) -> set[int]:
    """Return which chunks of a file have pages in memory; all of them where that cannot be told.

    By mincore(2), which asks for pages and touches none.
    """
    chunks = -(-size // chunk_bytes)
    if _LIBC is None or not size:
        return set(range(chunks))
    address = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address in (None, _FAILED):
        return set(range(chunks))
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    try:
        if _LIBC.mincore(address, size, pages) != 0:
            return set(range(chunks))
    finally:
        _LIBC.munmap(address, size)
    found, each = pages.raw, max(1, chunk_bytes // mmap.PAGESIZE)
    return {n for n in range(chunks) if any(flag & 1 for flag in found[n * each : (n + 1) * each])}


def set_mode(path: Path) -> None:
    """Give a blob the mode that it should have; raises OSError."""
    if stat.S_ISREG(os.lstat(path).st_mode):  # of a link, the file that it leads to would get it
        os.chmod(path, BLOB_MODE)
