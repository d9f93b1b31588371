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
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from imgpro.errors import Action, DataDirLocked, DataDirMissing, DataUnusable, StorageFault
from imgpro.store import durable, halves, room
from imgpro.store.ballast import BALLAST_BYTES, Ballast
from imgpro.store.holder import LOCK_NAME as _LOCK
from imgpro.store.known import FOLDER as KNOWN_FOLDER
from imgpro.store.known import KnownData
from imgpro.store.room import FileSystem

LAYOUT_VERSION: Final = 1
HASH_NAME: Final = "blake3"
DATABASE_NAME: Final = "imgpro.db"
ADMIN_SOCKET: Final = "admin.sock"  # where the command line talks to the server that runs
STAGE: Final = "restoring"  # what a restore gathers
RESTORE_MARK: Final = "RESTORING"  # there while it takes the place of what was there before
REPLACED: Final = "replaced-"  # and the beginning of the folder where that lies afterwards
_DIRECTORIES: Final = ("blobs", "cache", "tmp", "backups", "journal", "quarantine")
_FORMAT: Final = "FORMAT"
_KEY_FILE: Final = "secret.key"
_KEY_BYTES: Final = 32
_BALLAST: Final = ".ballast"
# What may lie in a directory that is still new: the file system's own, and what a killed first start leaves.
_NEW: Final = frozenset({"lost+found", _LOCK, f"{_FORMAT}.new", KNOWN_FOLDER})
# All that is made in a data directory, but for the files of the database.
OWN_NAMES: Final = (
    *(_FORMAT, f"{_FORMAT}.new", _LOCK, _KEY_FILE, _BALLAST, ADMIN_SOCKET, KNOWN_FOLDER),
    *(STAGE, RESTORE_MARK),
    *_DIRECTORIES,
)
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


class Presence(Enum):
    """Whether the directory that was opened is still the one at its path."""

    THERE = "there"
    GONE = "gone"  # its disk was unmounted, or it was moved away: it may come back
    EXCHANGED = "exchanged"  # another one of ours took its place


class DataDir:
    """An opened and locked data directory. Make it with `DataDir.open`, end it with `close`."""

    def __init__(self, root: Path, database_dir: Path, known: KnownData | None = None) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.cache = root / "cache"
        self.tmp = root / "tmp"
        self.backups = root / "backups"
        self.journal = root / "journal"
        self.quarantine = root / "quarantine"
        self.database = database_dir / DATABASE_NAME
        # Beside the database: it is the one that cannot go on without room.
        self.ballast = Ballast(database_dir / _BALLAST)
        self.instance_id = ""
        self.secret = b""
        self.secret_was_made = False
        self._locks = contextlib.ExitStack()
        self._known = known
        self._identity = _identity(root)
        self._database_identity: tuple[int, int] | None = None
        self._blobs_device: int | None = None

    @classmethod
    def open(
        cls, path: Path, database_dir: Path | None = None, *, known: KnownData | None = None, accept: bool = False
    ) -> "DataDir":
        """Create or recognise the data directory at `path`, lock it, prove its disk, and empty `tmp/`.

        What was `known` of the path at the last start has to be there still, unless the operator says `accept`.
        Blocking; meant for start-up. Raises DataDirMissing (not ours, or its disk is not mounted),
        DataDirLocked, DataUnusable (newer, damaged) and StorageFault.
        """
        root = Path(os.path.abspath(path))
        home = Path(os.path.abspath(database_dir)) if database_dir is not None else root
        try:
            with contextlib.ExitStack() as locks:
                taken: set[tuple[int, int]] = set()
                # What is ours already is locked first: a server that runs on it is the news, not what it does in there.
                for directory, mark in ((root, _FORMAT), (home, DATABASE_NAME)):
                    if (directory / mark).exists():
                        _take(directory, locks, taken)
                _recognise(root, home / DATABASE_NAME, None if accept else known, accept=accept)
                for directory in (root, home):
                    durable.make_directories(directory)
                    _take(directory, locks, taken)
                data = cls(root, home, known)
                data._settle()
                data._locks = locks.pop_all()
        except OSError as error:
            raise durable.fault(error, f"opening the data directory {root}") from error
        return data

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to a process that works for this one: the locks stay here, what was seen of the disk goes along."""
        names = ("instance_id", "secret", "_identity", "_database_identity", "_blobs_device")
        seen = {name: getattr(self, name) for name in names}
        return DataDir, (self.root, self.database.parent), seen

    def _settle(self) -> None:
        """Fill in what is missing; a start that was killed half-way is simply continued."""
        if self.free_space().free_bytes < BALLAST_BYTES:
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
        self._blobs_device = self.blobs.stat().st_dev

    def _load_secret(self) -> None:
        path = self.root / _KEY_FILE
        if not path.exists():
            durable.write_file(path, secrets.token_hex(_KEY_BYTES).encode("ascii") + b"\n", 0o600)
            self.secret_was_made = True
        try:
            self.secret = bytes.fromhex(_read_private(path).decode("ascii").strip())
        except ValueError:
            self.secret = b""
        if len(self.secret) != _KEY_BYTES:
            raise DataUnusable(
                f"{path} is damaged: it should hold {_KEY_BYTES * 2} hexadecimal digits.",
                Action(
                    "fix",
                    label="Restore it from a backup. To go on with a new one (links signed with it stop working): "
                    "remove it, then imgpro run --accept-data",
                ),
            )

    def remember(self) -> None:
        """Note that the database was opened: it and the directory must not change under us from here on. Blocking."""
        with contextlib.suppress(OSError):
            self._database_identity = _identity(self.database)
        if self._known is not None:
            self._known.remember(self.instance_id)

    def look(self) -> Presence:
        """Look whether this directory, with its database, is still what its path leads to. Blocking."""
        try:
            if _identity(self.root) != self._identity:
                return Presence.EXCHANGED if (self.root / _FORMAT).exists() else Presence.GONE
            if self._database_identity is not None and _identity(self.database) != self._database_identity:
                return Presence.EXCHANGED
            # By device: it may be a disk of its own. Another folder there is one that somebody has put back.
            if self._blobs_device is not None and self.blobs.stat().st_dev != self._blobs_device:
                return Presence.GONE
        except OSError:
            return Presence.GONE
        return Presence.THERE

    def check_there(self) -> None:
        """Raise StorageFault unless it is: what is written now would land elsewhere. Blocking."""
        if self.look() is not Presence.THERE:
            raise StorageFault(
                "The disk that holds the pictures is not there.",
                Action("wait", label="Try again later, or ask the operator to mount it again", seconds=60),
            )

    def free_space(self) -> FileSystem:
        """Ask the file system of the pictures how much room is left. Blocking; raises StorageFault."""
        return room.file_system(self.root)

    def close(self) -> None:
        """Give the locks back; idempotent."""
        self._locks.close()


def blob_path(digest: str) -> str:
    """Return where a blob lies below `blobs/`, here and at the places that backups go to."""
    return f"{digest[:2]}/{digest[2:4]}/{digest}"


def read_marker(root: Path) -> FormatFile:
    """Return what the marker of a data directory says. Raises DataDirMissing, DataUnusable, StorageFault."""
    try:
        there = (root / _FORMAT).exists()
    except OSError as error:
        raise durable.fault(error, f"looking into {root}") from error
    if not there:
        raise DataDirMissing(
            f"There is no data directory of imgpro at {root}.", Action("fix", label="Name it with --data DIR")
        )
    return _read_format(root / _FORMAT)


@contextlib.contextmanager
def held(root: Path, home: Path) -> Iterator[None]:
    """Hold the locks of a data directory and of its database's, which are made if need be, without opening them.

    Raises DataDirLocked, StorageFault.
    """
    with contextlib.ExitStack() as locks:
        taken: set[tuple[int, int]] = set()
        try:
            for directory in (root, home):
                durable.make_directories(directory)
                _take(directory, locks, taken)
        except OSError as error:
            raise durable.fault(error, f"opening {root}") from error
        yield


def look_over(path: Path, database_dir: Path | None, known: KnownData | None) -> None:
    """Raise what `DataDir.open` would raise about what lies there. Changes nothing."""
    root = Path(os.path.abspath(path))
    home = Path(os.path.abspath(database_dir)) if database_dir is not None else root
    _recognise(root, home / DATABASE_NAME, known, accept=False)


def _read_private(path: Path) -> bytes:
    """Read a small file of ours and keep others from it. A link in its place is not followed: it may lead anywhere."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if os.fstat(fd).st_mode & 0o077:
            os.fchmod(fd, 0o600)
        return file.read(4 * _KEY_BYTES)


def _recognise(root: Path, database: Path, known: KnownData | None, *, accept: bool) -> None:
    """Pass a new directory and one of ours, raise for anything else. Changes nothing."""
    names = _names(root)
    if RESTORE_MARK in names or (STAGE in names and _FORMAT not in names):
        raise DataUnusable(
            f"A restore into {root} was broken off.", Action("fix", label=f"imgpro backup restore --data {root}")
        )
    seen = known.instance_id() if known is not None else None
    if _FORMAT in names:
        found = _read_format(root / _FORMAT)
        if seen is not None and found.instance_id != seen:
            raise DataDirMissing(
                f"{root} is another data directory than at the last start (instance {found.instance_id}, not {seen}).",
                _mount("If it was exchanged on purpose", known),
            )
        halves.check(root, database, root / _KEY_FILE, accept=accept, used=seen is not None)
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
    if seen is not None:
        raise DataDirMissing(
            f"{root} is {'empty' if root.exists() else 'not there'}, but held the data of imgpro at its last start.",
            _mount("To begin anew with nothing", known),
        )


def _names(root: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(root))
    except FileNotFoundError:
        if root.is_symlink():
            raise DataDirMissing(
                f"{root} leads to {os.readlink(root)}, which is not there.",
                Action("fix", label="Mount the disk it leads to, or correct the link"),
            ) from None
        return frozenset()
    except NotADirectoryError:
        raise DataDirMissing(f"{root} is a file, not a directory.", _elsewhere()) from None


def _mount(otherwise: str, known: KnownData | None) -> Action:
    forget = f", or remove {known.path}" if known is not None else ""
    return Action("fix", label=f"Mount its disk, then start again. {otherwise}: imgpro run --accept-data{forget}")


def _identity(path: Path) -> tuple[int, int]:
    """Return what tells this file from every other one for as long as something holds it; raises OSError."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


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


def _take(directory: Path, locks: contextlib.ExitStack, taken: set[tuple[int, int]]) -> None:
    """Lock a directory unless that has been done, maybe by another name."""
    identity = _identity(directory)
    if identity not in taken:
        locks.callback(os.close, _lock(directory / _LOCK))
        taken.add(identity)


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
            Action("fix", label="Stop that imgpro (a service: sudo systemctl stop imgpro), or name another directory"),
        ) from error
    raise StorageFault(
        f"{path} cannot be locked: {error.strerror}.",
        Action("fix", label="Use a file system with working file locks"),
    ) from error


def _left(_: Any, __: str, failure: tuple[type[BaseException], BaseException, Any]) -> None:
    """Pass over what a process that worked for a killed server, and ends as well, removes or makes at this moment."""
    error = failure[1]
    if not (isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTEMPTY)):
        raise error


def _empty(directory: Path) -> None:
    """Remove what an earlier process was staging; nothing in there was ever acknowledged."""
    with os.scandir(directory) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, onerror=_left)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)
