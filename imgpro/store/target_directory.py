"""The place for backups that is a directory: on this disk, on another one, or on a NAS. Knows nothing of the files."""

import contextlib
import errno
import fcntl
import os
import secrets
import shlex
import stat
import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Final

from imgpro.errors import Action, TargetFault
from imgpro.store import durable
from imgpro.store.target import CHUNK_BYTES, Absent, Item, Lock, in_use, process_locks

PARTIAL: Final = "partial"  # folder of files on their way; never listed
_DEEPEST: Final = 8  # folders in folders: we make fewer
_BATCH_FILES: Final = 64
_BATCH_BYTES: Final = 64 * 1024 * 1024
_MANY: Final = 2_000
FILE_MODE: Final = 0o400  # copies of secrets are among them
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS})
# A file system without hard links, or none across these two: then bytes are copied.
_NO_LINKS: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS})


class DirectoryTarget:
    """A directory, maybe on another disk or a NAS. It has to be there, but for its last part, which is made.

    Others may write to it as well, so no link in it is followed: it could lead into the data directory.
    With `links`, `link` makes a file of the same file system have a second name here, which takes no room. `name` is
    what people know it by, `mode` that of its files. With `alone` nobody waits for its file system: then all
    of that is flushed at once instead of one file after the other.
    """

    parallel = 2

    def __init__(
        self, root: Path, *, name: str = "", links: bool = False, mode: int = FILE_MODE, alone: bool = False
    ) -> None:
        self.root = root
        self.links = links
        self._name = name or str(root)
        self._mode = mode
        self._guard = threading.Lock()
        self._identity: tuple[int, int] | None = None  # of the directory, once it was seen
        # Whole files, where they go, and their bytes (None: durable already): flushed and renamed in batches.
        self._pending: list[tuple[Path, Path, int | None]] = []
        self._pending_bytes = 0
        self._touched: set[Path] = set()  # directories whose names are not durable yet
        self._batch_files, self._batch_bytes = (_BATCH_FILES, _BATCH_BYTES) if not alone else (_MANY, 8 * _BATCH_BYTES)
        self._alone = alone
        self._whole: int | None = None  # open since before the first write, so that it hears of each that failed

    def describe(self) -> str:
        """Return the path."""
        return self._name

    def put(self, name: str, chunks: Iterable[bytes], size: int) -> None:
        """Write a file; see `Target`."""
        with self._faults(f"writing {name}"):
            partial = self._partial()
            try:
                _write(partial, chunks, self._mode)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            self._place_later(partial, self._path(name), size)

    def link(self, name: str, source: Path) -> bool:
        """Give a file a second name here instead of a copy; False where that cannot be. Seen after `flush`."""
        if not self.links:
            return False
        with self._faults(f"linking {name}"):
            partial = self._partial()
            try:
                os.link(source, partial, follow_symlinks=False)
            except OSError as error:
                if error.errno in _NO_LINKS:
                    return False
                raise
            self._place_later(partial, self._path(name), None)
        return True

    def flush(self) -> None:
        """Make all of it durable; see `Target`."""
        with self._faults("writing"):
            with self._guard:
                batch, self._pending, self._pending_bytes = self._pending, [], 0
            self._place(batch)
            with self._guard:
                touched, self._touched = self._touched, set()
            if touched and self._whole is not None:
                durable.sync_file_system(self._whole)
                return
            for directory in sorted(touched):
                with contextlib.suppress(FileNotFoundError):
                    durable.fsync_directory(directory)

    def read(self, name: str) -> Generator[bytes, None, None]:
        """Yield the bytes of a file; see `Target`."""
        with self._faults(f"reading {name}"):
            folder, _, last = name.rpartition("/")
            try:
                with self._held(folder) as held:
                    fd = os.open(last, _READ, dir_fd=held)
            except (FileNotFoundError, NotADirectoryError):
                self._check_there()
                raise Absent(name) from None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Absent(name)
            at = 0
            while True:
                with self._faults(f"reading {name}"):
                    chunk = os.read(fd, CHUNK_BYTES)
                    # What is read here once is not read again soon; the pictures that visitors look at stay in memory.
                    os.posix_fadvise(fd, at, len(chunk), os.POSIX_FADV_DONTNEED)
                at += len(chunk)
                if not chunk:
                    return
                yield chunk
        finally:
            os.close(fd)

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None if there is none."""
        with self._faults(f"looking for {name}"):
            try:
                found = os.lstat(self._path(name))
            except (FileNotFoundError, NotADirectoryError):
                return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str) -> Iterator[Item]:
        """Yield files in the order of their names, one directory in memory at a time; see `Target`."""
        for item in self._walk(prefix.rpartition("/")[0]):
            if item.name.startswith(prefix):
                yield item

    def delete(self, name: str) -> None:
        """Remove a file, and the folders that it leaves empty."""
        with self._faults(f"removing {name}"):
            path, (above, last) = self._path(name), os.path.split(name)
            with contextlib.suppress(FileNotFoundError), self._held(above) as held:
                os.unlink(last, dir_fd=held)
            with self._guard:
                self._touched.add(path.parent)
            with contextlib.suppress(OSError):  # not empty
                for folder in path.parents:
                    if folder == self.root:
                        break
                    folder.rmdir()

    @contextlib.contextmanager
    def lock(self, what: Lock, *, shared: bool = False) -> Iterator[None]:
        """Hold a lock that other processes see as well, where the file system has such locks; see `Target`."""
        with process_locks.hold(self._name, what, shared=shared):
            fd = self._open_lock(what)
            try:
                if fd is not None:
                    self._take(fd, shared=shared)
                yield
            finally:
                if fd is not None:
                    os.close(fd)

    def free_bytes(self) -> int | None:
        """Return the room that is left for this user; None where the file system does not tell."""
        with self._faults("asking for free space"):
            found = os.statvfs(self.root if self.root.exists() else self.root.parent)
        return found.f_bavail * found.f_frsize if found.f_blocks else None

    def abort(self) -> None:
        """Do nothing: when a call ends is the disk's affair."""

    def close(self) -> None:
        """Drop what was put and not flushed."""
        with self._guard:
            batch, self._pending = self._pending, []
        for partial, _, _ in batch:
            with contextlib.suppress(OSError):
                partial.unlink()
        if self._whole is not None:
            os.close(self._whole)
            self._whole = None

    def tidy(self) -> None:
        """Remove what a killed process was writing; see `Target`."""
        with self._faults("clearing up"), contextlib.suppress(FileNotFoundError), self._held(PARTIAL) as held:
            for left in os.listdir(held):
                os.unlink(left, dir_fd=held)

    def _path(self, name: str) -> Path:
        return self.root / name

    def _name_of(self, folder: Path) -> str:
        return "" if folder == self.root else folder.relative_to(self.root).as_posix()

    @contextlib.contextmanager
    def _held(self, folder: str) -> Iterator[int]:
        """Lend a descriptor of a folder below the root, come by without links. Raises TargetFault, OSError."""
        at, path = os.open(self.root, _FOLDER), self.root
        try:
            for part in folder.split("/") if folder else ():
                path /= part
                try:
                    below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
                except NotADirectoryError:
                    if path.is_symlink():
                        raise _linked(path) from None
                    raise
                os.close(at)
                at = below
            yield at
        finally:
            os.close(at)

    def _partial(self) -> Path:
        folder = self.root / PARTIAL
        self._check_there()
        if folder.is_symlink():
            raise _linked(folder)
        if not folder.is_dir():
            for directory in (self.root, folder):  # not its parents: those are missing where a disk is not mounted
                if durable.make_directory(directory):
                    durable.fsync_directory(directory.parent)
            self._check_there()
        with self._guard:
            if self._alone and self._whole is None and durable.whole_sync_is_enough(folder):
                self._whole = os.open(folder, _FOLDER)
        return folder / secrets.token_hex(8)

    def _place_later(self, partial: Path, target: Path, size: int | None) -> None:
        with self._guard:
            self._pending.append((partial, target, size))
            self._pending_bytes += size or 0
            if len(self._pending) < self._batch_files and self._pending_bytes < self._batch_bytes:
                return
            batch, self._pending, self._pending_bytes = self._pending, [], 0
        self._place(batch)

    def _place(self, batch: Iterable[tuple[Path, Path, int | None]]) -> None:
        """Flush and rename files. In batches: the first flush makes most file systems write all of them."""
        batch = sorted(batch, key=lambda entry: entry[1])
        if self._whole is not None and any(size is not None for _, _, size in batch):
            durable.sync_file_system(self._whole)
        for partial, _, size in batch:
            if size is not None:
                durable.flush_once(partial, flushed=self._whole is not None)
        for partial, target, _ in batch:
            self._make_folder(target.parent)
            with self._held(PARTIAL) as source, self._held(self._name_of(target.parent)) as held:
                os.rename(partial.name, target.name, src_dir_fd=source, dst_dir_fd=held)
                # Two names of one file: rename(2) does nothing then, and leaves both.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(partial.name, dir_fd=source)
            with self._guard:
                self._touched.add(target.parent)

    def _make_folder(self, folder: Path) -> None:
        if folder == self.root:
            return
        if folder.is_symlink():
            raise _linked(folder)
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        if durable.make_directory(folder):
            with self._guard:
                self._touched.add(folder.parent)

    def _walk(self, folder: str) -> Iterator[Item]:
        with self._faults("listing"):
            try:
                with self._held(folder) as held, os.scandir(held) as found:
                    entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
            except (FileNotFoundError, NotADirectoryError):
                return
        # As an object store sorts: a folder by its name with the slash.
        for name, is_folder in sorted(entries, key=lambda entry: f"{entry[0]}/" if entry[1] else entry[0]):
            full = f"{folder}/{name}" if folder else name
            if name.startswith(".") or full in (PARTIAL, "lost+found"):
                continue
            if is_folder:
                if full.count("/") < _DEEPEST:
                    yield from self._walk(full)
                continue
            with self._faults(f"looking at {full}"):
                try:
                    seen = os.lstat(self._path(full))
                except FileNotFoundError:
                    continue
            if stat.S_ISREG(seen.st_mode):
                yield Item(full, seen.st_size, seen.st_mtime)

    def _open_lock(self, what: Lock) -> int | None:
        path = self.root / f".{what}.lock"
        with self._faults("locking"):
            try:
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
            except FileNotFoundError:
                return None  # nothing there yet that could be locked
            except OSError as error:
                if error.errno not in durable.NOT_WRITABLE:
                    raise
            # Who cannot write there can read there, and that wants no more than the lock of others.
            with contextlib.suppress(OSError):
                return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return None

    def _take(self, fd: int, *, shared: bool) -> None:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise in_use(self._name) from error
            if error.errno not in _NO_LOCKS:
                raise self._fault(error, "locking") from error

    def _check_there(self) -> None:
        """Raise TargetFault where not even the directory above is there, or another one took the place of ours."""
        try:
            found = os.stat(self.root)
        except (FileNotFoundError, NotADirectoryError):
            if self._identity is None and self.root.parent.is_dir():
                return
        else:
            self._identity = self._identity or (found.st_dev, found.st_ino)
            if self._identity == (found.st_dev, found.st_ino):
                return
        if self._identity is not None:
            what = f"Its disk was exchanged under the directory {self._name}."
        else:
            what = f"{_not_there(self.root.parent)}, so there can be no {self._name}."
        raise TargetFault(what, Action("fix", label="Mount its disk, make the directory, or name another place"))

    @contextlib.contextmanager
    def _faults(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._fault(error, doing) from error

    def _fault(self, error: OSError, doing: str) -> TargetFault:
        reason, label = error.strerror or str(error), "Check that disk and its connection"
        if error.errno == errno.EFBIG:
            reason, label = "it takes no file so long", "Choose a place on another file system: FAT ends at 4 GiB"
        elif durable.is_full(error):
            label = f"Make room there, or keep fewer: imgpro backup prune --from {shlex.quote(self._name)} --keep N"
            reason = "it is full"
        elif error.errno in durable.NOT_WRITABLE:
            label = "Make it writable for the user that runs imgpro"
            if error.errno == errno.EROFS and "INVOCATION_ID" in os.environ:  # a service: systemd opens few places
                label = "sudo imgpro service install, which lets the service write there"
        elif error.errno == errno.ENOTDIR and self.root.is_file():
            fix = Action("fix", label="Name a directory, or remove the file")
            return TargetFault(f"{self._name} is a file, not a directory.", fix)
        elif error.errno in (errno.ENOENT, errno.ENOTDIR):
            label = "Mount its disk, or name a directory that is there"
        return TargetFault(f"{self._name} failed while {doing}: {reason}.", Action("fix", label=label))


def _not_there(folder: Path) -> str:
    """Return which directory is not there, or is something else: the first on the way."""
    while not os.path.lexists(folder) and folder != folder.parent and not folder.parent.is_dir():
        folder = folder.parent
    if os.path.lexists(folder):
        return f"{folder} is {'a link to nothing' if folder.is_symlink() else 'a file, not a directory'}"
    return f"There is no directory {folder}"


def _linked(path: Path) -> TargetFault:
    return TargetFault(
        f"{path} is a symbolic link, and should be a folder of backups.",
        Action("fix", label="Find out who put it there, and remove it"),
    )


def _write(path: Path, chunks: Iterable[bytes], mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        for chunk in chunks:
            durable.write_all(fd, chunk)
        durable.set_mode(fd, mode)
    finally:
        os.close(fd)
