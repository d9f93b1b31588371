"""The data directory: what is in it, whose it is, and the lock that makes one server its only writer.

Knows names and modes, not what the files mean to anybody.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import uuid
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from imgpro.errors import Action, DataDirLocked, DataDirMissing, DataUnusable, StorageFault
from imgpro.store import durable
from imgpro.store.ballast import BALLAST_BYTES, Ballast

LAYOUT_VERSION: Final = 1
HASH_NAME: Final = "blake3"
DATABASE_NAME: Final = "imgpro.db"
ADMIN_SOCKET: Final = "admin.sock"  # where the command line talks to the server that runs
_DIRECTORIES: Final = ("blobs", "cache", "tmp", "backups")
_FORMAT: Final = "FORMAT"
_LOCK: Final = "imgpro.lock"
_KEY_FILE: Final = "secret.key"
_KEY_BYTES: Final = 32
_BALLAST: Final = ".ballast"
# What may lie in a directory that is still new: the file system's own, and what a killed first start leaves.
_NEW: Final = frozenset({"lost+found", _LOCK, f"{_FORMAT}.new"})
# The first line is fixed by the convention that backup tools look for; the rest is for people.
_CACHE_TAG: Final = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# Pictures in here are made from those in blobs/ and need no backup. See https://bford.info/cachedir/\n"
)


class FormatFile(msgspec.Struct, frozen=True):
    """What the `FORMAT` marker says about the directory it lies in."""

    layout: int
    hash: str
    instance_id: str


class Free(msgspec.Struct, frozen=True):
    """Room left for this user. `inodes` is None on file systems that do not count them."""

    bytes: int
    inodes: int | None


class DataDir:
    """An opened and locked data directory. Make it with `DataDir.open`, end it with `close`."""

    def __init__(self, root: Path, database_dir: Path, lock_fd: int) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.cache = root / "cache"
        self.tmp = root / "tmp"
        self.backups = root / "backups"
        self.database = database_dir / DATABASE_NAME
        # Beside the database: it is the one that cannot go on without room.
        self.ballast = Ballast(database_dir / _BALLAST)
        self.instance_id = ""
        self.secret = b""
        self.secret_was_made = False
        self._lock_fd = lock_fd

    @classmethod
    def open(cls, path: Path, database_dir: Path | None = None) -> "DataDir":
        """Create or recognise the data directory at `path`, lock it, prove its disk, and empty `tmp/`.

        Blocking; meant for start-up. Raises DataDirMissing (not ours, or its disk is not mounted),
        DataDirLocked, DataUnusable (newer, damaged) and StorageFault.
        """
        root = Path(os.path.abspath(path))
        home = Path(os.path.abspath(database_dir)) if database_dir is not None else root
        try:
            _recognise(root, home / DATABASE_NAME)
            durable.make_directories(root)
            durable.make_directories(home)
            data = cls(root, home, _lock(root / _LOCK))
            try:
                data._settle()
            except BaseException:
                data.close()
                raise
        except OSError as error:
            raise durable.fault(error, f"opening the data directory {root}") from error
        return data

    def _settle(self) -> None:
        """Fill in what is missing; a start that was killed half-way is simply continued."""
        if self.free_space().bytes < BALLAST_BYTES:
            self.ballast.release()
        if not (self.root / _FORMAT).exists():
            marker = FormatFile(LAYOUT_VERSION, HASH_NAME, str(uuid.uuid4()))
            durable.write_file(self.root / _FORMAT, msgspec.json.encode(marker) + b"\n", 0o640)
        self.instance_id = _read_format(self.root / _FORMAT).instance_id
        for name in _DIRECTORIES:
            durable.make_directory(self.root / name)
        durable.fsync_directory(self.root)
        tag = self.cache / "CACHEDIR.TAG"
        if not tag.exists():
            durable.write_file(tag, _CACHE_TAG, 0o640)
        self._load_secret()
        _empty(self.tmp)
        durable.check_database_directory(self.database.parent)
        for target in (self.blobs, self.cache):
            durable.self_test(self.tmp, target)

    def _load_secret(self) -> None:
        path = self.root / _KEY_FILE
        if not path.exists():
            durable.write_file(path, secrets.token_hex(_KEY_BYTES).encode("ascii") + b"\n", 0o600)
            self.secret_was_made = True
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        try:
            self.secret = bytes.fromhex(path.read_text("ascii").strip())
        except ValueError:
            self.secret = b""
        if len(self.secret) != _KEY_BYTES:
            raise DataUnusable(
                f"{path} is damaged: it should hold {_KEY_BYTES * 2} hexadecimal digits.",
                Action("fix", label="Restore it from a backup, or remove it (links signed with it stop working)"),
            )

    def free_space(self) -> Free:
        """Ask the file system how much room is left. Blocking; raises StorageFault."""
        try:
            found = os.statvfs(self.root)
        except OSError as error:
            raise durable.fault(error, "asking for free space") from error
        return Free(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)

    def close(self) -> None:
        """Give the lock back; idempotent."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def _recognise(root: Path, database: Path) -> None:
    """Pass a new directory and one of ours, raise for anything else. Changes nothing."""
    try:
        names = frozenset(os.listdir(root)) - {"lost+found"}
    except FileNotFoundError:
        names = frozenset()
    except NotADirectoryError:
        raise DataDirMissing(f"{root} is a file, not a directory.", _elsewhere()) from None
    if _FORMAT in names:
        _read_format(root / _FORMAT)
        _check_halves(root, database)
        return
    if database.exists() and database.parent != root:
        raise DataDirMissing(
            f"{root} is empty, but {database} says that there should be pictures.",
            Action("fix", label="Mount the disk that holds the pictures, then start again"),
        )
    if DATABASE_NAME in names or _KEY_FILE in names:
        raise DataUnusable(
            f"{root} holds data of imgpro but its {_FORMAT} file is missing, so its layout is not known.",
            Action("fix", label=f"Restore {_FORMAT} from a backup of this directory"),
        )
    if names - _NEW:
        raise DataDirMissing(f"{root} is not empty and was not made by imgpro.", _elsewhere())


def _check_halves(root: Path, database: Path) -> None:
    """Refuse when one of database and pictures is gone: going on would end with the other one swept away."""
    blobs = root / "blobs"
    if database.exists():
        if not blobs.is_dir():
            raise DataDirMissing(
                f"{blobs} is missing, but the database is there.",
                Action("fix", label="Mount the disk that holds the pictures, or restore them from a backup"),
            )
    elif blobs.is_dir() and any(blobs.iterdir()):
        raise DataUnusable(
            f"{database} is missing, but {blobs} holds pictures.",
            Action("fix", label="Restore the database from backups/, or name its place with --db-dir"),
        )


def _elsewhere() -> Action:
    return Action("fix", label="Name an empty or new directory with --data")


def _read_format(path: Path) -> FormatFile:
    try:
        # The layout number is read first and alone: a newer FORMAT may have any other shape.
        layout = json.loads(path.read_bytes())["layout"]
        newer = isinstance(layout, int) and layout > LAYOUT_VERSION
        found = None if newer else msgspec.convert(json.loads(path.read_bytes()), FormatFile)
    except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise DataUnusable(
            f"{path} cannot be read, so the layout of this directory is not known.",
            Action("fix", label="Restore it from a backup of this directory"),
        ) from error
    if found is None or found.layout != LAYOUT_VERSION or found.hash != HASH_NAME:
        raise DataUnusable(
            f"{path.parent} was written by another version of imgpro: its layout is {layout}, not {LAYOUT_VERSION}.",
            Action("fix", label="Start the version of imgpro that wrote it, or a newer one"),
        )
    return found


def _lock(path: Path) -> int:
    """Take the directory's lock without waiting; the descriptor holds it until it is closed."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        _refuse_lock(path, holder, error)
    with contextlib.suppress(OSError):  # who holds it is for people to read; a full disk is no reason to stop here
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
    return fd


def _refuse_lock(path: Path, holder: str, error: OSError) -> NoReturn:
    if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
        who = f"process {holder}" if holder.isdigit() else "another process"
        raise DataDirLocked(
            f"{path.parent} is in use by {who}.",
            Action("fix", label="Stop the other imgpro, or give this one its own directory with --data"),
        ) from error
    raise StorageFault(
        f"{path} cannot be locked: {error.strerror}.",
        Action("fix", label="Use a file system with working file locks"),
    ) from error


def _empty(directory: Path) -> None:
    """Remove what an earlier process was staging; nothing in there was ever acknowledged."""
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)
