"""What `imgpro doctor` says of the data directory and its disk. Looks only; nothing is made, locked or written."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imgpro.cli.options import known_data
from imgpro.cli.places import owner_of
from imgpro.cli.verdict import Check, State
from imgpro.errors import ImgproError
from imgpro.flows.upkeep import FIRST_MS
from imgpro.flows.watch_room import LOW_INODES
from imgpro.forms import show_bytes
from imgpro.sources import Loaded
from imgpro.store import census, durable, journal_ahead, layout, schema
from imgpro.store.ballast import Ballast
from imgpro.store.blobs import MIN_FREE_INODES
from imgpro.store.holder import holder
from imgpro.store.known import KnownData

_SERVICE_FOLDERS: Final = (Path("/var/lib/imgpro"), Path("/var/cache/imgpro"))
_AHEAD_S: Final = 120


def data_checks(loaded: Loaded, data: Path) -> list[Check]:
    """Return a line for everything that can be said of the data directory."""
    home = Path(loaded.settings.storage.database_dir or data).expanduser()
    checks = [_data(loaded, data, home)]
    if not data.is_dir():
        return [*checks, _clock(None)]
    database = home / layout.DATABASE_NAME
    try:
        checks += [_file_systems(data, home), *_inodes(data, home), *_owner(data), _lock(data)]
        if database.exists():
            checks += [_ballast(database.parent), _schema(database), *_journal(data, database)]
        return [*checks, _clock(database)]
    except PermissionError as error:
        return [*checks, Check("owner", "yellow", f"{error.filename or data} cannot be looked into by this user")]


def _data(loaded: Loaded, data: Path, home: Path) -> Check:
    place = data
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        room = os.statvfs(place)
        durable.check_database_directory(home if home.exists() else place)
        layout.look_over(data, home if home != data else None, _known(data))
        if not os.access(place, os.W_OK):
            return Check("data", "red", f"{place} cannot be written to")
    except ImgproError as problem:
        return Check("data", "red", f"{problem.message} Try: {problem.action.label}")
    except OSError as error:
        return Check("data", "red", f"{place}: {error.strerror}")
    free = room.f_bavail * room.f_frsize
    storage = loaded.settings.storage
    words = f"{data}{'' if place == data else ' (not made yet)'}: {show_bytes(free)} free"
    if free < storage.reserve_bytes:
        return Check("data", "red", f"{words}; uploads are refused below {show_bytes(storage.reserve_bytes)}")
    low = free < storage.low_bytes
    return Check("data", "yellow" if low else "green", words + ("; getting low" if low else ""))


def _known(data: Path) -> KnownData | None:
    """Return what this machine remembers of the directory: this user's memory, else the service's."""
    own = known_data(data)
    others = [KnownData(folder, data) for folder in _SERVICE_FOLDERS if not data.is_relative_to(folder)]
    remembered = [each for each in [own, *others] if each is not None and each.instance_id() is not None]
    return remembered[0] if remembered else own


def _file_systems(data: Path, home: Path) -> Check:
    names = {**durable.LOCAL_FILESYSTEMS, **durable.OTHER_FILESYSTEMS}

    def name(path: Path) -> str:
        kind = durable.filesystem_type(path) or 0
        return names.get(kind, f"type 0x{kind:x}")

    words = f"pictures on {name(data)}"
    if home != data and home.is_dir():
        words += f", database on {name(home)}"
    return Check("disk type", "green", words)


def _inodes(data: Path, home: Path) -> Iterator[Check]:
    for place in (data, home) if home != data and home.is_dir() else (data,):
        found = os.statvfs(place)
        if not found.f_files:
            yield Check("inodes", "green", "not counted by this file system")
        elif found.f_favail < LOW_INODES:
            state: State = "red" if found.f_favail < MIN_FREE_INODES else "yellow"
            yield Check("inodes", state, f"room for {found.f_favail:,} more files in {place}")
        else:
            yield Check("inodes", "green", f"room for {found.f_favail:,} more files")


def _owner(data: Path) -> Iterator[Check]:
    found = data.stat()
    mode = stat.S_IMODE(found.st_mode)
    words = f"{owner_of(found.st_uid, found.st_gid)}, {mode:04o}"
    foreign = [name for name in os.listdir(data) if name != "lost+found" and _uid(data / name) != found.st_uid]
    if mode & stat.S_IWOTH:
        yield Check("owner", "red", f"{words}: every user of this machine may change it")
    elif foreign:
        yield Check("owner", "red", f"{words}, but {', '.join(sorted(foreign)[:4])} belongs to somebody else")
    elif os.geteuid() not in (0, found.st_uid):
        yield Check("owner", "yellow", f"{words}: this is another user's")
    else:
        yield Check("owner", "yellow" if mode & stat.S_IROTH else "green", words)


def _uid(path: Path) -> int:
    return path.lstat().st_uid


def _lock(data: Path) -> Check:
    found = holder(data)
    if found is None:
        return Check("lock", "green", "no server works on it")
    return Check("lock", "green", f"process {found.pid or 'unknown'} works on it")


def _ballast(folder: Path) -> Check:
    if Ballast(folder / ".ballast").held():
        return Check("ballast", "green", "there, to be given up when the disk is full")
    return Check("ballast", "yellow", "not there: the disk is full, or was; it comes back when there is room")


def _schema(database: Path) -> Check:
    supported = schema.packaged_migrations()[-1].version
    try:
        found = census.schema_of(database)
    except PermissionError:
        raise
    except OSError as error:
        return Check("database", "red", f"{database} cannot be read: {error}. `imgpro rebuild` makes it anew")
    if found > supported:
        return Check("database", "red", f"schema {found} is newer than this program, which knows up to {supported}")
    if found < supported:
        words = f"schema {found}; the next start brings it to {supported}: `imgpro upgrade-check` tries that"
        return Check("database", "yellow", words)
    return Check("database", "green", f"schema {found}")


def _journal(data: Path, database: Path) -> Iterator[Check]:
    folder = data / "journal"
    try:
        last = journal_ahead.ahead(database, folder, layout.read_marker(data).instance_id)
        asides = journal_ahead.asides(folder)
    except (ImgproError, OSError):
        return  # another line says why
    if last is not None:
        words = f"the database lacks what it knows up to {journal_ahead.show_commit(last)}: an older one was put back"
        yield Check("journal", "red", f"{words}. Try: imgpro rebuild")
    elif asides:
        words = f"{asides[-1]} has what an older database that was put back did not have"
        yield Check("journal", "yellow", f"{words}; imgpro rebuild --journal {asides[-1]} goes back to it")


def _clock(database: Path | None) -> Check:
    now = time.time()
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now * 1000 < FIRST_MS:
        return Check("clock", "red", f"{said}: this program is younger than that")
    if database is not None and database.exists():
        wal = Path(f"{database}-wal")
        newest = max(path.stat().st_mtime for path in (database, wal) if path.exists())
        if newest > now + _AHEAD_S:
            return Check("clock", "yellow", f"{said}: {int(newest - now):,} s before the last change of the data")
    return Check("clock", "green", said)
