"""The folder that an export is written into: whole files under their names, and nothing that others put there touched.

Files are made in a working folder inside of it and moved to their places; links in the way are never followed, since
others may write to it. Its methods block. Knows neither pictures nor the database.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from blake3 import blake3

from imgpro.errors import Action, Busy, OperatorError, StorageFault
from imgpro.store import durable, room

WORK: Final = ".imgpro-export"
PLACED: Final = "placed.jsonl"  # what was put in place since the last export that came to its end
_READ_BYTES: Final = 1 << 20
_STEPS_MS: Final = (1, 10, 1_000, 2_000)  # to which file systems keep times: most, exFAT, HFS+, FAT
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ExportFolder:
    """A folder that is open for an export. Make it with `ExportFolder.open`, end it with `close`."""

    def __init__(self, path: Path, root: int) -> None:
        self.path = path
        self._root = root
        self._lock = -1
        self._journal = -1

    @classmethod
    def open(cls, path: Path) -> "ExportFolder":
        """Open a folder, making it where it is not there: then for this user's eyes only. Raises StorageFault."""
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.mkdir(mode=0o700)
            return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except NotADirectoryError:
            raise OperatorError(f"{path} is a file, not a folder.") from None
        except OSError as error:
            raise write_fault(error, path) from error

    def begin(self) -> None:
        """Take the folder for this run, and clear away what a run that was cut off left unfinished. Raises Busy."""
        with self._faults():
            with contextlib.suppress(FileExistsError):
                os.mkdir(WORK, 0o700, dir_fd=self._root)
            self._lock = self._open(f"{WORK}/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"Another export into {self.path} is under way.") from None
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise
            for name in self.names(WORK):
                if name not in ("lock", PLACED):
                    self.remove(f"{WORK}/{name}")

    def finish(self, index: str, staged: str) -> None:
        """Make everything durable, put the index in its place last, and take the working folder away."""
        with self._faults():
            self.sync()
            self.replace(staged, index)
            durable.fsync_fd(self._root)
            if self._journal >= 0:
                os.close(self._journal)
                self._journal = -1
            for name in self.names(WORK):
                self.remove(f"{WORK}/{name}")
            with contextlib.suppress(OSError):
                os.rmdir(WORK, dir_fd=self._root)

    def close(self) -> None:
        """Let go of the folder; a working folder that holds nothing is taken away. Idempotent."""
        for fd in (self._journal, self._lock):
            if fd >= 0:
                os.close(fd)
        self._journal = self._lock = -1
        if self._root >= 0:
            if self.names(WORK) == ["lock"]:
                with contextlib.suppress(OSError):
                    self.remove(f"{WORK}/lock")
                    os.rmdir(WORK, dir_fd=self._root)
            os.close(self._root)
            self._root = -1

    def names(self, folder: str = "") -> list[str]:
        """Return what lies in a folder; nothing where it is not there."""
        try:
            fd = self._folder(folder, make=False) if folder else os.dup(self._root)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def look(self, path: str) -> os.stat_result | None:
        """Return what lies at a path, a link as itself; None where nothing does."""
        try:
            folder = self._folder(os.path.dirname(path), make=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        finally:
            os.close(folder)

    def is_intact(self, path: str, digest: str, size: int, at_ms: int) -> bool:
        """Tell whether a file is what was written: by its length and time; by its bytes where only the time differs."""
        found = self.look(path)
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        if found.st_mtime_ns // 1_000_000 in {at_ms // step * step for step in _STEPS_MS}:
            return True
        with self._faults():
            fd = self._open(path, _READ)
            try:
                if _hash(fd) != digest:
                    return False
                set_time(fd, at_ms)
            finally:
                os.close(fd)
        return True

    def read(self, path: str) -> bytes | None:
        """Return a small file; None where it is not there."""
        try:
            fd = self._open(path, _READ)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with open(fd, "rb") as file:
            return file.read()

    def opened(self, path: str) -> int | None:
        """Return a descriptor for reading, the caller's to close; None where there is no such file."""
        try:
            return self._open(path, _READ)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def stage(self, name: str) -> int:
        """Return a descriptor of a new file in the working folder, the caller's to close."""
        with self._faults():
            return self._open(f"{WORK}/{name}", _NEW)

    def write(self, path: str, data: bytes) -> None:
        """Put a small file of ours in place, unless it is there with these bytes."""
        if self.read(path) == data:
            return
        staged = f"{WORK}/{path.replace('/', '-')}.part"
        with self._faults():
            fd = self._open(staged, _NEW)
            try:
                durable.write_all(fd, data)
            finally:
                os.close(fd)
            self.replace(staged, path)

    def replace(self, staged: str, path: str) -> None:
        """Move a file of ours to a path, making the folders to it; what lies there is replaced."""
        with self._faults():
            source = self._folder(os.path.dirname(staged), make=False)
            try:
                target = self._folder(os.path.dirname(path), make=True)
                try:
                    names = os.path.basename(staged), os.path.basename(path)
                    os.rename(*names, src_dir_fd=source, dst_dir_fd=target)
                finally:
                    os.close(target)
            finally:
                os.close(source)

    def remove(self, path: str) -> None:
        """Remove a file, and the folders above it that hold nothing any more; none of it need be there."""
        with self._faults(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            folder = self._folder(os.path.dirname(path), make=False)
            try:
                os.unlink(os.path.basename(path), dir_fd=folder)
            finally:
                os.close(folder)
        self.tidy(path)

    def tidy(self, path: str) -> None:
        """Remove the folders above a path that hold nothing any more."""
        above = os.path.dirname(path)
        while above and above != WORK:
            try:
                parent = self._folder(os.path.dirname(above), make=False)
            except OSError:
                return
            try:
                os.rmdir(os.path.basename(above), dir_fd=parent)
            except OSError:
                return
            finally:
                os.close(parent)
            above = os.path.dirname(above)

    def note(self, lines: Sequence[bytes]) -> None:
        """Write down what will be put in place next, so that a run after this one knows it for ours."""
        with self._faults():
            if self._journal < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
                self._journal = self._open(f"{WORK}/{PLACED}", flags)
                if os.fstat(self._journal).st_size:
                    durable.write_all(self._journal, b"\n")  # after a line that may have been cut off
            durable.write_all(self._journal, b"".join(lines))
            durable.fsync_fd(self._journal)

    def sync(self) -> None:
        """Have the disk take all that was written: once for many files, each of which would be a wait of its own."""
        with self._faults():
            _sync_file_system(self._root)

    def room(self) -> room.FileSystem:
        """Return how much room there is."""
        return room.file_system(self.path)

    def _open(self, path: str, flags: int) -> int:
        folder = self._folder(os.path.dirname(path), make=bool(flags & os.O_CREAT))
        try:
            return os.open(os.path.basename(path), flags, 0o666, dir_fd=folder)
        finally:
            os.close(folder)

    def _folder(self, path: str, *, make: bool) -> int:
        """Return a descriptor of a folder below the root, the caller's to close. No link is followed, and no `..`.

        Paths come from the index of an earlier run too, which others may have written. Raises OSError.
        """
        at = os.dup(self._root)
        try:
            for name in path.split("/") if path else ():
                if name in ("", ".", ".."):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=at)
                below = os.open(name, _FOLDER, dir_fd=at)
                os.close(at)
                at = below
        except BaseException:
            os.close(at)
            raise
        return at

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_fault(error, self.path) from error


def set_time(fd: int, at_ms: int) -> None:
    """Give a file the time of its picture, where the file system lets us."""
    with contextlib.suppress(OSError, OverflowError):
        os.utime(fd, ns=(at_ms * 1_000_000, at_ms * 1_000_000))


def write_fault(error: OSError, path: Path) -> StorageFault:
    """Return the error to raise for what the operating system said while an export was written."""
    reason = error.strerror or str(error)
    if durable.is_full(error):
        return StorageFault(
            f"There is no more room in {path}: {reason}.",
            Action("fix", label="Make room, then run it again: it goes on where it was"),
        )
    if error.errno in durable.NOT_WRITABLE:
        return StorageFault(
            f"{path} cannot be written to: {reason}.", Action("fix", label="Name a folder that this user may write to")
        )
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST):
        return StorageFault(
            f"Something that is no folder of this export lies in its way in {path}: {reason}.",
            Action("fix", label="Move it away, then run it again"),
        )
    return StorageFault(f"{path} failed while it was written: {reason}.", Action("fix", label="Check that disk"))


def _hash(fd: int) -> str:
    hasher, at = blake3(), 0
    while chunk := os.pread(fd, _READ_BYTES, at):
        hasher.update(chunk)
        at += len(chunk)
    return hasher.hexdigest()


def _sync_file_system(fd: int) -> None:
    """Have the disk take everything that was written to the file system of an open file; raises OSError."""
    sync = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if sync is None:
        os.sync()
    elif sync(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
