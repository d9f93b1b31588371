"""Write, fsync, rename, fsync the directory: the few moves that make bytes survive a power cut.

Also the named crash points of the write path and the start-up proof that this disk keeps its promises. Knows
nothing of blobs, rows or pictures.
"""

import contextlib
import ctypes
import errno
import os
import re
import signal
import threading
from pathlib import Path
from typing import Final

from imgpro.errors import Action, Busy, StorageFault, StorageFull, StorageUnwritable

POINTS: Final = (
    "stage.opened",
    "stage.written",
    "blob.fsynced",
    "blob.renamed",
    "blob.directory_fsynced",
    "row.inserted",
    "commit.before",
    "commit.after",
    "delete.row_gone",
    "delete.unlinked",
    "derivative.staged",
    "derivative.renamed",
)
"""Every place where the crash tests may kill the process, in the order an upload and its deletion meet them."""
MIGRATION_POINTS: Final = ("migrate.copied", "migrate.stepped", "migrate.committed")
"""The same for a start that finds an older database."""
JOURNAL_POINTS: Final = ("journal.aside",)
"""The same for a start that sets a journal aside."""
HEALING_POINTS: Final = ("quarantine.moved", "quarantine.durable")
"""The same for an original that is set aside, or comes back from there."""
BACKUP_POINTS: Final = (
    "backup.copied",
    "backup.blobs",
    "backup.unmarked",
    "restore.staged",
    "restore.marked",
    "restore.moved",
    "restore.swapped",
    "restore.unmarked",
)
"""The same for a backup that is made, and for one that is restored."""

# A limit on the length of a file (`ulimit -f`) is one more way of saying that there is no room for it.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NOT_WRITABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# Some file systems have no fsync for some kinds of file and say so; anything else is a broken promise.
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
_NO_MODES: Final = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})

DIRECTORY_MODE: Final = 0o750

# f_type of statfs(2) -> name, for file systems on which SQLite's shared memory and locks are known to work.
LOCAL_FILESYSTEMS: Final = {
    0xEF53: "ext2/3/4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
    0x794C7630: "overlay",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
    0x3153464A: "jfs",
    0x52654973: "reiserfs",
    0x3434: "nilfs",
    0xF15F: "ecryptfs",
}
OTHER_FILESYSTEMS: Final = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x01021997: "9p",
    0x65735546: "FUSE",
    0x00C36400: "Ceph",
    0x5346414F: "AFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
    0x0BD00BD0: "Lustre",
    0x4D44: "FAT",
    0x2011BAB0: "exFAT",
    0x7366746E: "NTFS",
}


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
# ext2/3/4, XFS, btrfs, ZFS, F2FS, bcachefs, tmpfs
_WHOLLY_SYNCED: Final = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x2FC12FC1, 0xF2F52010, 0xCA451A4E, 0x01021994})
WHOLE_SYNC_TELLS: Final = hasattr(_LIBC, "syncfs") and (
    tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2]) >= (5, 8)
)


class _CrashPlan:
    """Reads `IMGPRO_CRASH_AT=name[:n]` once and kills the process when that point is met for the n-th time."""

    def __init__(self, text: str) -> None:
        self.name, _, count = text.partition(":")
        self._left = int(count or 1)
        self.victims = [os.getpid()]
        self._lock = threading.Lock()
        if self.name not in (*POINTS, *MIGRATION_POINTS, *JOURNAL_POINTS, *HEALING_POINTS, *BACKUP_POINTS):
            raise ValueError(f"IMGPRO_CRASH_AT names no crash point: {self.name!r}")

    def met(self) -> None:
        """Count one pass; the last one does not return."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                for victim in self.victims:
                    os.kill(victim, signal.SIGKILL)


_plan: Final = _CrashPlan(os.environ["IMGPRO_CRASH_AT"]) if os.environ.get("IMGPRO_CRASH_AT") else None


def die_together(pid: int) -> None:
    """Have a kill that the crash tests ask for hit another process as well, before this one."""
    if _plan is not None:
        _plan.victims.insert(0, pid)


def point(name: str) -> None:
    """Do nothing, unless the crash tests asked for a kill -9 exactly here."""
    if _plan is not None and _plan.name == name:
        _plan.met()


def is_full(error: OSError) -> bool:
    """Tell whether the disk refused for want of room (or quota)."""
    return error.errno in _FULL


def fault(error: OSError, doing: str) -> StorageFull | StorageFault | Busy:
    """Return the error to raise for what the operating system said while `doing`, e.g. "writing a picture"."""
    if is_full(error):
        return StorageFull()
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Busy()
    reason = error.strerror or str(error)
    if error.errno in NOT_WRITABLE:
        return StorageFault(
            f"Not allowed while {doing}: {reason}.",
            Action("fix", label="Make the data directory writable for the user that runs imgpro, or choose another"),
        )
    return StorageFault(f"The disk failed while {doing}: {reason}.", Action("fix", label="Check the disk and its log"))


def write_fault(error: OSError, doing: str) -> StorageFull | StorageFault | Busy:
    """Return the error to raise where a server at work could not write: a disk may become read-only under it."""
    if error.errno not in NOT_WRITABLE:
        return fault(error, doing)
    return StorageUnwritable(f"This server cannot store anything at the moment ({error.strerror or error}).")


def fsync_fd(fd: int) -> None:
    """Flush an open file or directory to the disk; raises OSError.

    A file system without fsync for this kind of file is tolerated. EIO is not: after it, the kernel has
    forgotten which pages were dirty, and a second fsync of the same file would lie.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def whole_sync_is_enough(path: Path) -> bool:
    """Tell whether `sync_file_system` promises what fsync(2) of each file does there.

    FUSE passes it on to none of its file systems but one; SMB writes to its server and has that flush nothing.
    """
    return WHOLE_SYNC_TELLS and filesystem_type(path) in _WHOLLY_SYNCED


def sync_file_system(fd: int) -> None:
    """Flush all of the file system that `fd` lies on; raises OSError, also for a write that failed since it was opened.

    Only where `whole_sync_is_enough`: before Linux 5.8 it kept silent about those.
    """
    if _LIBC.syncfs(fd) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def flush_once(path: Path, *, flushed: bool) -> None:
    """Make a file durable, unless it is `flushed` already, and let its bytes go from memory; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not flushed:
            fsync_fd(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def fsync_directory(path: str | Path) -> None:
    """Make the names in a directory durable; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync_fd(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> bool:
    """Create one directory with our mode, whatever the umask; False if it was there. Raises OSError."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    set_mode(path, DIRECTORY_MODE)
    return True


def make_directories(path: Path) -> None:
    """Create a directory and its missing parents, and make each new name durable; raises OSError."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for directory in reversed(missing):
        if make_directory(directory):
            fsync_directory(directory.parent)


def set_mode(file: int | Path, mode: int) -> None:
    """Give a file its mode, where the file system has such modes and lets us: FAT and some network ones do not.

    Raises OSError.
    """
    try:
        os.chmod(file, mode)
    except OSError as error:
        if error.errno not in _NO_MODES:
            raise


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write everything, however many calls it takes; raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Put a small file in place, complete or not at all, durably; replaces. Raises OSError."""
    staged = path.with_name(f"{path.name}.new")
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, mode)
        write_all(fd, data)
        fsync_fd(fd)
    finally:
        os.close(fd)
    os.rename(staged, path)
    fsync_directory(path.parent)


def self_test(source: Path, target: Path) -> None:
    """Prove that a file written in `source` can be made durable and moved into `target`; raises StorageFault.

    Both must be one file system, writable, with rename that replaces and names that stay readable through an
    open file after they are gone: the write path rests on all of these.
    """
    name = f".selftest-{os.getpid()}"
    staged, placed = source / name, target / name
    try:
        _prove(staged, placed)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise StorageFault(
                f"{source} and {target} lie on different file systems; a picture cannot be moved between them whole.",
                Action("fix", label="Mount one disk at the data directory itself, not inside it"),
            ) from error
        raise StorageFault(
            f"The data directory does not hold what is written to it ({target}: {error.strerror or error}).",
            Action("fix", label="Check that it is writable by this user, not full, and that the disk is healthy"),
        ) from error
    finally:
        for leftover in (staged, placed):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _prove(staged: Path, placed: Path) -> None:
    proof = os.urandom(4096)
    placed.write_bytes(b"to be replaced")
    fd = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, proof)
        fsync_fd(fd)
        os.rename(staged, placed)
        fsync_directory(placed.parent)
        if placed.read_bytes() != proof:
            raise OSError(errno.EIO, "a file came back with other bytes")
        os.unlink(placed)
        if os.pread(fd, 4097, 0) != proof:
            raise OSError(errno.EIO, "an open file lost its bytes when its name was removed")
    finally:
        os.close(fd)


def filesystem_type(path: Path) -> int | None:
    """Return statfs(2)'s `f_type` of the file system that holds `path`, or None where that cannot be asked."""
    try:
        statfs = _LIBC.statfs
    except (AttributeError, OSError):
        return None
    # f_type is the first word of the structure on every Linux this runs on; the rest is not looked at.
    buffer = ctypes.create_string_buffer(512)
    if statfs(os.fsencode(path), buffer) != 0:
        return None
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF


def check_database_directory(path: Path) -> None:
    """Refuse a file system on which SQLite's write-ahead log is unsafe; raises StorageFault.

    The log needs memory shared between connections on one host; on a network file system it corrupts.
    """
    kind = filesystem_type(path)
    if kind is None or kind in LOCAL_FILESYSTEMS:
        return
    name = OTHER_FILESYSTEMS.get(kind, f"an unknown file system (type 0x{kind:x})")
    raise StorageFault(
        f"The database cannot live in {path}: it is on {name}, which is not known to be safe for SQLite.",
        Action("fix", label="Keep the pictures there and put the database on a local disk with --db-dir"),
    )
