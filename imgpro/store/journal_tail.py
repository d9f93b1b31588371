"""The file of a journal that grows: appended to by the writer, made durable a moment later by a thread of its own.

Knows lines as bytes only. A position names a stretch of the file and its checksum, so that a file that lost its end, or
is another one, is not taken for the one that was written.
"""

import contextlib
import logging
import os
import re
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from imgpro.store import durable

MODE: Final = 0o640
SYNC_S: Final = 1.0
_CHUNK_BYTES: Final = 1024 * 1024
_POSITION: Final = re.compile(r"(\d+):(\d+):(\d+):([0-9a-f]{8})")

log = logging.getLogger(__name__)


class Position(msgspec.Struct, frozen=True):
    """Where what belongs to a commit ends: after `end` bytes of tail `number`; those from `start` on have `crc`."""

    number: int
    start: int
    end: int
    crc: int

    def __str__(self) -> str:
        return f"{self.number}:{self.start}:{self.end}:{self.crc:08x}"


def end_of(path: Path, number: int) -> Position:
    """Return the position after all of a tail. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        return Position(number, 0, size, _checksum(fd, 0, size))
    finally:
        os.close(fd)


def position_of(text: str) -> Position | None:
    """Read what `str` made of a position; None for anything else."""
    match = _POSITION.fullmatch(text)
    return Position(int(match[1]), int(match[2]), int(match[3]), int(match[4], 16)) if match else None


class Tail:
    """One tail, open for appending. `append` and `undo` belong to the writer's thread, `sync` to any."""

    def __init__(self, fd: int, position: Position) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self.number = position.number
        self.size = position.end
        # What may not be on the disk yet begins at `_start`; that of it which came after a sync began, at `_later`.
        self._start, self._crc = position.start, position.crc
        self._later, self._later_crc = position.start, position.crc
        self._before = (self.size, self._crc, self._later_crc)
        self._named = False

    @classmethod
    def create(cls, path: Path, number: int, header: bytes) -> "Tail":
        """Begin a file. Raises OSError, and has then left nothing."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        tail = cls(fd, Position(number, 0, 0, 0))
        try:
            os.fchmod(fd, MODE)
            tail.append(header)
        except BaseException:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return tail

    @classmethod
    def resume(cls, path: Path, position: Position) -> "Tail | None":
        """Go on where the last commit left off: what comes after it was never committed and goes.

        None if the file does not hold what was written to it. Raises OSError.
        """
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size < position.end or _checksum(fd, position.start, position.end) != position.crc:
                os.close(fd)
                return None
            os.ftruncate(fd, position.end)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(fd)
            raise
        return cls(fd, position)

    @property
    def position(self) -> Position:
        """Where it ends now."""
        with self._lock:
            return Position(self.number, self._start, self.size, self._crc)

    def append(self, lines: bytes) -> None:
        """Write lines at the end, all or none. Raises OSError; the file is then to be given up."""
        self._before = (self.size, self._crc, self._later_crc)
        try:
            durable.write_all(self._fd, lines)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise
        with self._lock:
            self.size += len(lines)
            self._crc = zlib.crc32(lines, self._crc)
            self._later_crc = zlib.crc32(lines, self._later_crc)

    def undo(self) -> None:
        """Take the last `append` back. Raises OSError; the file is then to be given up."""
        size, crc, later_crc = self._before
        os.ftruncate(self._fd, size)
        with self._lock:
            # A sync that began after `_before` was noted has put everything before it on the disk.
            self._start, self._crc = (size, 0) if self._start >= size else (self._start, crc)
            self._later, self._later_crc = (size, 0) if self._later >= size else (self._later, later_crc)
            self.size = size

    def sync(self) -> None:
        """Make durable what was written. Blocking; raises OSError, and the file is then to be given up."""
        with self._lock:
            self._later, self._later_crc = self.size, 0
        durable.fsync_fd(self._fd)
        with self._lock:
            self._start, self._crc = self._later, self._later_crc

    def name_is_durable(self, folder: Path) -> None:
        """Make the file's name durable, once. Blocking; raises OSError."""
        if not self._named:
            durable.fsync_directory(folder)
            self._named = True

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


class Syncer:
    """A thread that calls `work` about a second after `wake`, so that no commit has to wait for it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have it done soon."""
        if not self._woken.is_set():  # most commits find it awake
            self._woken.set()

    def close(self) -> None:
        """End; what is due is done first."""
        self._closing.set()
        self._woken.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._woken.wait()
            self._closing.wait(SYNC_S)
            self._woken.clear()
            self._work()


def _checksum(fd: int, start: int, end: int) -> int:
    crc = 0
    while start < end:
        chunk = os.pread(fd, min(_CHUNK_BYTES, end - start), start)
        if not chunk:
            break
        crc = zlib.crc32(chunk, crc)
        start += len(chunk)
    return crc
